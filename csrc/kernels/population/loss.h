// The last step: one number a sample, added up in the order of the samples; or the outputs themselves.
#ifndef OPTPRUNE_KERNELS_POPULATION_LOSS_H
#define OPTPRUNE_KERNELS_POPULATION_LOSS_H

#include "common/simd/turn.h"
#include "kernels/population/tile.h"

namespace optprune::population {
namespace {

// The logits of N registers of samples side by side: their chains of operations overlap.
template <int N>
struct Classes {
    const float *logits;
    std::int64_t step, count;

    Vec get(std::int64_t c, int n) const { return Vec::load(logits + c * step + n * L); }

    // log of the sum of e^logit
    void log_sum(Vec (&out)[N]) const {
        Vec top[N], sum[N];
        for (int n = 0; n < N; ++n) top[n] = get(0, n), sum[n] = Vec::zero();
        for (std::int64_t c = 1; c < count; ++c) {
            for (int n = 0; n < N; ++n) top[n] = Vec::max(top[n], get(c, n));
        }
        for (std::int64_t c = 0; c < count; ++c) {
            Vec e[N];
            for (int n = 0; n < N; ++n) e[n] = Vec::sub(get(c, n), top[n]);
            add_exponentials(sum, e);
        }
        for (int n = 0; n < N; ++n) out[n] = Vec::add(top[n], logarithm(sum[n]));
    }
};

// The class of each sample; they stand `step` apart.
struct Targets {
    const std::int64_t *first;
    std::int64_t step, samples;

