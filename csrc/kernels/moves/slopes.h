// The end of a chain, linear, ReLU, linear, by its slopes: as long as no unit in between crosses zero, an output moves by
// slope · difference of each input, whatever the move, so the slopes of an input serve all moves of a tile. A unit whose
// sums cross zero adds what this misses, which is the size of its new sum.
//
//   difference ─▶ slope · difference ──────────────────────▶ logits
//              └▶ w · difference: does the unit cross zero? ──┘
//
// A zero has the side of its sign bit: both sides give the same, as long as all agree.
#ifndef OPTPRUNE_KERNELS_MOVES_SLOPES_H
#define OPTPRUNE_KERNELS_MOVES_SLOPES_H

#include <string.h>

#include "kernels/moves/moves.h"
#include "kernels/population/tile.h"

namespace optprune::moves {
namespace {

using namespace population;

template <int R>
struct Slopes {
    static constexpr std::int64_t step = R * L;
    static constexpr int block = R < 4 ? R : 4;

    const Call &call;
    const Work &work;
    std::int64_t tile;
    const float *x, *sums;      // of the first of the two layers, before ReLU
    const float *differences;  // of its inputs
    const float *outputs;      // of the second
    float *values;             // room for what a move makes of the first one's outputs
    std::int64_t units, classes;

    const float *slope(std::int64_t input) const { return work.slopes + input * classes * step; }

    // slopes of all classes by one input: over the units above zero, the products of the parent's weights
    void find(std::int64_t input) const {
        if (work.sloped[input] == tile + 1) return;
        work.sloped[input] = tile + 1;
        const Layer &layer = call.parent.program.layers[call.parent.program.layer_count - 2];
        const std::uint64_t *words = layer.first_word < 0 ? nullptr : call.parent.words + layer.first_word;
        std::int64_t count = 0;
        for (std::int64_t u = 0; u < units; ++u) {
            if (words != nullptr && !(words[u * layer.words() + input / word_bits] >> (input % word_bits) & 1)) continue;
            const Vec weight = Vec::spread(layer.weight[u * layer.columns + input]);
            for (int j = 0; j < R; ++j) {
                Vec::if_negative(Vec::load(sums + u * step + j * L), Vec::zero(), weight)
                    .store(values + count * step + j * L);
            }
            work.bends[count++] = static_cast<std::int32_t>(u);
        }
        float *to = work.slopes + input * classes * step;
        for (std::int64_t c = 0; c < classes; ++c, to += step) {
            Vec slopes[R];
            for (int j = 0; j < R; ++j) slopes[j] = Vec::zero();
            for (std::int64_t i = 0; i < count; ++i) {
                const Vec weight = Vec::spread(call.last_weights[work.bends[i] * classes + c]);
                for (int j = 0; j < R; ++j) {
                    slopes[j] = Vec::fma(weight, Vec::load(values + i * step + j * L), slopes[j]);
                }
            }
            for (int j = 0; j < R; ++j) slopes[j].store(to + j * L);
        }
    }

    // The logits, had no unit crossed zero.
    void add_slopes(const Kept *inputs, std::int64_t count) const {
        const float *from = outputs;
        for (std::int64_t k = 0; k < count; from = work.logits) {
            const int n = count - k < 2 ? 1 : 2;
            const float *slope_of[2], *difference[2];
            for (int i = 0; i < n; ++i, ++k) {
                find(inputs[k].offset);
                slope_of[i] = slope(inputs[k].offset), difference[i] = differences + inputs[k].offset * step;
            }
            if (n == 1) {
                add_some<1>(from, slope_of, difference);
            } else {
                add_some<2>(from, slope_of, difference);
            }
        }
    }

    template <int N>
    void add_some(const float *from, const float *const *slope_of, const float *const *difference) const {
        int j = 0;
        for (; j + block <= R; j += block) add_block<N, block>(from + j * L, slope_of, difference, j);
        for (; j < R; ++j) add_block<N, 1>(from + j * L, slope_of, difference, j);
    }

    template <int N, int J>
    void add_block(const float *from, const float *const *slope_of, const float *const *differences, int j) const {
        Vec difference[N][J];
        const float *slope[N];
        for (int n = 0; n < N; ++n) {
            slope[n] = slope_of[n] + j * L;
            for (int i = 0; i < J; ++i) difference[n][i] = Vec::load(differences[n] + (j + i) * L);
        }
        float *to = work.logits + j * L;
        for (std::int64_t at = 0; at != classes * step; at += step) {
            for (int i = 0; i < J; ++i) {
                Vec sum = Vec::load(from + at + i * L);
                for (int n = 0; n < N; ++n) {
                    sum = Vec::fma(Vec::load(slope[n] + at + i * L), difference[n][i], sum);
                }
                sum.store(to + at + i * L);
            }
        }
    }

