// Moves of a plain chain of linear layers: what spreads is the difference that a flip makes, so a changed unit costs its
// kept weights in the next layer and no more, and the parent's tile is never written.
//
//   flip ─▶ ± w x ─▶ difference of the unit ─▶ w · difference, for every row that reads it ─▶ … ─▶ loss
//
// Every difference starts from the parent's own pass over this tile, so nothing drifts from move to move.
#ifndef OPTPRUNE_KERNELS_MOVES_CHAIN_H
#define OPTPRUNE_KERNELS_MOVES_CHAIN_H

#include <string.h>

#include "kernels/moves/moves.h"
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

// One linear layer in the memory of this tile; entries lie R registers apart.
struct ChainLayer {
    const float *x, *sums, *out;  // inputs, sums before and after the activation
    const Step *activation;       // nullptr: none
    std::int64_t rows;
    bool is_floor;                // the activation is none or ReLU: the larger of `floor` and the sum
    float floor;

    Vec activated(Vec v) const {
        return activation == nullptr ? v : activate(v, activation->activation, activation->parameters);
    }
};

template <int R>
struct Chain {
    static constexpr std::int64_t step = R * L;
    static constexpr int most_layers = 16;

    const Call &call;
    const Work &work;
    Tile tile;
    ChainLayer layers[most_layers];

    void find_layers() {
        const Program &program = call.parent.program;
        for (std::int64_t i = 0; program.steps[i].op != Op::loss; ++i) {
            const Step &linear = program.steps[i];
            const float *sums = at(tile, linear.out);
            ChainLayer &own = layers[linear.layer];
            own = {at(tile, linear.a), sums, sums, nullptr, program.layers[linear.layer].rows,
                   true, -__builtin_inff()};
            if (program.steps[i + 1].op != Op::activation) continue;
            ++i;
            own.activation = &program.steps[i], own.out = at(tile, program.steps[i].out);
            own.is_floor = own.activation->activation == Activation::relu;
            own.floor = 0.0f;
        }
    }

    static void add(Vec (&sum)[R], const Kept *term, std::int64_t count, const float *from) {
        for (const Kept *end = term + count; term != end; ++term) {
            const Vec weight = Vec::spread(term->weight);
            for (int j = 0; j < R; ++j) sum[j] = Vec::fma(weight, Vec::load(from + term->offset + j * L), sum[j]);
        }
    }

    void run_row(const RowChange &change, const Kept *terms) {
        const ChainLayer &own = layers[change.layer];
        const std::int64_t place = change.row * step;
        Vec sum[R];
        for (int j = 0; j < R; ++j) sum[j] = Vec::load(own.sums + place + j * L);
        add(sum, terms, change.differences, work.saved);
        add(sum, terms + change.differences, change.inputs, own.x);
        if (own.is_floor) {
            const Vec floor = Vec::spread(own.floor);
            for (int j = 0; j < R; ++j) sum[j] = Vec::max(floor, sum[j]);
        } else {
            for (int j = 0; j < R; ++j) sum[j] = own.activated(sum[j]);
        }
        if (change.slot < 0) {
            for (int j = 0; j < R; ++j) sum[j].store(work.logits + place + j * L);
            return;
        }
        float *difference = work.saved + change.slot * step;
        for (int j = 0; j < R; ++j) Vec::sub(sum[j], Vec::load(own.out + place + j * L)).store(difference + j * L);
    }

    void run_move(std::int64_t m) {
        const Program &program = call.parent.program;
        const RowChange *change = call.rows + call.move_start[m], *end = call.rows + call.move_start[m + 1];
        const Kept *terms = call.pool + call.pool_start[m];
        tile.candidate = m;
        if (change == end || end[-1].slot >= 0) return copy_sums(call, m, tile.first_sample, step);
        const ChainLayer &last = layers[end[-1].layer];
        memcpy(work.logits, last.out, static_cast<size_t>(last.rows * step) * sizeof(float));
        for (; change != end; ++change) {
            run_row(*change, terms);
            terms += change->differences + change->inputs;
        }
        loss(tile, program.steps[program.step_count - 1], work.logits);
    }
};

template <int R = most_registers>
void run_chain(const Call &call, std::int64_t index, const Work &work, const population::Call &moved) {
    if constexpr (R > 1) {
        if (call.parent.program.width < R) return run_chain<R - 1>(call, index, work, moved);
    }
    Chain<R> chain{call, work, {moved, work.scratch, nullptr, wide_input(moved, index), 0, index * R * L, 0}, {}};
    chain.find_layers();
    for (std::int64_t m = 0; m < call.M; ++m) chain.run_move(m);
}

}  // namespace
}  // namespace optprune::moves

#endif
