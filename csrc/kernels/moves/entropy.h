// Cross-entropy after small changes of the logits, from what the parent's pass has: with its softmax p and a change d of
// each logit, a sample's loss changes by
//
//   log Σ p e^d - d of its class  =  log (1 + Σ p (e^d - 1)) - d of its class
//
// For small d that is a short polynomial a class, where logits want a maximum and whole exponentials. A group of samples
// goes this way together or not at all, so the choice is the same on every instruction set. Other losses, groups with
// larger changes and the last samples take the parent's logits and their changes together.
#ifndef OPTPRUNE_KERNELS_MOVES_ENTROPY_H
#define OPTPRUNE_KERNELS_MOVES_ENTROPY_H

#include "kernels/moves/moves.h"
#include "kernels/population/loss.h"

namespace optprune::moves {
namespace {

using namespace population;

constexpr float most_growth = 0.5f;  // of |d|: what `growth` is good for
constexpr int group_registers = sum_group / L;
constexpr int folded = group_registers / 2;  // of a group's registers: two samples share a logarithm

// (e^d - 1) / d for |d| <= most_growth
inline Vec growth(Vec d) {
    static const float q[] = {1.0f, 0.50000006f, 0.16666025f, 0.041664664f, 0.0084074819f, 0.0014017352f};
    return polynomial(d, q);
}

// softmax of a register of samples
inline void softmax_of(const Classes<1> &classes, float *shares) {
    Vec all[1];
    classes.log_sum(all);
    for (std::int64_t c = 0; c < classes.count; ++c) {
        exponential(Vec::sub(classes.get(c, 0), all[0])).store(shares + c * classes.step);
    }
}

// Whether no change of a group exceeds what `growth` is good for; one that is no number does.
inline bool are_small(const float *most) {
    Vec any[1] = {Vec::zero()};
    for (int i = 0; i < sum_group; i += L) {
        any[0] = Vec::if_less(Vec::load(most + i), Vec::spread(most_growth), any[0], Vec::spread(-1.0f));
    }
    return Vec::signs(any) == 0;
}

// The sum of a group's losses, from its n registers of logits.
inline double sum_of_losses(const Tile &tile, const Step &step, const float *logits, std::int64_t r, int n,
                            std::int64_t left) {
    float values[sum_group];
    int k = 0;
    for (; k + 2 <= n && (k + 1) * L < left; k += 2) losses<2>(tile, step, logits, r + k, left - k * L, values + k * L);
    if (k < n && k * L < left) losses<1>(tile, step, logits, r + k, left - k * L, values + k * L);
    for (std::int64_t i = left < n * L ? left : n * L; i < sum_group; ++i) values[i] = 0;  // absent samples
    return sum_of(values);
}

// What N registers multiply the sums of exponentials by.
template <int N>
void ratios(const float *shares, const float *changes, std::int64_t step, std::int64_t classes, Vec *out) {
    Vec sum[N];
    for (int n = 0; n < N; ++n) sum[n] = Vec::spread(1.0f);
    for (std::int64_t at = 0; at != classes * step; at += step) {
        for (int n = 0; n < N; ++n) {
            const Vec change = Vec::load(changes + at + n * L), share = Vec::load(shares + at + n * L);
            sum[n] = Vec::fma(Vec::mul(share, change), growth(change), sum[n]);
        }
    }
    for (int n = 0; n < N; ++n) out[n] = sum[n];
}

// The sums of the groups' changes. Rows lie `step` apart: of `changes` one a class, then those of the samples' own.
template <int Groups>
void entropy_changes(const float *shares, const float *changes, std::int64_t step, std::int64_t classes, float *sums) {
    Vec ratio[Groups * group_registers], total[Groups * folded];
    for (int n = 0; n < Groups * group_registers; n += group_registers) {
        ratios<group_registers>(shares + n * L, changes + n * L, step, classes, ratio + n);
    }
    const float *own = changes + classes * step;
    for (int g = 0; g < Groups; ++g) {
        for (int k = 0; k < folded; ++k) {
            const int first = g * group_registers + k, second = first + folded;
            const Vec both = Vec::add(Vec::load(own + first * L), Vec::load(own + second * L));
            total[g * folded + k] = Vec::sub(logarithm(Vec::mul(ratio[first], ratio[second])), both);
        }
    }
    for (int g = 0; g < Groups; ++g) {
        Vec *one = total + g * folded;
        for (int half = folded / 2; half > 0; half /= 2) {
            for (int k = 0; k < half; ++k) one[k] = Vec::add(one[k], one[k + half]);
        }
        sums[g] = Vec::sum(one[0]);
    }
}

// The loss of a move by the changes of its logits, `work.logits`.
template <int R>
struct ChangedLoss {
    static constexpr std::int64_t step = R * L;
    static constexpr int groups = R / group_registers;  // whole ones

    const Call &call;
    const Work &work;
    const Tile &tile;
    const float *outputs;  // of the parent
    std::int64_t classes;

    const Step &last() const { return call.parent.program.steps[call.parent.program.step_count - 1]; }

    void add_outputs(int from, int to) const {
        for (std::int64_t c = 0; c < classes; ++c) {
            for (std::int64_t j = from; j < to; ++j) {
                float *logit = work.logits + c * step + j * L;
                Vec::add(Vec::load(outputs + c * step + j * L), Vec::load(logit)).store(logit);
            }
        }
    }

    void run() const {
        if (call.parent.loss != Loss::cross_entropy) {
            add_outputs(0, R);
            return loss(tile, last(), work.logits);
        }
        float changes[groups + 1] = {};
        if constexpr (groups > 0) entropy_changes<groups>(work.shares, work.logits, step, classes, changes);
        const std::int64_t B = call.parent.B, first = tile.first_sample / sum_group;
        double *sums = call.sums + tile.candidate * ((B + sum_group - 1) / sum_group) + first;
        for (int r = 0, g = 0; r < R && tile.first_sample + r * L < B; r += group_registers, ++g) {
            const std::int64_t left = B - tile.first_sample - r * L;
            if (left >= sum_group && are_small(work.logits + (classes + 1) * step + r * L)) {
                sums[g] = call.parent.sums[first + g] + static_cast<double>(changes[g]);
            } else {
                const int n = R - r < group_registers ? R - r : group_registers;
                add_outputs(r, r + n);
                sums[g] = sum_of_losses(tile, last(), work.logits, r, n, left);
            }
        }
    }
};

}  // namespace
}  // namespace optprune::moves

#endif
