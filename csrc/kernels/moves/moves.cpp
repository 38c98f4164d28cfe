#include "kernels/moves/moves.h"

#include <algorithm>
#include <vector>

#include "common/buffer.h"
#include "common/thread_pool.h"
#include "kernels/population/workplace.h"

namespace optprune::moves {
namespace {

using population::Layer;
using population::Op;
using population::Program;
using population::Rows;
using population::Step;

constexpr std::int64_t word_bits = 64;

bool bit(const std::uint64_t *words, std::int64_t i) { return (words[i / word_bits] >> (i % word_bits)) & 1; }

// Rows of a layer that keep a weight on what a unit of the input's producer feeds: `factor` entries of the input's
// leading dimension, features of a linear layer or channels of a convolution.
std::vector<std::uint64_t> find_readers(const Step &step, const Layer &layer, const std::uint64_t *mask,
                                        std::int64_t units, std::int64_t factor) {
    const std::int64_t words = divide_up(layer.rows, word_bits), groups = step.op == Op::conv2d ? step.numbers[2] : 1;
    const std::int64_t entries = step.a.shape[0] / groups, taps = layer.columns / entries;
    std::vector<std::uint64_t> out(static_cast<std::size_t>(units * words), 0);
    for (std::int64_t r = 0; r < layer.rows; ++r) {
        const std::int64_t group = r / (layer.rows / groups);
        for (std::int64_t i = 0; i < layer.columns; ++i) {
            if (layer.first_word >= 0 && !bit(mask + layer.first_word + r * layer.words(), i)) continue;
            const std::int64_t unit = (group * entries + i / taps) / factor;
            out[unit * words + r / word_bits] |= std::uint64_t{1} << (r % word_bits);
        }
    }
    return out;
}

struct Flip {
    std::int64_t layer, row, column;
};

Flip place(const Request &request, std::int64_t index) {
    const Program &program = request.parent.program;
    for (std::int64_t l = 0; l < program.layer_count; ++l) {
        const Layer &layer = program.layers[l];
        const std::int64_t local = index - request.first_weight[l];
        if (request.first_weight[l] < 0 || local < 0 || local >= layer.rows * layer.columns) continue;
        return {l, local / layer.columns, local % layer.columns};
    }
    return {-1, 0, 0};  // a weight that the network does not use
}

// The moves with the rows that they flip, and what those rows keep then.
struct Moves {
    std::vector<std::int64_t> start{0};
    std::vector<Flipped> flipped;
    std::vector<Kept> pool;
    std::vector<RowChange> rows;
    std::vector<std::int64_t> pool_start;

    void add(const Request &request, const std::int64_t *indices, std::int64_t lanes) {
        const std::vector<Flip> flips = sorted(request, indices);
        for (std::size_t i = 0; i < flips.size();) {
            const std::size_t end = row_end(flips, i);
            add_row(request, flips.data() + i, flips.data() + end, lanes);
            i = end;
        }
        start.push_back(static_cast<std::int64_t>(flipped.size()));
    }

