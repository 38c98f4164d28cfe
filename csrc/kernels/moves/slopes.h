// The end of a chain, linear, ReLU, linear, by its slopes: as long as no unit in between crosses zero, an output moves by
// slope · difference of each input, whatever the move, so the slopes of an input serve all moves of a tile. A unit whose
// sums cross zero adds what this misses, which is the size of its new sum.
//
//   difference ─▶ slope · difference ──────────────────────▶ changes of the logits ─▶ loss (entropy.h)
//              └▶ w · difference: does the unit cross zero? ──┘
//
// Under cross-entropy two more rows go along: the change of the logit of each sample's own class, and what no change of
// the sample exceeds.
//
// A zero has the side of its sign bit: both sides give the same, as long as all agree.
#ifndef OPTPRUNE_KERNELS_MOVES_SLOPES_H
#define OPTPRUNE_KERNELS_MOVES_SLOPES_H

#include <string.h>

#include <type_traits>

#include "kernels/moves/entropy.h"
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
    bool entropy;

    // visit(registers, the first of them): block by block, and those that are left
    template <class F>
    static void each_block(F visit) {
        int j = 0;
        for (; j + block <= R; j += block) visit(std::integral_constant<int, block>{}, j);
        for (; j < R; ++j) visit(std::integral_constant<int, 1>{}, j);
    }

    std::int64_t lines() const { return classes + (entropy ? 2 : 0); }
    float *slope(std::int64_t input) const { return work.slopes + input * lines() * step; }
    const float *weights_of(std::int64_t unit) const { return call.last_weights + unit * (classes + 1); }
    const float *own_weights(std::int64_t unit) const { return work.own_weights + unit * step; }

    // Once for a tile, what the parent alone decides.
    void prepare() const {
        each_block([&](auto J, int j) {
            for (std::int64_t u = 0; u < units; ++u) {
                Vec sum[J];
                for (int i = 0; i < J; ++i) sum[i] = Vec::load(sums + u * step + (j + i) * L);
                work.signs[u * R + j] = Vec::signs(sum);
            }
        });
        if (!entropy) return;
        for (int j = 0; j < R; ++j) softmax_of({outputs + j * L, step, classes}, work.shares + j * L);
        for (std::int64_t i = 0; i < step; ++i) {
            const std::int64_t sample = tile * step + i, own = sample < call.parent.B ? call.parent.targets[sample] : 0;
            work.own_classes[i] = static_cast<float>(own);
            for (std::int64_t u = 0; u < units; ++u) work.own_weights[u * step + i] = weights_of(u)[own];
        }
    }

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
            work.bends[count++].place = u;
        }
        float *to = slope(input);
        for (std::int64_t c = 0; c < classes; ++c, to += step) {
            find_line(count, to, [&](std::int64_t unit, int) { return Vec::spread(weights_of(unit)[c]); });
        }
        if (!entropy) return;
        find_line(count, to, [&](std::int64_t unit, int j) { return Vec::load(own_weights(unit) + j * L); });
        for (int j = 0; j < R; ++j) {
            Vec most = Vec::zero();
            for (const float *from = slope(input); from != to; from += step) {
                most = Vec::max(most, absolute(Vec::load(from + j * L)));
            }
            most.store(to + step + j * L);
        }
    }

    template <class F>
    void find_line(std::int64_t count, float *to, F weight) const {
        Vec slopes[R];
        for (int j = 0; j < R; ++j) slopes[j] = Vec::zero();
        for (std::int64_t i = 0; i < count; ++i) {
            for (int j = 0; j < R; ++j) {
                slopes[j] = Vec::fma(weight(work.bends[i].place, j), Vec::load(values + i * step + j * L), slopes[j]);
            }
        }
        for (int j = 0; j < R; ++j) slopes[j].store(to + j * L);
    }

    // The changes, had no unit crossed zero.
    void add_slopes(const Kept *inputs, std::int64_t count) const {
        std::int64_t k = 0;
        if (count % 2 != 0) add_some<1, true>(inputs), k = 1;
        else add_some<2, true>(inputs), k = 2;
        for (; k < count; k += 2) add_some<2, false>(inputs + k);
    }

    template <int N, bool First>
    void add_some(const Kept *inputs) const {
        for (int n = 0; n < N; ++n) find(inputs[n].offset);
        each_block([&](auto J, int j) { add_block<N, J, First>(inputs, j); });
    }

    template <int N, int J, bool First>
    void add_block(const Kept *inputs, int j) const {
        Vec difference[N][J];
        const float *slope_of[N];
        for (int n = 0; n < N; ++n) {
            const float *from = differences + inputs[n].offset * step + j * L;
            slope_of[n] = slope(inputs[n].offset) + j * L;
            for (int i = 0; i < J; ++i) difference[n][i] = Vec::load(from + i * L);
        }
        const auto add_line = [&](float *to, std::int64_t at) {
            for (int i = 0; i < J; ++i) {
                Vec sum = First ? Vec::zero() : Vec::load(to + at + i * L);
                for (int n = 0; n < N; ++n) sum = Vec::fma(Vec::load(slope_of[n] + at + i * L), difference[n][i], sum);
                sum.store(to + at + i * L);
            }
        };
        float *to = work.logits + j * L;
        const std::int64_t end = (classes + entropy) * step;
        for (std::int64_t at = 0; at != end; at += step) add_line(to, at);
        if (!entropy) return;
        for (int n = 0; n < N; ++n) {
            for (int i = 0; i < J; ++i) difference[n][i] = absolute(difference[n][i]);
        }
        add_line(to, end);
    }

    Vec add_terms(Vec sum, const Kept *term, std::int64_t count, const float *from, int j) const {
        for (const Kept *end = term + count; term != end; ++term) {
            sum = Vec::fma(Vec::spread(term->weight), Vec::load(from + term->offset + j * L), sum);
        }
        return sum;
    }

    // What slopes missed of a unit, in J registers.
    template <int J>
    void correct(std::int64_t unit, int j, const Vec (&missed)[J]) const {
        const float *weights = weights_of(unit), *own = own_weights(unit) + j * L;
        float *to = work.logits + j * L;
        const auto add = [&](int i, Vec weight, Vec what) {
            Vec::fma(weight, what, Vec::load(to + i * L)).store(to + i * L);
        };
        for (std::int64_t c = 0; c < classes; ++c, to += step) {
            const Vec weight = Vec::spread(weights[c]);
            for (int i = 0; i < J; ++i) add(i, weight, missed[i]);
        }
        if (!entropy) return;
        for (int i = 0; i < J; ++i) add(i, Vec::load(own + i * L), missed[i]);
        to += step;
        for (int i = 0; i < J; ++i) add(i, Vec::spread(weights[classes]), absolute(missed[i]));
    }

    // A unit with flips of its own, or in the last layer: its new value is kept for the latter.
    template <int J>
    void run_certain(const RowChange &change, const Kept *terms, std::int64_t inputs, int j) const {
        Vec missed[J];
        for (int i = 0; i < J; ++i) {
            const Vec parent = Vec::load(sums + change.row * step + (j + i) * L);
            const Vec expected = add_terms(parent, terms, inputs, work.saved, j + i);
            Vec sum = add_terms(expected, terms + inputs, change.differences - inputs, work.saved, j + i);
            sum = add_terms(sum, terms + change.differences, change.inputs, x, j + i);
            const Vec value = Vec::if_negative(sum, Vec::zero(), sum);
            value.store(values + change.row * step + (j + i) * L);
            missed[i] = Vec::sub(value, Vec::if_negative(parent, Vec::zero(), expected));
        }
        correct(change.row, j, missed);
    }

    // What a flip in the last layer adds to the logit of its class.
    void add_last(std::int64_t row, const Kept &term, int j) const {
        const Vec change = Vec::mul(Vec::spread(term.weight), Vec::load(values + term.offset + j * L));
        const auto add_to = [&](std::int64_t line, Vec more) {
            float *to = work.logits + line * step + j * L;
            Vec::add(Vec::load(to), more).store(to);
        };
        add_to(row, change);
        if (!entropy) return;
        const Vec other = absolute(Vec::sub(Vec::load(work.own_classes + j * L), Vec::spread(static_cast<float>(row))));
        add_to(classes, Vec::if_less(other, Vec::spread(0.5f), change, Vec::zero()));
        add_to(classes + 1, absolute(change));
    }

    // Which rows cross zero in which registers: listed without a branch, as nothing foretells them.
    template <int N, int J>
    Bend *list_bends(const RowChange *rows, std::int64_t count, const Kept *terms, std::int64_t inputs, int j,
                     Bend *bend) const {
        Vec difference[N == 0 ? 1 : N][J];
        for (int n = 0; n < N; ++n) {
            for (int i = 0; i < J; ++i) difference[n][i] = Vec::load(work.saved + terms[n].offset + (j + i) * L);
        }
        for (std::int64_t r = 0; r < count; ++r, terms += inputs) {
            const std::int64_t row = rows[r].row;
            const float *from = sums + row * step + j * L;
            Vec sum[J];
            for (int i = 0; i < J; ++i) {
                sum[i] = Vec::load(from + i * L);
                for (int n = 0; n < N; ++n) sum[i] = Vec::fma(Vec::spread(terms[n].weight), difference[n][i], sum[i]);
                if (N == 0) sum[i] = add_terms(sum[i], terms, inputs, work.saved, j + i);
            }
            *bend = {Vec::signs(sum) ^ work.signs[row * R + j], r * R + j};
            bend += bend->samples != 0;
        }
        return bend;
    }

    template <int N>
    void run_bending(const RowChange *rows, std::int64_t count, const Kept *terms, std::int64_t inputs) const {
        Bend *end = work.bends;
        each_block([&](auto J, int j) { end = list_bends<N, J>(rows, count, terms, inputs, j, end); });
        for (const Bend *bend = work.bends; bend != end; ++bend) {
            const std::int64_t r = static_cast<std::uint64_t>(bend->place) / R;
            const int first = static_cast<int>(static_cast<std::uint64_t>(bend->place) % R);
            for (std::uint64_t samples = bend->samples; samples != 0;) {
                const int at = __builtin_ctzll(samples) / L;
                samples &= ~(((std::uint64_t{1} << L) - 1) << (at * L));
                bend_row<N>(rows[r].row, terms + r * inputs, inputs, first + at);
            }
        }
    }

    template <int N>
    void bend_row(std::int64_t row, const Kept *terms, std::int64_t inputs, int j) const {
        const Vec parent = Vec::load(sums + row * step + j * L);
        const Vec sum = add_terms(parent, terms, N == 0 ? inputs : N, work.saved, j);
        const Vec up = Vec::if_negative(parent, sum, Vec::zero()), down = Vec::sub(Vec::zero(), sum);
        const Vec missed[1] = {Vec::if_negative(sum, Vec::if_negative(parent, Vec::zero(), down), up)};
        correct(row, j, missed);
    }

    void run(const Move &move, const Move &next, const Kept *terms) const {
        const RowChange *certain = call.rows + move.certain, *bending = call.rows + move.bending;
        const RowChange *last = call.rows + move.last, *end = call.rows + next.rows;
        const Kept *inputs = terms;
        terms += move.inputs;
        add_slopes(inputs, move.inputs);
        for (; certain != bending; ++certain) {
            each_block([&](auto J, int j) { run_certain<J>(*certain, terms, move.inputs, j); });
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
            for (int j = 0; j < R; ++j) add_last(last->row, *terms, j);
        }
    }
};

}  // namespace
}  // namespace optprune::moves

#endif
