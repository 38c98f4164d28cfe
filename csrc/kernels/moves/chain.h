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

// One linear layer of the chain in the memory of this tile.
struct ChainLayer {
    const Layer *layer;
    const Step *activation;      // nullptr after the last layer
    const float *x, *sums, *out;  // inputs, sums before and after the activation; entries `step` floats apart
};

template <int R>
struct Chain {
    static constexpr std::int64_t step = R * L;

    const Call &call;
    const Work &work;
    Tile tile;
    std::uint64_t *changed, *next;  // units of the layer's input, and of its output
    float *differences, *next_differences;

    ChainLayer layer_at(std::int64_t &index) const {
        const Program &program = call.parent.program;
        const Step &linear = program.steps[index];
        ChainLayer out{&program.layers[linear.layer], nullptr, at(tile, linear.a), at(tile, linear.out),
                       at(tile, linear.out)};
        ++index;
        if (program.steps[index].op == Op::activation) {
            out.activation = &program.steps[index];
            out.out = at(tile, program.steps[index].out);
            ++index;
        }
        return out;
    }

    // The sums of a row after the move.
    void moved_row(const ChainLayer &own, std::int64_t row, const Flipped *flip, bool any, Vec (&sum)[R]) const {
        const Layer &layer = *own.layer;
        for (int j = 0; j < R; ++j) sum[j] = Vec::load(own.sums + row * step + j * L);
        const float *weight = layer.weight + row * layer.columns;
        if (any) {
            const std::uint64_t *bits = call.parent.words + layer.first_word + row * layer.words();
            for (std::int64_t w = 0; w < layer.words(); ++w) {
                std::uint64_t word = changed[w] & (layer.first_word < 0 ? ~std::uint64_t{0} : bits[w]);
                for (; word != 0; word &= word - 1) {
                    const std::int64_t unit = w * 64 + __builtin_ctzll(word);
                    add(sum, Vec::spread(weight[unit]), differences + unit * step);
                }
            }
        }
        if (flip == nullptr) return;
        for (const Change *c = call.changes + flip->change[0]; c != call.changes + flip->change[1]; ++c) {
            const Vec w = Vec::spread(c->added ? weight[c->column] : -weight[c->column]);
            add(sum, w, own.x + c->column * step);
            const bool moved = any && ((changed[c->column / 64] >> (c->column % 64)) & 1);
            if (moved) add(sum, w, differences + c->column * step);
        }
    }

    static void add(Vec (&sum)[R], Vec weight, const float *x) {
        for (int j = 0; j < R; ++j) sum[j] = Vec::fma(weight, Vec::load(x + j * L), sum[j]);
    }

    static Vec activated(const ChainLayer &own, Vec v) {
        return own.activation == nullptr ? v : activate(v, own.activation->activation, own.activation->parameters);
    }

    // Store by how much a unit differs; returns whether it does.
    bool differs(const ChainLayer &own, std::int64_t row, const Vec (&sum)[R]) const {
        Vec most = Vec::zero();
        for (int j = 0; j < R; ++j) {
            const Vec difference = Vec::sub(activated(own, sum[j]), Vec::load(own.out + row * step + j * L));
            difference.store(next_differences + row * step + j * L);
            most = Vec::max(most, absolute(difference));
        }
        return any_positive(most);
    }

    static bool any_positive(Vec v) {
        float lanes[L];
        v.store(lanes);
        float sum = 0;
        for (std::int64_t i = 0; i < L; ++i) sum += lanes[i];
        return !(sum == 0.0f);  // not a number is a change
    }

    // Rows that a change reaches, as bits.
    void reach(const Spread &spread, std::int64_t units, std::int64_t rows, const Flipped *flip, const Flipped *end) {
        const std::int64_t words = (rows + 63) / 64;
        memset(next, 0, static_cast<size_t>(words) * sizeof *next);
        for (std::int64_t w = 0; spread.link_count > 0 && w < (units + 63) / 64; ++w) {
            for (std::uint64_t word = changed[w]; word != 0; word &= word - 1) {
                const std::uint64_t *readers = spread.readers + (w * 64 + __builtin_ctzll(word)) * words;
                for (std::int64_t v = 0; v < words; ++v) next[v] |= readers[v];
            }
        }
        for (const Flipped *f = flip; f != end; ++f) next[f->row / 64] |= std::uint64_t{1} << (f->row % 64);
    }

    void run_move(std::int64_t m) {
        const Program &program = call.parent.program;
        const Flipped *flip = call.flipped + call.move_start[m], *end = call.flipped + call.move_start[m + 1];
        changed = work.changed, next = changed + work.first[program.step_count];
        differences = work.saved, next_differences = work.other;
        bool any = false;
        std::int64_t units = 0;
        for (std::int64_t index = 0; program.steps[index].op != Op::loss;) {
            const Spread &spread = call.spreads[index];
            const std::int64_t l = program.steps[index].layer;
            const ChainLayer own = layer_at(index);
            const bool last = program.steps[index].op == Op::loss;
            const Flipped *own_end = flip;
            while (own_end != end && own_end->layer == l) ++own_end;
            if (last) memcpy(work.logits, own.out, static_cast<size_t>(own.layer->rows * step) * sizeof(float));
            reach(any ? spread : Spread{0, nullptr, 0, nullptr}, units, own.layer->rows, flip, own_end);
            bool any_next = false;
            for (std::int64_t w = 0; w < (own.layer->rows + 63) / 64; ++w) {
                for (std::uint64_t word = next[w]; word != 0; word &= word - 1) {
                    const std::int64_t row = w * 64 + __builtin_ctzll(word);
                    const bool flipped = flip != own_end && flip->row == row;
                    Vec sum[R];
                    moved_row(own, row, flipped ? flip : nullptr, any, sum);
                    flip += flipped;
                    if (last) {
                        for (int j = 0; j < R; ++j) activated(own, sum[j]).store(work.logits + row * step + j * L);
                        any_next = true;
                    } else if (differs(own, row, sum)) {
                        any_next = true;
                    } else {
                        next[w] &= ~(std::uint64_t{1} << (row % 64));
                    }
                }
            }
            any = any_next, units = own.layer->rows;
            std::uint64_t *bits = changed;
            changed = next, next = bits;
            float *floats = differences;
            differences = next_differences, next_differences = floats;
        }
        tile.candidate = m;
        if (any) {
            loss(tile, program.steps[program.step_count - 1], work.logits);
        } else {
            copy_sums(call, m, tile.first_sample, R * L);
        }
    }
};

template <int R = most_registers>
void run_chain(const Call &call, std::int64_t index, const Work &work, const population::Call &moved) {
    if constexpr (R > 1) {
        if (call.parent.program.width < R) return run_chain<R - 1>(call, index, work, moved);
    }
    const std::int64_t first = index * R * L;
    Chain<R> chain{call, work, {moved, work.scratch, nullptr, wide_input(moved, index), 0, first, 0},
                   nullptr, nullptr, nullptr, nullptr};
    for (std::int64_t m = 0; m < call.M; ++m) chain.run_move(m);
}

}  // namespace
}  // namespace optprune::moves

#endif