    // For a chain: the rows that change, layer after layer, and the terms that each adds. A row that reads the
    // difference of an input under the moved mask adds w · difference; a flip adds or takes w · input of the parent.
    void add_to_chain(const Request &request, const Spread *spreads, const std::int64_t *indices, std::int64_t floats) {
        const Program &program = request.parent.program;
        const std::vector<Flip> flips = sorted(request, indices);
        pool_start.push_back(static_cast<std::int64_t>(pool.size()));
        std::vector<std::int32_t> slot_of, next_slot_of;  // [units] of the layer's input and output: -1, unchanged
        std::int32_t slots = 0;
        std::size_t flip = 0;
        for (std::int64_t i = 0; i < program.step_count; ++i) {
            const Step &step = program.steps[i];
            if (step.op != Op::linear) continue;
            const Layer &layer = program.layers[step.layer];
            const bool last = step.layer + 1 == program.layer_count;
            std::vector<std::uint64_t> reached = readers_of(spreads[i], slot_of, layer.rows);
            for (std::size_t f = flip; f < flips.size() && flips[f].layer == step.layer; ++f) set_bit(reached, flips[f].row);
            next_slot_of.assign(static_cast<std::size_t>(layer.rows), -1);
            for (std::int64_t row = 0; row < layer.rows; ++row) {
                if (!bit(reached.data(), row)) continue;
                const bool own = flip < flips.size() && flips[flip].layer == step.layer && flips[flip].row == row;
                const std::size_t end = own ? row_end(flips, flip) : flip;
                const std::int64_t first = static_cast<std::int64_t>(pool.size());
                add_differences(request, layer, row, slot_of, flips.data() + flip, flips.data() + end, floats);
                const std::int64_t differences = static_cast<std::int64_t>(pool.size()) - first;
                const float *weight = layer.weight + row * layer.columns;
                for (std::size_t f = flip; f < end; ++f) {
                    const std::int64_t column = flips[f].column;
                    const bool kept = bit(request.parent.words + layer.first_word + row * layer.words(), column);
                    pool.push_back({static_cast<std::int32_t>(column * floats), kept ? -weight[column] : weight[column]});
                }
                next_slot_of[row] = last ? -1 : slots++;
                rows.push_back({static_cast<std::int32_t>(step.layer), static_cast<std::int32_t>(row), next_slot_of[row],
                                static_cast<std::int32_t>(differences), static_cast<std::int32_t>(end - flip)});
                flip = end;
            }
            slot_of = next_slot_of;
        }
        start.push_back(static_cast<std::int64_t>(rows.size()));
    }

  private:
    static void set_bit(std::vector<std::uint64_t> &bits, std::int64_t i) {
        bits[i / word_bits] |= std::uint64_t{1} << (i % word_bits);
    }

    static std::size_t row_end(const std::vector<Flip> &flips, std::size_t i) {
        std::size_t end = i;
        while (end < flips.size() && flips[end].layer == flips[i].layer && flips[end].row == flips[i].row) ++end;
        return end;
    }

    static std::vector<std::uint64_t> readers_of(const Spread &spread, const std::vector<std::int32_t> &slot_of,
                                                 std::int64_t rows) {
        const std::int64_t words = divide_up(rows, word_bits);
        std::vector<std::uint64_t> out(static_cast<std::size_t>(words), 0);
        for (std::size_t unit = 0; unit < slot_of.size(); ++unit) {
            if (slot_of[unit] < 0) continue;
            for (std::int64_t w = 0; w < words; ++w) out[w] |= spread.readers[unit * words + w];
        }
        return out;
    }

    void add_differences(const Request &request, const Layer &layer, std::int64_t row,
                         const std::vector<std::int32_t> &slot_of, const Flip *flip, const Flip *end,
                         std::int64_t floats) {
        const std::uint64_t *words = request.parent.words + layer.first_word + row * layer.words();
        for (std::size_t unit = 0; unit < slot_of.size(); ++unit) {
            if (slot_of[unit] < 0) continue;
            bool kept = layer.first_word < 0 || bit(words, static_cast<std::int64_t>(unit));
            for (const Flip *f = flip; f != end; ++f) kept ^= f->column == static_cast<std::int64_t>(unit);
            if (!kept) continue;
            pool.push_back({static_cast<std::int32_t>(slot_of[unit] * floats),
                            layer.weight[row * layer.columns + static_cast<std::int64_t>(unit)]});
        }
    }

    static std::vector<Flip> sorted(const Request &request, const std::int64_t *indices) {
        std::vector<Flip> flips;
        for (std::int64_t f = 0; f < request.F; ++f) {
            if (indices[f] < 0) continue;
            const Flip flip = place(request, indices[f]);
            if (flip.layer >= 0) flips.push_back(flip);
        }
        std::sort(flips.begin(), flips.end(), [](const Flip &a, const Flip &b) {
            return a.layer != b.layer ? a.layer < b.layer : a.row != b.row ? a.row < b.row : a.column < b.column;
        });
        return flips;
    }

