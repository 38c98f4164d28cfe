#include "kernels/population/population.h"

#include <algorithm>

#include "common/buffer.h"
#include "common/thread_pool.h"
#include "kernels/population/scratch.h"

namespace optprune::population {
namespace {

constexpr std::int64_t word_bits = 64;

std::int64_t words_of(const Layer &layer) { return divide_up(layer.columns, word_bits); }

bool any_bit(const std::vector<std::uint64_t> &bits, std::int64_t from, std::int64_t to) {
    for (std::int64_t i = from; i < to;) {
        const std::int64_t left = std::min(to - i, word_bits - i % word_bits);
        const std::uint64_t ones = left == word_bits ? ~std::uint64_t{0} : (std::uint64_t{1} << left) - 1;
        if ((bits[i / word_bits] >> (i % word_bits)) & ones) return true;
        i += left;
    }
    return false;
}

// used[l]: the columns of layer l that some live row keeps. Consumers stand after their producers, so one pass from the
// last layer to the first settles which rows live.
void find_live(const Program &program, const std::uint64_t *words, std::vector<Rows> &rows) {
    std::vector<std::vector<std::uint64_t>> used(program.layers.size());
    for (std::size_t l = program.layers.size(); l-- > 0;) {
        const Layer &layer = program.layers[l];
        std::vector<std::int32_t> &live = rows[l].live;
        live.clear();
        for (std::int64_t r = 0; r < layer.rows; ++r) {
            bool read = layer.consumers.empty();
            for (const auto &[consumer, columns] : layer.consumers) {
                read = read || any_bit(used[consumer], r * columns, (r + 1) * columns);
            }
            if (read) live.push_back(static_cast<std::int32_t>(r));
        }
        const std::int64_t W = words_of(layer);
        used[l].assign(W, layer.first_word < 0 ? ~std::uint64_t{0} : 0);
        if (layer.first_word < 0) continue;
        for (const std::int32_t r : live) {
            const std::uint64_t *row = words + layer.first_word + r * W;
            for (std::int64_t w = 0; w < W; ++w) used[l][w] |= row[w];
        }
    }
}

void list_layer(const Layer &layer, const std::uint64_t *words, std::int64_t lanes, Rows &rows) {
    const std::int64_t W = words_of(layer);
    rows.kept.resize(static_cast<std::size_t>(layer.rows * layer.columns));
    rows.start.assign(layer.rows + 1, 0);
    Kept *next = rows.kept.data();
    std::size_t live = 0;
    for (std::int64_t r = 0; r < layer.rows; ++r) {
        if (live < rows.live.size() && rows.live[live] == r) {
            ++live;
            const float *weight = layer.weight + r * layer.columns;
            for (std::int64_t w = 0; w < W; ++w) {
                const std::int64_t first = w * word_bits, left = layer.columns - first;
                std::uint64_t word = left < word_bits ? (std::uint64_t{1} << left) - 1 : ~std::uint64_t{0};
                if (layer.first_word >= 0) word = words[layer.first_word + r * W + w];
                for (; word != 0; word &= word - 1) {
                    const std::int64_t i = first + __builtin_ctzll(word);
                    *next++ = {static_cast<std::int32_t>(layer.offset[i] * lanes), weight[i]};
                }
            }
        }
        rows.start[r + 1] = next - rows.kept.data();
    }
}

}  // namespace

void list_rows(const Program &program, const std::uint64_t *words, std::int64_t lanes, std::vector<Rows> &rows) {
    rows.resize(program.layers.size());
    find_live(program, words, rows);
    for (std::size_t l = 0; l < rows.size(); ++l) list_layer(program.layers[l], words, lanes, rows[l]);
}

void run(Isa isa, std::int64_t threads, const Call &call) {
    if (call.P == 0 || call.B == 0) return;
    const Program &program = call.program;
    const Kernel &kernel = variants.choose(isa);
    const std::int64_t tiles = divide_up(call.B, program.width * kernel.lanes);
    // A candidate's lists serve all its tiles; few candidates are split, or threads would be idle.
    const std::int64_t parts = std::min(tiles, divide_up(4 * threads, call.P)), part = divide_up(tiles, parts);
    std::vector<Scratch> scratch;
    for (std::int64_t i = 0; i < threads; ++i) scratch.emplace_back();
    parallel_for(call.P * parts, threads, [&](std::int64_t task, std::int64_t slot) {
        Scratch &own = scratch[slot];
        own.prepare(program, kernel.lanes);
        const std::int64_t candidate = task / parts, first = task % parts * part;
        list_rows(program, call.words + candidate * call.words_step, kernel.lanes, own.rows);
        for (std::int64_t tile = first; tile < std::min(tiles, first + part); ++tile) {
            kernel.tile(call, candidate, tile, own.rows, own);
        }
    });
}

void turn_input(Isa isa, std::int64_t threads, const float *x, std::int64_t B, std::int64_t features,
                std::int64_t width, float *turned) {
    const Kernel &kernel = variants.choose(isa);
    const std::int64_t L = kernel.lanes, tiles = divide_up(B, width * L);
    parallel_for(tiles * width, threads, [&](std::int64_t task, std::int64_t) {
        const std::int64_t tile = task / width, column = task % width;
        const std::int64_t samples = std::max<std::int64_t>(0, std::min(L, B - task * L));
        kernel.turn(x + (samples > 0 ? task * L * features : 0), samples, features,
                    turned + (tile * features * width + column) * L, width * L);
    });
}

std::int64_t lanes(Isa isa) { return variants.choose(isa).lanes; }

}  // namespace optprune::population
