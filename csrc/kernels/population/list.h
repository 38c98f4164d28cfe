// The kept weights of each row, as the kernels read them; rows that nobody reads are left out.
#ifndef OPTPRUNE_KERNELS_POPULATION_LIST_H
#define OPTPRUNE_KERNELS_POPULATION_LIST_H

#include "kernels/population/tile.h"

namespace optprune::population {
namespace {

constexpr std::int64_t word_bits = 64;

constexpr std::int64_t lesser(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
constexpr std::int64_t greater(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

inline bool any_bit(const std::uint64_t *bits, std::int64_t from, std::int64_t to) {
    for (std::int64_t i = from; i < to;) {
        const std::int64_t left = lesser(to - i, word_bits - i % word_bits);
        const std::uint64_t ones = left == word_bits ? ~std::uint64_t{0} : (std::uint64_t{1} << left) - 1;
        if ((bits[i / word_bits] >> (i % word_bits)) & ones) return true;
        i += left;
    }
    return false;
}

inline bool is_read(const Layer &layer, std::int64_t r, const Rows *rows) {
    for (std::int64_t c = 0; c < layer.consumer_count; ++c) {
        const Consumer &consumer = layer.consumers[c];
        if (any_bit(rows[consumer.layer].used, r * consumer.columns, (r + 1) * consumer.columns)) return true;
    }
    return layer.consumer_count == 0;
}

// Consumers stand after their producers, so one pass from the last layer to the first settles which rows live.
inline void find_live(const Program &program, const std::uint64_t *words, Rows *rows, bool all) {
    for (std::int64_t l = program.layer_count - 1; l >= 0; --l) {
        const Layer &layer = program.layers[l];
        Rows &own = rows[l];
        const std::int64_t W = layer.words();
        for (std::int64_t w = 0; w < W; ++w) own.used[w] = layer.first_word < 0 ? ~std::uint64_t{0} : 0;
        own.live_count = 0;
        for (std::int64_t r = 0; r < layer.rows; ++r) {
            if (!all && !is_read(layer, r, rows)) continue;
            own.live[own.live_count++] = static_cast<std::int32_t>(r);
            if (layer.first_word < 0) continue;
            const std::uint64_t *row = words + layer.first_word + r * W;
            for (std::int64_t w = 0; w < W; ++w) own.used[w] |= row[w];
        }
    }
}

// A sparse row reads so few columns of a tile that none is read twice before it leaves the first-level cache. Dense rows
// read every column: they take panels that the cache holds, all rows one panel, and put their sums down in between.
inline std::int64_t panel_words(const Layer &layer, std::int64_t kept, std::int64_t read) {
    constexpr std::int64_t cached_floats = 4096, panel_pays = 4;
    const std::int64_t W = layer.words();
    if (layer.registers == 0 || kept * panel_pays < read) return W;
    return greater(1, cached_floats / (layer.registers * L * word_bits));
}

// The kept weights of one word. Entries are written eight at a time, those past the last bit for nothing: a loop that
// ends at every word's own count would be guessed wrong at every word.
inline Kept *list_word(const Layer &layer, std::uint64_t word, std::int64_t first, const float *weight, Kept *next) {
    const std::int64_t left = layer.columns - first;
    const std::uint64_t last = std::uint64_t{1} << (left < word_bits ? left - 1 : word_bits - 1);
    while (word != 0) {
        const int count = __builtin_popcountll(word);
        for (int k = 0; k < kept_slack; ++k, word &= word - 1) {
            const std::int64_t i = first + __builtin_ctzll(word | last);
            next[k] = {static_cast<std::int32_t>(layer.offset[i] * L), weight[i]};
        }
        next += count < kept_slack ? count : kept_slack;
    }
    return next;
}

// The rows themselves, zeros for dropped weights.
inline void copy_rows(const Layer &layer, const std::uint64_t *words, Rows &rows) {
    const std::int64_t W = layer.words();
    for (std::int64_t live = 0; live < rows.live_count; ++live) {
        const std::int64_t r = rows.live[live];
        const float *weight = layer.weight + r * layer.columns;
        float *to = rows.dense + live * layer.columns;
        for (std::int64_t w = 0; w < W; ++w) {
            const std::int64_t first = w * word_bits, count = lesser(word_bits, layer.columns - first);
            const std::uint64_t word = layer.first_word < 0 ? ~std::uint64_t{0} : words[layer.first_word + r * W + w];
            for (std::int64_t i = 0; i < count; ++i) {
                to[first + i] = ((word >> i) & 1) != 0 ? weight[first + i] : 0.0f;
            }
        }
    }
}

inline void list_layer(const Layer &layer, const std::uint64_t *words, Rows &rows, bool all) {
    const std::int64_t W = layer.words();
    std::int64_t bits = 0;
    const auto word_of = [&](std::int64_t r, std::int64_t w) {
        if (layer.first_word >= 0) return words[layer.first_word + r * W + w];
        const std::int64_t left = layer.columns - w * word_bits;
        return left < word_bits ? (std::uint64_t{1} << left) - 1 : ~std::uint64_t{0};
    };
    for (std::int64_t live = 0; live < rows.live_count; ++live) {
        const std::int64_t r = rows.live[live];
        for (std::int64_t w = 0; w < W; ++w) bits += __builtin_popcountll(word_of(r, w));
    }
    const double most = static_cast<double>(rows.live_count * layer.columns);
    rows.has_dense = static_cast<double>(bits) >= layer.dense_from * most;
    rows.is_dense = rows.has_dense && !all;
    if (rows.has_dense) copy_rows(layer, words, rows);
    if (rows.is_dense) return;
    const std::int64_t panel = panel_words(layer, bits, rows.live_count * layer.columns);
    rows.panels = (W + panel - 1) / panel;
    Kept *next = rows.kept;
    std::int64_t live = 0, *start = rows.start;
    for (std::int64_t r = 0; r < layer.rows; ++r) {
        const bool read = live < rows.live_count && rows.live[live] == r;
        live += read;
        const float *weight = layer.weight + r * layer.columns;
        for (std::int64_t q = 0; q < rows.panels; ++q) {
            *start++ = next - rows.kept;
            for (std::int64_t w = q * panel; read && w < lesser(W, (q + 1) * panel); ++w) {
                next = list_word(layer, word_of(r, w), w * word_bits, weight, next);
            }
        }
    }
    *start = next - rows.kept;
}

// all: rows that nobody reads too, and lists of rows that are dense
inline void list_rows(const Program &program, const std::uint64_t *words, Rows *rows, bool all) {
    find_live(program, words, rows, all);
    for (std::int64_t l = 0; l < program.layer_count; ++l) list_layer(program.layers[l], words, rows[l], all);
}

}  // namespace
}  // namespace optprune::population

#endif