    std::int64_t get(std::int64_t i) const { return first[i * step]; }
};

// The logit of each sample's class.
inline void pick(const float *logits, std::int64_t step, const Targets &targets, float *picked) {
    for (std::int64_t i = 0; i < targets.samples; ++i) picked[i] = logits[targets.get(i) * step + i];
    for (std::int64_t i = targets.samples; i < L; ++i) picked[i] = 0.0f;
}

// 1 where the first of the largest logits is not the target's. Not a number counts as infinite, so that it is found.
inline Vec wrong(const float *logits, std::int64_t step, std::int64_t count, const Targets &targets) {
    const Vec infinity = Vec::spread(__builtin_inff());
    Vec top = Vec::load(logits), best = Vec::zero();
    top = Vec::if_less(top, infinity, top, infinity);
    for (std::int64_t c = 1; c < count; ++c) {
        Vec value = Vec::load(logits + c * step);
        value = Vec::if_less(value, infinity, value, infinity);
        best = Vec::if_less(top, value, Vec::spread(static_cast<float>(c)), best);
        top = Vec::max(value, top);
    }
    float out[L];
    best.store(out);
    for (std::int64_t i = 0; i < L; ++i) {
        out[i] = i < targets.samples && out[i] == static_cast<float>(targets.get(i)) ? 0.0f : 1.0f;
    }
    return Vec::load(out);
}

template <int N>
void from_targets(Loss loss, const Classes<N> &classes, const Targets &targets, Vec (&total)[N]) {
    const auto own = [&](int n) {
        const std::int64_t left = targets.samples - n * L;
        return Targets{targets.first + n * L * targets.step, targets.step, left < L ? left : L};
    };
    if (loss == Loss::error) {
        for (int n = 0; n < N; ++n) {
            total[n] = Vec::add(total[n], wrong(classes.logits + n * L, classes.step, classes.count, own(n)));
        }
        return;
    }
    // Written number by number and read as a register: the longer in between, the better.
    float picked[N * L];
    for (int n = 0; n < N; ++n) pick(classes.logits + n * L, classes.step, own(n), picked + n * L);
    Vec all[N];
    classes.log_sum(all);
    for (int n = 0; n < N; ++n) total[n] = Vec::add(total[n], Vec::sub(all[n], Vec::load(picked + n * L)));
}

// Kullback-Leibler divergence from wanted log-probabilities, or squared differences
template <int N>
void from_dense(Loss loss, const Classes<N> &classes, const Classes<N> &wanted, Vec (&total)[N]) {
    Vec all[N], sum[N];
    if (loss == Loss::kl) classes.log_sum(all);
    for (int n = 0; n < N; ++n) sum[n] = Vec::zero();
    for (std::int64_t c = 0; c < classes.count; ++c) {
        for (int n = 0; n < N; ++n) {
            const Vec p = wanted.get(c, n), q = classes.get(c, n), d = Vec::sub(q, p);
            sum[n] = loss == Loss::kl ? Vec::fma(exponential(p), Vec::sub(p, Vec::sub(q, all[n])), sum[n])
                                      : Vec::fma(d, d, sum[n]);
        }
    }
    for (int n = 0; n < N; ++n) total[n] = Vec::add(total[n], sum[n]);
}

// Registers of samples become rows of numbers, L by L.
inline void write_outputs(const Tile &tile, const Step &step, const float *logits, std::int64_t column,
                          std::int64_t first, std::int64_t samples) {
    const std::int64_t C = step.a.shape[0], positions = step.a.shape[1], *stride = step.a.stride;
    const bool one_run = positions == 1 || stride[0] == positions * stride[1];
    const std::int64_t runs = one_run ? 1 : C, length = one_run ? C * positions : positions;
    const std::int64_t apart = (positions == 1 ? stride[0] : stride[1]) * L;
    float *out = tile.call.outputs + (tile.candidate * tile.call.B + first) * C * positions;
    for (std::int64_t run = 0; run < runs; ++run) {
        const float *from = logits + (run * stride[0] + column * stride[2]) * L;
        for (std::int64_t k = 0; k < length; k += L) {
            const std::int64_t n = length - k < L ? length - k : L;
            turn(from + k * apart, apart, n, samples, out + run * length + k, C * positions, n);
        }
    }
}

// The mean over positions of N registers of samples, from register r on.
template <int N>
void losses(const Tile &tile, const Step &step, const float *logits, std::int64_t r, std::int64_t samples,
            float *values) {
    const Call &call = tile.call;
    const std::int64_t C = step.a.shape[0], positions = step.a.shape[1], first = tile.first_sample + r * L;
    const float *dense = call.loss >= Loss::kl ? at(tile, step.b) : nullptr;
    Vec total[N];
    for (int n = 0; n < N; ++n) total[n] = Vec::zero();
    for (std::int64_t q = 0; q < positions; ++q) {
        const Classes<N> classes{logits + (q * step.a.stride[1] + r) * L, step.a.stride[0] * L, C};
        if (dense != nullptr) {
            from_dense(call.loss, classes, {dense + (q * step.b.stride[1] + r) * L, step.b.stride[0] * L, C}, total);
        } else {
            from_targets(call.loss, classes, {call.targets + first * positions + q, positions, samples}, total);
        }
    }
    const std::int64_t terms = call.loss == Loss::mse ? positions * C : positions;
    if (terms > 1) {
        for (int n = 0; n < N; ++n) total[n] = Vec::div(total[n], Vec::spread(static_cast<float>(terms)));
    }
    for (int n = 0; n < N; ++n) total[n].store(values + n * L);
}

// The sum of a group, pair by pair: a tree has the same shape for every instruction set, and its additions overlap.
inline double sum_of(const float *values) {
    double sums[sum_group];
    for (std::int64_t i = 0; i < sum_group; ++i) sums[i] = static_cast<double>(values[i]);
    for (std::int64_t half = sum_group / 2; half > 0; half /= 2) {
        for (std::int64_t i = 0; i < half; ++i) sums[i] += sums[i + half];
    }
    return sums[0];
}

// logits: [C, positions, width] laid out as step.a
inline void loss(const Tile &tile, const Step &step, const float *logits) {
    const Call &call = tile.call;
    const std::int64_t width = step.a.shape[2], left = call.B - tile.first_sample;
    if (call.loss == Loss::outputs) {
        for (std::int64_t r = 0; r < width && r * L < left; ++r) {
            write_outputs(tile, step, logits, r, tile.first_sample + r * L, left - r * L < L ? left - r * L : L);
        }
        return;
    }
    float values[8 * L + sum_group];
    std::int64_t r = 0;
    for (; r + 2 <= width && (r + 1) * L < left; r += 2) losses<2>(tile, step, logits, r, left - r * L, values + r * L);
    for (; r < width && r * L < left; ++r) losses<1>(tile, step, logits, r, left - r * L, values + r * L);
    // Absent samples add nothing.
    const std::int64_t samples = left < r * L ? left : r * L, end = (samples + sum_group - 1) / sum_group * sum_group;
    for (std::int64_t i = samples; i < end; ++i) values[i] = 0;
    double *sums = call.sums + tile.candidate * ((call.B + sum_group - 1) / sum_group) + tile.first_sample / sum_group;
    for (std::int64_t i = 0; i < samples; i += sum_group) sums[i / sum_group] = sum_of(values + i);
}

}  // namespace
}  // namespace optprune::population

#endif
