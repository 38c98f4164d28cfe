// The kept weights of each row, as the kernels read them; rows that nobody reads are left out.
#ifndef OPTPRUNE_KERNELS_POPULATION_LIST_H
#define OPTPRUNE_KERNELS_POPULATION_LIST_H

#include "kernels/population/tile.h"

namespace optprune::population {
namespace {

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

inline std::uint64_t word_of(const Layer &layer, const std::uint64_t *words, std::int64_t r, std::int64_t w) {
    if (layer.first_word >= 0) return words[layer.first_word + r * layer.words() + w];
    const std::int64_t left = layer.columns - w * word_bits;
    return left < word_bits ? (std::uint64_t{1} << left) - 1 : ~std::uint64_t{0};
}

inline void list_kept(const Layer &layer, const std::uint64_t *words, Rows &rows) {
    Kept *next = rows.kept;
    std::int64_t live = 0;
    for (std::int64_t r = 0; r < layer.rows; ++r) {
        rows.start[r] = next - rows.kept;
        if (live == rows.live_count || rows.live[live] != r) continue;
        ++live;
        const float *weight = layer.weight + r * layer.columns;
        for (std::int64_t w = 0; w < layer.words(); ++w) {
            next = list_word(layer, word_of(layer, words, r, w), w * word_bits, weight, next);
        }
    }
    rows.start[layer.rows] = next - rows.kept;
}

// The weights under a panel's words, in the order of its visits.
inline float *pack_weights(const Layer &layer, const Visit *visit, std::int64_t count, std::int64_t w, float *next) {
    constexpr std::int64_t ahead = 8, line = 16;  // rows come in no order that the processor could foresee
    const std::int64_t columns = layer.columns, width = lesser(word_bits, columns - w * word_bits);
    const float *weight = layer.weight + w * word_bits;
    for (std::int64_t v = 0; v < count; ++v) {
        const float *later = weight + visit[lesser(v + ahead, count - 1)].row * columns;
        for (std::int64_t i = 0; i < width; i += line) __builtin_prefetch(later + i);
        const float *own = weight + visit[v].row * columns;
        std::uint64_t bits = visit[v].bits;
        for (const float *end = next + visit[v].count; next != end; ++next, bits &= bits - 1) {
            *next = own[__builtin_ctzll(bits)];
        }
    }
    return next;
}

// How many words of each panel keep n weights, at places[w * place_count + n + 1]; returns how many weights are kept.
inline std::int64_t count_words(const Layer &layer, const std::uint64_t *words, Rows &rows) {
    const std::int64_t W = layer.words(), live_count = rows.live_count;
    std::int64_t kept = 0;
    std::int32_t *places = rows.places;
    for (std::int64_t i = 0; i < W * place_count; ++i) places[i] = 0;
    for (std::int64_t live = 0; live < live_count; ++live) {
        for (std::int64_t w = 0; w < W; ++w) {
            const int count = __builtin_popcountll(word_of(layer, words, rows.live[live], w));
            ++places[w * place_count + count + 1];
            kept += count;
        }
    }
    return kept;
}

// The words of each panel, those that keep equally many weights one after the other: the loop over a word then ends
// where it ended for the word before, which the processor guesses right.
inline void sort_words(const Layer &layer, const std::uint64_t *words, Rows &rows) {
    const std::int64_t W = layer.words(), live_count = rows.live_count;
    std::int32_t *places = rows.places;
    Visit *visits = rows.visits;
    for (std::int64_t w = 0; w < W; ++w) {
        std::int32_t place = static_cast<std::int32_t>(w * live_count);
        for (std::int64_t n = 0; n < place_count; ++n) {
            place += places[w * place_count + n];
            places[w * place_count + n] = place;
        }
    }
    for (std::int64_t live = 0; live < live_count; ++live) {
        const std::int32_t r = rows.live[live];
        for (std::int64_t w = 0; w < W; ++w) {
            const std::uint64_t word = word_of(layer, words, r, w);
            const int count = __builtin_popcountll(word);
            visits[places[w * place_count + count]++] = {word, r, count};
        }
    }
    float *next = rows.packed;
    for (std::int64_t w = 0; w < W; ++w) next = pack_weights(layer, visits + w * live_count, live_count, w, next);
}

// The rows themselves, zeros for dropped weights. Those of a linear layer panel by panel, as they are read.
inline void copy_rows(const Layer &layer, const std::uint64_t *words, const Rows &rows) {
    for (std::int64_t live = 0; live < rows.live_count; ++live) {
        const std::int64_t r = rows.live[live];
        const float *weight = layer.weight + r * layer.columns;
        float *to = rows.packed + live * (layer.registers > 0 ? lesser(dense_columns, layer.columns) : layer.columns);
        for (std::int64_t w = 0; w < layer.words(); ++w) {
            std::uint64_t word = word_of(layer, words, r, w);
            std::int64_t i = w * word_bits;
            const std::int64_t end = lesser(layer.columns, i + word_bits);
            if (layer.registers > 0 && i > 0 && i % dense_columns == 0) {
                to = rows.packed + i * rows.live_count + live * lesser(dense_columns, layer.columns - i) - i;
            }
            for (; i + L <= end; i += L, word >>= L) Vec::load_kept(weight + i, word).store(to + i);
            for (; i < end; ++i, word >>= 1) to[i] = (word & 1) != 0 ? weight[i] : 0.0f;
        }
    }
}

inline Way cheapest_way(const Layer &layer, std::int64_t kept, std::int64_t read) {
    if (static_cast<double>(kept) >= layer.dense_from * static_cast<double>(read)) return Way::dense;
    // Below, a panel of 64 columns keeps less than the two weights that pay for the way of its sums.
    return layer.registers > 0 && kept * 32 >= read ? Way::words : Way::list;
}

inline void list_layer(const Layer &layer, const std::uint64_t *words, Rows &rows, bool all) {
    const std::int64_t kept = count_words(layer, words, rows);
    rows.whole = cheapest_way(layer, kept, rows.live_count * layer.columns);
    rows.way = all ? Way::list : rows.whole;
    if (rows.way == Way::list) list_kept(layer, words, rows);
    if (rows.whole == Way::words) sort_words(layer, words, rows);
    if (rows.whole == Way::dense) {
        const bool is_copy = kept < layer.rows * layer.columns;
        rows.dense = is_copy ? rows.packed : layer.weight;
        if (is_copy) copy_rows(layer, words, rows);
    }
}

// all: rows that nobody reads too, and lists whatever the way of whole layers
inline void list_rows(const Program &program, const std::uint64_t *words, Rows *rows, bool all) {
    find_live(program, words, rows, all);
    for (std::int64_t l = 0; l < program.layer_count; ++l) list_layer(program.layers[l], words, rows[l], all);
}

}  // namespace
}  // namespace optprune::population

#endif
