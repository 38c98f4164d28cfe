// Moves in a chain of linear layers that ends in the loss, a whole program or its last layers: what spreads is the
// difference that a flip makes, so a changed unit costs its kept weights in the next layer and no more. Where most units
// of a layer have changed, the layers behind it are computed anew from values. The parent's tile is never written.
//
//   flip ─▶ ± w x ─▶ difference of the unit ─▶ w · difference, for every row that reads it ─▶ …
//                 └▶ value of the unit ─▶ whole layers ─▶ loss
//
// All starts from the parent's own pass over this tile, so nothing drifts from move to move.
#ifndef OPTPRUNE_KERNELS_MOVES_CHAIN_H
#define OPTPRUNE_KERNELS_MOVES_CHAIN_H

#include <string.h>

#include "kernels/moves/entropy.h"
#include "kernels/moves/slopes.h"
#include "kernels/population/body.h"

namespace optprune::moves {
namespace {

using namespace population;

// A move that did not reach the loss leaves the parent's sums as they are.
inline void copy_sums(const Call &call, std::int64_t m, std::int64_t first_sample, std::int64_t tile) {
    const std::int64_t B = call.parent.B, last = first_sample + tile < B ? first_sample + tile : B;
    const std::int64_t from = first_sample / sum_group, to = (last + sum_group - 1) / sum_group;
    const std::int64_t groups = (B + sum_group - 1) / sum_group;
    memcpy(call.sums + m * groups + from, call.parent.sums + from, static_cast<size_t>(to - from) * sizeof(double));
}

// A layer of which only one row is computed, by a list of its own.
inline Rows single_row(std::int32_t *row, std::int64_t *start, const Kept *pool) {
    return {row, 1, Way::list, Way::list, start, const_cast<Kept *>(pool), nullptr, nullptr, nullptr, nullptr, nullptr,
            *row};
}

// One linear layer in the memory of this tile; entries lie R registers apart.
struct ChainLayer {
    const float *x, *sums, *out;  // inputs, sums before and after the activation
    Step step;                    // the layer and its activation in one
    std::int64_t rows;
    float *moved;                 // what moves make of its outputs: differences or values
    bool is_floor;                // the activation is none or ReLU: the larger of `floor` and the sum
    float floor;
};

template <int R>
struct Chain {
    static constexpr std::int64_t step = R * L;

    const Call &call;
    const Work &work;
    Tile tile;
    ChainLayer layers[most_chained];

    ChainLayer &at_layer(std::int64_t layer) { return layers[layer - call.chained]; }
    bool is_last(std::int64_t layer) const { return layer + 1 == call.parent.program.layer_count; }

    void find_layers() {
        const Program &program = call.parent.program;
        float *moved = work.saved;
        for (std::int64_t i = 0; program.steps[i].op != Op::loss; ++i) {
            const Step &linear = program.steps[i];
            if (linear.layer < call.chained) continue;
            const float *sums = at(tile, linear.out);
            const std::int64_t rows = program.layers[linear.layer].rows;
            ChainLayer &own = at_layer(linear.layer);
            own = {at(tile, linear.a), sums, sums, linear, rows, is_last(linear.layer) ? work.logits : moved, true,
                   -__builtin_inff()};
            moved += rows * step;
            const Step &next = program.steps[i + 1];
            if (next.op != Op::activation) continue;
            own.step.activation = next.activation;
            own.step.parameters[0] = next.parameters[0], own.step.parameters[1] = next.parameters[1];
            own.out = at(tile, next.out);
            if (next.activation == Activation::relu) own.floor = 0.0f;
            else own.is_floor = next.activation == Activation::none;
            ++i;
        }
    }

    // One register after the other: the terms are few, and nothing has to wait in registers that there are not.
    template <int Terms, class F>
    static void each_register(const float *sums, const Kept *term, const float *const (&from)[2], F write) {
        Vec weight[Terms + 1];
        for (int t = 0; t < Terms; ++t) weight[t] = Vec::spread(term[t].weight);
        for (int j = 0; j < R; ++j) {
            Vec sum = Vec::load(sums + j * L);
            for (int t = 0; t < Terms; ++t) sum = Vec::fma(weight[t], Vec::load(from[t] + j * L), sum);
            write(sum, j);
        }
    }

    static void add(Vec (&sum)[R], const Kept *term, std::int64_t count, const float *from) {
        for (const Kept *end = term + count; term != end; ++term) {
            const Vec weight = Vec::spread(term->weight);
            for (int j = 0; j < R; ++j) sum[j] = Vec::fma(weight, Vec::load(from + term->offset + j * L), sum[j]);
        }
    }

    template <class F>
    void sum_row(const RowChange &change, const Kept *terms, F write) {
        const ChainLayer &own = at_layer(change.layer);
        const float *sums = own.sums + change.row * step, *from[2] = {};
        const std::int64_t count = change.differences + change.inputs;
        for (std::int64_t t = 0; t < count && t < 2; ++t) {
            from[t] = (t < change.differences ? work.saved : own.x) + terms[t].offset;
        }
        switch (count) {
            case 0: return each_register<0>(sums, terms, from, write);
            case 1: return each_register<1>(sums, terms, from, write);
            case 2: return each_register<2>(sums, terms, from, write);
            default:
                Vec sum[R];
                for (int j = 0; j < R; ++j) sum[j] = Vec::load(sums + j * L);
                add(sum, terms, change.differences, work.saved);
                add(sum, terms + change.differences, change.inputs, own.x);
                for (int j = 0; j < R; ++j) write(sum[j], j);
        }
    }