    void add_row(const Request &request, const Flip *flip, const Flip *end, std::int64_t lanes) {
        const Layer &layer = request.parent.program.layers[flip->layer];
        const std::uint64_t *row = request.parent.words + layer.first_word + flip->row * layer.words();
        const float *weight = layer.weight + flip->row * layer.columns;
        Flipped out{flip->layer, flip->row, {static_cast<std::int64_t>(pool.size()), 0}};
        for (std::int64_t w = 0; w < layer.words(); ++w) {
            std::uint64_t word = row[w];
            for (const Flip *f = flip; f != end; ++f) {
                if (f->column / word_bits == w) word ^= std::uint64_t{1} << (f->column % word_bits);
            }
            for (; word != 0; word &= word - 1) {
                const std::int64_t i = w * word_bits + __builtin_ctzll(word);
                pool.push_back({static_cast<std::int32_t>(layer.offset[i] * lanes), weight[i]});
            }
        }
        out.start[1] = static_cast<std::int64_t>(pool.size());
        flipped.push_back(out);
    }
};

std::int64_t registers_of(const population::Tensor &tensor) {
    std::int64_t n = 1;
    for (std::int64_t d = 0; d < tensor.rank; ++d) n *= tensor.shape[d];
    return n;
}

// The memory of a thread.
struct Workplace {
    population::Workplace program;
    Buffer<std::uint64_t> changed;
    Buffer<std::int32_t> live;
    Buffer<float> saved, logits;
    Buffer<std::int64_t> undo;
    Work work{};

    void prepare(const Program &network, const std::vector<std::int64_t> &first, std::int64_t lanes) {
        if (work.changed != nullptr) return;
        program.prepare(network, lanes, true);
        std::int64_t floats = 0, entries = 0, rows = 1;
        for (std::int64_t i = 0; i < network.step_count; ++i) {
            const Step &step = network.steps[i];
            floats += registers_of(step.out) * (step.narrow != 0 ? network.width : 1) * lanes;
            entries += step.out.rank > 0 ? step.out.shape[0] + 1 : 1;
            rows = std::max(rows, step.out.rank > 0 ? step.out.shape[0] : 1);
        }
        changed = make_buffer<std::uint64_t>(first.back());
        live = make_buffer<std::int32_t>(rows);
        saved = make_buffer<float>(floats);
        logits = make_buffer<float>(registers_of(network.steps[network.step_count - 1].a) * lanes);
        undo = make_buffer<std::int64_t>(2 * entries);
        work = {program.scratch, changed.get(), first.data(), live.get(), saved.get(), undo.get(),
                logits.get()};
    }
};

}  // namespace

void run(Isa isa, std::int64_t threads, const Request &request) {
    const population::Call &parent = request.parent;
    const Program &program = parent.program;
    if (request.M == 0 || parent.B == 0) return;
    const Kernel &kernel = variants.choose(isa);
    std::vector<Spread> spreads(request.spreads, request.spreads + program.step_count);
    std::vector<std::vector<std::uint64_t>> readers;
    std::vector<std::int64_t> first{0};
    for (std::int64_t i = 0; i < program.step_count; ++i) {
        Spread &spread = spreads[i];
        const Step &step = program.steps[i];
        for (std::int64_t l = 0; l < spread.link_count; ++l) {
            const Link &link = spread.links[l];
            if (!link.weighted || link.factor == 0) continue;
            readers.push_back(find_readers(step, program.layers[step.layer], parent.words,
                                           request.spreads[link.producer].units, link.factor));
            spread.readers = readers.back().data();
        }
        first.push_back(first.back() + std::max<std::int64_t>(1, divide_up(spread.units, word_bits)));
    }
    Moves moves;
    for (std::int64_t m = 0; m < request.M; ++m) {
        const std::int64_t *indices = request.indices + m * request.F;
        if (request.chain) {
            moves.add_to_chain(request, spreads.data(), indices, program.width * kernel.lanes);
        } else {
            moves.add(request, indices, kernel.lanes);
        }
    }
    const Call call{parent, spreads.data(), moves.start.data(), moves.flipped.data(), moves.rows.data(),
                    moves.pool_start.data(), moves.pool.data(), request.sums, request.M, request.chain};
    std::vector<Workplace> workplaces(static_cast<std::size_t>(threads));
    parallel_for(divide_up(parent.B, program.width * kernel.lanes), threads, [&](std::int64_t tile, std::int64_t slot) {
        Workplace &own = workplaces[slot];
        if (own.work.changed == nullptr) {
            own.prepare(program, first, kernel.lanes);
            kernel.list(program, parent.words, own.program.scratch.rows);
        }
        kernel.tile(call, tile, own.work);
    });
}

}  // namespace optprune::moves
