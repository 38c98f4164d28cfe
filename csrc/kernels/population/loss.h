// The last step: one number a sample, added up in the order of the samples; or the outputs themselves.
#ifndef OPTPRUNE_KERNELS_POPULATION_LOSS_H
#define OPTPRUNE_KERNELS_POPULATION_LOSS_H

#include "common/simd/turn.h"
#include "kernels/population/tile.h"

namespace optprune::population {
namespace {

struct Classes {
    const float *logits;
    std::int64_t step, count;

    Vec get(std::int64_t c) const { return Vec::load(logits + c * step); }

    // log of the sum of e^logit
    Vec log_sum() const {
        Vec top = get(0), sum = Vec::zero();
        for (std::int64_t c = 1; c < count; ++c) top = Vec::max(top, get(c));
        for (std::int64_t c = 0; c < count; ++c) sum = Vec::add(sum, exponential(Vec::sub(get(c), top)));
        return Vec::add(top, logarithm(sum));
    }
};

// The class of each sample; they stand `step` apart.
struct Targets {
    const std::int64_t *first;
    std::int64_t step, samples;

    std::int64_t get(std::int64_t i) const { return first[i * step]; }
};

inline Vec of_target(const Classes &classes, const Targets &targets) {
    float picked[L] = {};
    for (std::int64_t i = 0; i < targets.samples; ++i) picked[i] = classes.logits[targets.get(i) * classes.step + i];
    return Vec::load(picked);
}

// 1 where the first of the largest logits is not the target's
inline Vec wrong(const Classes &classes, const Targets &targets) {
    float out[L] = {};
    for (std::int64_t i = 0; i < targets.samples; ++i) {
        std::int64_t best = 0;
        for (std::int64_t c = 1; c < classes.count; ++c) {
            const float value = classes.logits[c * classes.step + i], top = classes.logits[best * classes.step + i];
            if (value > top || (value != value && top == top)) best = c;
        }
        out[i] = best == targets.get(i) ? 0.0f : 1.0f;
    }
    return Vec::load(out);
}

// Kullback-Leibler divergence from wanted log-probabilities
inline Vec divergence(const Classes &classes, const Classes &wanted) {
    const Vec all = classes.log_sum();
    Vec sum = Vec::zero();
    for (std::int64_t c = 0; c < classes.count; ++c) {
        const Vec p = wanted.get(c), q = Vec::sub(classes.get(c), all);
        sum = Vec::fma(exponential(p), Vec::sub(p, q), sum);
    }
    return sum;
}

inline Vec squares(const Classes &classes, const Classes &wanted) {
    Vec sum = Vec::zero();
    for (std::int64_t c = 0; c < classes.count; ++c) {
        const Vec d = Vec::sub(classes.get(c), wanted.get(c));
        sum = Vec::fma(d, d, sum);
    }
    return sum;
}

inline Vec from_targets(Loss loss, const Classes &classes, const Targets &targets) {
    if (loss == Loss::error) return wrong(classes, targets);
    return Vec::sub(classes.log_sum(), of_target(classes, targets));
}

inline Vec from_dense(Loss loss, const Classes &classes, const Classes &wanted) {
    return loss == Loss::kl ? divergence(classes, wanted) : squares(classes, wanted);
}

inline void write_outputs(const Tile &tile, const Step &step, const float *logits, std::int64_t column,
                          std::int64_t first, std::int64_t samples) {
    const std::int64_t C = step.a.shape[0], positions = step.a.shape[1];
    float *out = tile.call.outputs + (tile.candidate * tile.call.B + first) * C * positions;
    for (std::int64_t c = 0; c < C; ++c) {
        for (std::int64_t q = 0; q < positions; ++q) {
            const float *from = logits + (c * step.a.stride[0] + q * step.a.stride[1] + column * step.a.stride[2]) * L;
            for (std::int64_t i = 0; i < samples; ++i) out[(i * C + c) * positions + q] = from[i];
        }
    }
}

// logits: [C, positions, width] laid out as step.a
inline void loss(const Tile &tile, const Step &step, const float *logits) {
    const Call &call = tile.call;
    const std::int64_t C = step.a.shape[0], positions = step.a.shape[1], width = step.a.shape[2];
    const float *wanted = call.loss >= Loss::kl ? at(tile, step.b) : nullptr;
    for (std::int64_t r = 0; r < width; ++r) {
        const std::int64_t first = tile.first_sample + r * L, left = call.B - first, samples = left < L ? left : L;
        if (samples <= 0) return;
        if (call.loss == Loss::outputs) {
            write_outputs(tile, step, logits, r, first, samples);
            continue;
        }
        Vec total = Vec::zero();
        for (std::int64_t q = 0; q < positions; ++q) {
            const Classes classes{logits + (q * step.a.stride[1] + r * step.a.stride[2]) * L, step.a.stride[0] * L, C};
            total = Vec::add(total, wanted != nullptr ? from_dense(call.loss, classes, {
                wanted + (q * step.b.stride[1] + r * step.b.stride[2]) * L, step.b.stride[0] * L, C})
                : from_targets(call.loss, classes, {call.targets + first * positions + q, positions, samples}));
        }
        const std::int64_t each = call.loss == Loss::mse ? positions * C : positions;
        float values[L];
        Vec::div(total, Vec::spread(static_cast<float>(each))).store(values);
        double *sums = call.sums + tile.candidate * ((call.B + sum_group - 1) / sum_group);
        for (std::int64_t i = 0; i < samples; ++i) sums[(first + i) / sum_group] += values[i];
    }
}

}  // namespace
}  // namespace optprune::population

#endif
