// Weights in tiles. Every row of a mask starts on a word (docs/FORMATS.md), and a tile owns the words that it writes.
//
//   columns a multiple of 64, or long rows     a tile is a part of a row, and its words are written where they belong
//   other rows                                 a tile is some whole rows; their bits are found in one run, and spread:
//
//     run of bits   [ row 0 | row 1 | row 2 | … ]
//     words         [ row 0 · · ][ row 1 · · ][ row 2 · · ] …
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_TILES_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_TILES_H

#include <string.h>

#include <algorithm>
#include <vector>

#include "common/buffer.h"
#include "kernels/topk_threshold/keys.h"

namespace optprune::topk_threshold {
namespace {

struct Tile {
    const char *weights;
    std::int64_t n, start, tensor;   // start: place of the first weight among all
    std::uint64_t *words, *pool;
    std::int64_t columns;            // of its rows; 0 where bits need not be spread
    Type type;
    bool nan;                        // holds NaN
    // found in a read: keys above each range, and equal to its dense value; where in the common list its own begins
    std::int64_t above[2], heavy[2], list, listed;
    // of the ties of each rank: those put in by the read, how many there are in the list, and those that belong there
    std::int64_t guessed[2], ties[2], take[2];
};

inline std::int64_t words_of(std::int64_t columns) { return divide_up(columns, 64); }

// swapped: the words of the pool are written as those of the mask, which is empty
inline std::vector<Tile> cut(const Call &call, bool swapped, bool pool) {
    std::vector<Tile> tiles;
    std::int64_t start = 0;
    for (std::int64_t t = 0; t < call.count; ++t) {
        const Tensor &tensor = call.tensors[t];
        const bool joined = tensor.columns % 64 == 0 || tensor.rows == 1;
        const std::int64_t columns = joined ? tensor.rows * tensor.columns : tensor.columns;
        const std::int64_t rows = joined ? 1 : tensor.rows;
        if (rows == 0 || columns == 0) continue;
        const bool spread = !joined && columns <= tile_weights;
        const std::int64_t at_once = spread ? tile_weights / columns : 1;
        const std::int64_t step = spread ? columns : tile_weights;
        for (std::int64_t row = 0; row < rows; row += at_once) {
            for (std::int64_t column = 0; column < columns; column += step) {
                Tile tile{};
                const std::int64_t first = row * columns + column, word = row * words_of(columns) + column / 64;
                tile.n = spread ? std::min(at_once, rows - row) * columns : std::min(step, columns - column);
                tile.weights = static_cast<const char *>(tensor.weights) + first * bytes_of(tensor.type);
                tile.start = start + first;
                tile.tensor = t;
                tile.words = (swapped ? tensor.pool : tensor.words) + word;
                tile.pool = pool ? tensor.pool + word : nullptr;
                tile.columns = spread ? columns : 0;
                tile.type = tensor.type;
                tiles.push_back(tile);
            }
        }
        start += tensor.rows * tensor.columns;
    }
    return tiles;
}

// Neighbouring tiles with the work of a full one make a task. Returns where each begins, and the end.
inline std::vector<std::int64_t> group(const std::vector<Tile> &tiles) {
    std::vector<std::int64_t> begins{0};
    std::int64_t work = 0;
    for (std::size_t i = 0; i < tiles.size(); ++i) {
        work += tiles[i].n + 256;
        if (work >= tile_weights || i + 1 == tiles.size()) {
            begins.push_back(static_cast<std::int64_t>(i) + 1);
            work = 0;
        }
    }
    return begins;
}

// Words of rows from a run of bits that has one word more than it needs.
inline void spread(const std::uint64_t *run, std::int64_t n, std::int64_t columns, std::uint64_t *words) {
    const std::uint64_t tail = ~std::uint64_t{0} >> (-columns & 63);
    if (columns <= 57) {  // a load that starts on any byte holds all bits of a row
        const char *bytes = reinterpret_cast<const char *>(run);
        for (std::int64_t bit = 0; bit < n; bit += columns, ++words) {
            memcpy(words, bytes + (bit >> 3), sizeof *words);
            *words = *words >> (bit & 7) & tail;
        }
        return;
    }
    const std::int64_t count = words_of(columns);
    for (std::int64_t bit = 0; bit < n; bit += columns, words += count) {
        const std::uint64_t *from = run + (bit >> 6);
        const std::int64_t shift = bit & 63;
        for (std::int64_t w = 0; w < count; ++w) words[w] = from[w] >> shift | from[w + 1] << 1 << (63 - shift);
        words[count - 1] &= tail;
    }
}

struct Spot {
    std::int64_t word;
    std::uint64_t bit;
};

template <bool spread>
Spot spot_of(const Tile &tile, std::uint32_t place) {
    if constexpr (!spread) return {place >> 6, std::uint64_t{1} << (place & 63)};
    const auto columns = static_cast<std::uint32_t>(tile.columns);
    const std::uint32_t row = place / columns, column = place - row * columns;
    return {row * words_of(tile.columns) + (column >> 6), std::uint64_t{1} << (column & 63)};
}

}  // namespace
}  // namespace optprune::topk_threshold

#endif