    Vec add_terms(Vec sum, const Kept *term, std::int64_t count, const float *from, int j) const {
        for (const Kept *end = term + count; term != end; ++term) {
            sum = Vec::fma(Vec::spread(term->weight), Vec::load(from + term->offset + j * L), sum);
        }
        return sum;
    }

    void correct(std::int64_t unit, int j, Vec missed) const {
        const float *weight = call.last_weights + unit * classes, *const end = weight + classes;
        for (float *to = work.logits + j * L; weight != end; ++weight, to += step) {
            Vec::fma(Vec::spread(*weight), missed, Vec::load(to)).store(to);
        }
    }

    // A unit with flips of its own, or in the last layer: its new value is kept for the latter.
    void run_certain(const RowChange &change, const Kept *terms, std::int64_t inputs) const {
        for (int j = 0; j < R; ++j) {
            const Vec parent = Vec::load(sums + change.row * step + j * L);
            const Vec expected = add_terms(parent, terms, inputs, work.saved, j);
            Vec sum = add_terms(expected, terms + inputs, change.differences - inputs, work.saved, j);
            sum = add_terms(sum, terms + change.differences, change.inputs, x, j);
            const Vec value = Vec::if_negative(sum, Vec::zero(), sum);
            value.store(values + change.row * step + j * L);
            correct(change.row, j, Vec::sub(value, Vec::if_negative(parent, Vec::zero(), expected)));
        }
    }

    // Which rows cross zero in which register: listed without a branch, as nothing foretells them.
    template <int N, int J>
    std::int32_t *list_bends(const RowChange *rows, std::int64_t count, const Kept *terms, std::int64_t inputs, int j,
                             std::int32_t *bend) const {
        Vec difference[N == 0 ? 1 : N][J];
        for (int n = 0; n < N; ++n) {
            for (int i = 0; i < J; ++i) difference[n][i] = Vec::load(work.saved + terms[n].offset + (j + i) * L);
        }
        for (std::int64_t r = 0; r < count; ++r, terms += inputs) {
            const float *from = sums + rows[r].row * step + j * L;
            for (int i = 0; i < J; ++i) {
                const Vec parent = Vec::load(from + i * L);
                Vec sum = parent;
                for (int n = 0; n < N; ++n) sum = Vec::fma(Vec::spread(terms[n].weight), difference[n][i], sum);
                if (N == 0) sum = add_terms(sum, terms, inputs, work.saved, j + i);
                *bend = static_cast<std::int32_t>(r * R + j + i);
                bend += Vec::signs_differ(sum, parent);
            }
        }
        return bend;
    }

    template <int N>
    void run_bending(const RowChange *rows, std::int64_t count, const Kept *terms, std::int64_t inputs) const {
        if (count == 0) return;
        std::int32_t *end = work.bends;
        int j = 0;
        for (; j + block <= R; j += block) end = list_bends<N, block>(rows, count, terms, inputs, j, end);
        for (; j < R; ++j) end = list_bends<N, 1>(rows, count, terms, inputs, j, end);
        for (const std::int32_t *bend = work.bends; bend != end; ++bend) {
            const int at = static_cast<int>(static_cast<std::uint32_t>(*bend) % R);
            const std::int64_t r = static_cast<std::uint32_t>(*bend) / R;
            const Vec parent = Vec::load(sums + rows[r].row * step + at * L);
            const Vec sum = add_terms(parent, terms + r * inputs, N == 0 ? inputs : N, work.saved, at);
            const Vec up = Vec::if_negative(parent, sum, Vec::zero()), down = Vec::sub(Vec::zero(), sum);
            correct(rows[r].row, at, Vec::if_negative(sum, Vec::if_negative(parent, Vec::zero(), down), up));
        }
    }

    void run(const Move &move, const Move &next, const Kept *terms) const {
        const RowChange *certain = call.rows + move.certain, *bending = call.rows + move.bending;
        const RowChange *last = call.rows + move.last, *end = call.rows + next.rows;
        const Kept *inputs = terms;
        terms += move.inputs;
        add_slopes(inputs, move.inputs);
        for (; certain != bending; ++certain) {
            run_certain(*certain, terms, move.inputs);
            terms += certain->differences + certain->inputs;
        }
        const std::int64_t count = last - bending;
        switch (move.inputs) {
            case 1: run_bending<1>(bending, count, terms, 1); break;
            case 2: run_bending<2>(bending, count, terms, 2); break;
            default: run_bending<0>(bending, count, terms, move.inputs);
        }
        terms += count * move.inputs;
        for (; last != end; ++last, ++terms) {
            float *to = work.logits + last->row * step;
            for (int j = 0; j < R; ++j) add_terms(Vec::load(to + j * L), terms, 1, values, j).store(to + j * L);
        }
    }
};

}  // namespace
}  // namespace optprune::moves

#endif