    void run_row(const RowChange &change, const Kept *terms, bool values) {
        const ChainLayer &own = at_layer(change.layer);
        float *to = own.moved + change.row * step;
        const float *out = own.out + change.row * step;
        const Vec floor = Vec::spread(own.floor);
        if (own.is_floor && values) {
            sum_row(change, terms, [=](Vec sum, int j) { Vec::max(floor, sum).store(to + j * L); });
        } else if (own.is_floor) {
            sum_row(change, terms, [=](Vec sum, int j) {
                Vec::sub(Vec::max(floor, sum), Vec::load(out + j * L)).store(to + j * L);
            });
        } else {
            sum_row(change, terms, [&](Vec sum, int j) {
                const Vec value = activate(sum, own.step.activation, own.step.parameters);
                (values ? value : Vec::sub(value, Vec::load(out + j * L))).store(to + j * L);
            });
        }
    }

    // All rows from the values of the layer before; those of flipped weights by what they keep now.
    void run_whole(std::int64_t layer, const Flipped *flip, const Flipped *end) {
        const ChainLayer &own = at_layer(layer);
        const float *x = at_layer(layer - 1).moved;
        Rows rows = work.scratch.rows[layer];
        rows.way = rows.whole;
        linear_tile(R, own.step, call.parent.program.layers[layer], rows, x, step, own.moved);
        for (; flip != end; ++flip) {
            std::int32_t row = static_cast<std::int32_t>(flip->row);
            std::int64_t start[2] = {flip->start[0], flip->start[1]};
            linear_rows<R>(own.step, single_row(&row, start, call.pool), x, own.moved);
        }
    }

    // Differences as far as the last two layers, which answer by their slopes.
    void run_sloped(const Move &move, const Move &next) {
        const Kept *terms = call.pool + move.terms;
        for (std::int64_t row = move.rows; row < move.certain; ++row) {
            const RowChange &change = call.rows[row];
            run_row(change, terms, false);
            terms += change.differences + change.inputs;
        }
        slopes().run(move, next, terms);
    }

    Slopes<R> slopes() {
        const std::int64_t last = call.parent.program.layer_count - 1;
        const ChainLayer &bent = at_layer(last - 1), &end = at_layer(last);
        return {call, work, tile.first_sample / step, bent.x, bent.sums, at_layer(last - 2).moved, end.out, bent.moved,
                bent.rows, end.rows, has_entropy()};
    }

    bool has_entropy() const { return call.parent.loss == Loss::cross_entropy; }

    void run_move(std::int64_t m) {
        const Program &program = call.parent.program;
        const Move &move = call.moves[m], &next = call.moves[m + 1];
        const RowChange *change = call.rows + move.rows, *end = call.rows + next.rows;
        const Kept *terms = call.pool + move.terms;
        const bool any_whole = move.whole < program.layer_count;
        tile.candidate = move.number;
        if (move.inputs > 0) {
            run_sloped(move, next);
            const ChainLayer &last = at_layer(program.layer_count - 1);
            return ChangedLoss<R>{call, work, tile, last.out, last.rows}.run();
        }
        if (!any_whole) {
            if (change == end || !is_last(end[-1].layer)) return copy_sums(call, move.number, tile.first_sample, step);
            const ChainLayer &last = at_layer(program.layer_count - 1);
            memcpy(last.moved, last.out, static_cast<size_t>(last.rows * step) * sizeof(float));
        }
        for (; change != end; ++change) {
            run_row(*change, terms, change->layer + 1 == move.whole || is_last(change->layer));
            terms += change->differences + change->inputs;
        }
        const Flipped *flip = call.flipped + move.flipped, *last_flip = call.flipped + next.flipped;
        for (std::int64_t layer = move.whole; layer < program.layer_count; ++layer) {
            const Flipped *own_end = flip;
            while (own_end != last_flip && own_end->layer == layer) ++own_end;
            run_whole(layer, flip, own_end);
            flip = own_end;
        }
        loss(tile, program.steps[program.step_count - 1], work.logits);
    }
};

template <int R = most_registers>
void run_chained(const Call &call, std::int64_t index, const Work &work, const population::Call &moved) {
    if constexpr (R > 1) {
        if (call.parent.program.width < R) return run_chained<R - 1>(call, index, work, moved);
    }
    Chain<R> chain{call, work, {moved, work.scratch, nullptr, wide_input(moved, index), 0, index * R * L, 0}, {}};
    chain.find_layers();
    if (call.last_weights != nullptr) chain.slopes().prepare();
    for (std::int64_t m = 0; m < call.M; ++m) {
        if (call.moves[m].chained) chain.run_move(m);
    }
}

}  // namespace
}  // namespace optprune::moves

#endif
