// The kernel, written once. An instruction set's file includes its Vec first and then this.
#ifndef OPTPRUNE_KERNELS_MOVES_BODY_H
#define OPTPRUNE_KERNELS_MOVES_BODY_H

#include <string.h>

#include "kernels/moves/chain.h"

namespace optprune::moves {
namespace {

struct Pass {
    const Call &call;
    const Work &work;
    Tile tile;
    std::int64_t undone;        // entries of the undo list
    std::int64_t saved_floats;  // behind them

    const Program &program() const { return call.parent.program; }
    std::uint64_t *bits(std::int64_t step) const { return work.changed + work.first[step]; }
    std::int64_t words(std::int64_t step) const { return work.first[step + 1] - work.first[step]; }
};

// One unit of a step: the same step with a leading dimension of one. Unit -1: all of it.
inline Tensor unit_of(const Tensor &tensor, std::int64_t unit) {
    Tensor out = tensor;
    if (unit < 0) return out;
    out.offset += unit * tensor.stride[0];
    out.shape[0] = 1;
    return out;
}

// visit(floats) for every run of registers of a tensor that lie side by side
template <class F>
void each_run(const Pass &pass, const Tensor &tensor, F visit) {
    float *base = at(pass.tile, tensor);
    const std::int64_t last = tensor.rank - 1;
    if (tensor.stride[last] == 1 || tensor.shape[last] == 1) {
        each(tensor, tensor, tensor, last,
             [&](std::int64_t o, std::int64_t, std::int64_t) { visit(base + o * L, tensor.shape[last] * L); });
    } else {
        each(tensor, tensor, tensor, tensor.rank,
             [&](std::int64_t o, std::int64_t, std::int64_t) { visit(base + o * L, L); });
    }
}

inline bool differ(const float *a, const float *b, std::int64_t n) {
    std::uint32_t difference = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        std::uint32_t x, y;
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        difference |= x ^ y;
    }
    return difference != 0;
}

// Narrow steps run for each register of the wide tile that has samples.
template <class F>
void each_column(Pass &pass, const Step &step, F visit) {
    const std::int64_t columns = step.narrow != 0 ? pass.program().width : 1;
    for (std::int64_t r = 0; r < columns && pass.tile.first_sample + r * L < pass.call.parent.B; ++r) {
        pass.tile.column = r;
        pass.tile.narrow_input = narrow_input(pass.call.parent, pass.tile.first_sample / L + r);
        visit();
    }
}

// Widening writes one register of each entry; all others write whole tensors.
inline Tensor written(const Pass &pass, const Step &step, std::int64_t unit) {
    Tensor out = unit_of(step.out, unit);
    if (step.op == Op::widen) out.offset += pass.tile.column;
    return out;
}

inline void save(Pass &pass, std::int64_t index, std::int64_t unit) {
    const Step &step = pass.program().steps[index];
    each_column(pass, step, [&] {
        each_run(pass, written(pass, step, unit), [&](const float *from, std::int64_t n) {
            memcpy(pass.work.saved + pass.saved_floats, from, static_cast<size_t>(n) * sizeof(float));
            pass.saved_floats += n;
        });
    });
    pass.work.undo[2 * pass.undone] = index, pass.work.undo[2 * pass.undone + 1] = unit;
    ++pass.undone;
}

// Whether what was saved from `at_float` on has come out otherwise.
inline bool has_changed(Pass &pass, std::int64_t index, std::int64_t unit, std::int64_t &at_float) {
    const Step &step = pass.program().steps[index];
    bool changed = false;
    each_column(pass, step, [&] {
        each_run(pass, written(pass, step, unit), [&](const float *now, std::int64_t n) {
            changed = changed || differ(now, pass.work.saved + at_float, n);
            at_float += n;
        });
    });
    return changed;
}

inline void put_back(Pass &pass) {
    const float *from = pass.work.saved;
    for (std::int64_t i = 0; i < pass.undone; ++i) {
        const Step &step = pass.program().steps[pass.work.undo[2 * i]];
        each_column(pass, step, [&] {
            each_run(pass, written(pass, step, pass.work.undo[2 * i + 1]), [&](float *to, std::int64_t n) {
                memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
                from += n;
            });
        });
    }
}

inline void mark(Pass &pass, std::int64_t step, std::int64_t unit) {
    pass.bits(step)[unit / word_bits] |= std::uint64_t{1} << (unit % word_bits);
}

inline bool any(const Pass &pass, std::int64_t step) {
    std::uint64_t all = 0;
    for (std::int64_t w = 0; w < pass.words(step); ++w) all |= pass.bits(step)[w];
    return all != 0;
}

inline void set_range(std::uint64_t *bits, std::int64_t from, std::int64_t to) {
    for (std::int64_t i = from; i < to; ++i) bits[i / word_bits] |= std::uint64_t{1} << (i % word_bits);
}

template <class F>
void each_bit(const std::uint64_t *bits, std::int64_t words, F visit) {
    for (std::int64_t w = 0; w < words; ++w) {
        for (std::uint64_t word = bits[w]; word != 0; word &= word - 1) visit(w * word_bits + __builtin_ctzll(word));
    }
}

// Which units of a step the changes so far reach, as bits in its place of `changed`; returns whether any.
inline bool reach(Pass &pass, std::int64_t index) {
    const Spread &spread = pass.call.spreads[index];
    std::uint64_t *own = pass.bits(index);
    const std::int64_t words = pass.words(index);
    bool reached = false;
    for (std::int64_t l = 0; l < spread.link_count; ++l) {
        const Link &link = spread.links[l];
        if (!any(pass, link.producer)) continue;
        reached = true;
        if (spread.units == 0 || link.factor == 0) {
            set_range(own, 0, spread.units == 0 ? 1 : spread.units);
            continue;
        }
        each_bit(pass.bits(link.producer), pass.words(link.producer), [&](std::int64_t unit) {
            if (link.weighted) {
                for (std::int64_t w = 0; w < words; ++w) own[w] |= spread.readers[unit * words + w];
            } else {
                set_range(own, unit * link.factor, (unit + 1) * link.factor);
            }
        });
    }
    return reached;
}

// Recompute the rows of a layer: those that changed inputs reach, and those whose own bits were flipped.
inline void recompute_rows(Pass &pass, std::int64_t index, const Flipped *flip, const Flipped *end) {
    const Step &step = pass.program().steps[index];
    std::uint64_t *bits = pass.bits(index);
    for (const Flipped *f = flip; f != end; ++f) bits[f->row / word_bits] &= ~(std::uint64_t{1} << (f->row % word_bits));
    const std::int64_t first_saved = pass.saved_floats;
    std::int64_t count = 0;
    each_bit(bits, pass.words(index), [&](std::int64_t row) { pass.work.live[count++] = static_cast<std::int32_t>(row); });
    const std::int64_t reached = count;
    for (const Flipped *f = flip; f != end; ++f) pass.work.live[count++] = static_cast<std::int32_t>(f->row);
    for (std::int64_t i = 0; i < count; ++i) save(pass, index, pass.work.live[i]);
    Rows &rows = pass.tile.scratch.rows[step.layer];
    const Rows parent = rows;
    each_column(pass, step, [&] {
        rows.live = pass.work.live, rows.live_count = reached;
        if (reached > 0) run_step(pass.tile, step);
        for (std::int64_t i = reached; i < count; ++i) {
            std::int64_t start[2] = {flip[i - reached].start[0], flip[i - reached].start[1]};
            rows = single_row(pass.work.live + i, start, pass.call.pool);
            run_step(pass.tile, step);
        }
        rows = parent;
    });
    memset(bits, 0, static_cast<size_t>(pass.words(index)) * sizeof *bits);
    std::int64_t at_float = first_saved;
    for (std::int64_t i = 0; i < count; ++i) {
        if (has_changed(pass, index, pass.work.live[i], at_float)) mark(pass, index, pass.work.live[i]);
    }
}

inline void recompute_units(Pass &pass, std::int64_t index) {
    const Step &step = pass.program().steps[index];
    const Spread &spread = pass.call.spreads[index];
    if (spread.units == 0) {
        save(pass, index, -1);
        each_column(pass, step, [&] { run_step(pass.tile, step); });
        return;
    }
    each_bit(pass.bits(index), pass.words(index), [&](std::int64_t unit) {
        save(pass, index, unit);
        Step one = step;
        one.out = unit_of(step.out, unit), one.a = unit_of(step.a, unit), one.b = unit_of(step.b, unit);
        each_column(pass, step, [&] { run_step(pass.tile, one); });
    });
}

inline void run_move(Pass &pass, const Flipped *flip, const Flipped *end) {
    const std::int64_t steps = pass.program().step_count;
    memset(pass.work.changed, 0, static_cast<size_t>(pass.work.first[steps]) * sizeof(std::uint64_t));
    for (std::int64_t index = 0; index < steps; ++index) {
        const Step &step = pass.program().steps[index];
        const Flipped *own_end = flip;
        while (step.layer >= 0 && own_end != end && own_end->layer == step.layer) ++own_end;
        const bool reached = reach(pass, index);
        if (step.op == Op::loss) {
            if (reached) run_step(pass.tile, step);
        } else if (step.layer >= 0) {
            if (reached || own_end != flip) recompute_rows(pass, index, flip, own_end);
        } else if (reached) {
            recompute_units(pass, index);
        }
        flip = own_end;
    }
}

void run_tile(const Call &call, std::int64_t index, const Work &work) {
    const population::Call &parent = call.parent;
    population::run_tile(parent, 0, index, work.scratch);
    population::Call moved = parent;
    moved.sums = call.sums;
    if (call.chained < parent.program.layer_count) run_chained(call, index, work, moved);
    const std::int64_t tile = parent.program.width * L, steps = parent.program.step_count;
    Pass pass{call, work, {moved, work.scratch, nullptr, wide_input(parent, index), 0, index * tile, 0}, 0, 0};
    for (std::int64_t m = 0; m < call.M; ++m) {
        if (call.moves[m].chained) continue;
        pass.tile.candidate = call.moves[m].number;
        pass.undone = pass.saved_floats = 0;
        run_move(pass, call.flipped + call.moves[m].flipped, call.flipped + call.moves[m + 1].flipped);
        if (!any(pass, steps - 1)) copy_sums(call, call.moves[m].number, index * tile, tile);
        put_back(pass);
    }
}

void list_all(const Program &program, const std::uint64_t *words, Rows *rows) { list_rows(program, words, rows, true); }

constexpr Kernel kernel{L, list_all, run_tile};

}  // namespace
}  // namespace optprune::moves

#endif
