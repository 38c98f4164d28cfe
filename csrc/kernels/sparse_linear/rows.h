// The rows of a chunk, samples or pixels in the lanes. Include after one of scalar.h, avx2.h, avx512.h.
#ifndef OPTPRUNE_KERNELS_SPARSE_LINEAR_ROWS_H
#define OPTPRUNE_KERNELS_SPARSE_LINEAR_ROWS_H

#include <string.h>

#include "kernels/sparse_linear/sparse_linear.h"

namespace optprune::sparse_linear {
namespace {

constexpr std::int64_t L = Vec::lanes;

// Weights are read once, and from memory: they are asked for so many values before. Of 256 to 2048 this was fastest on
// Zen 3, by a third over none.
constexpr std::int64_t ahead = 512;

// The entries of a slice: `full` times `lanes` in turns, then what each row has beyond that.
struct Slice {
    const float *values;
    const std::uint8_t *columns;
    std::int64_t lanes, full;
};

// The columns of G rows by one load: the units that load have enough to do.
template <int G>
struct Columns {
    std::uint64_t bytes = 0;

    explicit Columns(const std::uint8_t *from) { memcpy(&bytes, from, G); }
    std::uint8_t operator[](int i) const { return static_cast<std::uint8_t>(bytes >> 8 * i); }
};

// Activations that are no operand of the multiply-add, so that the weight can be, which AVX-512 spreads for nothing.
template <class V>
inline V apart(V activations) {
    if constexpr (V::lanes == 16) asm("" : "+v"(activations.v));
    return activations;
}

// G neighbouring rows of a slice, R registers of samples each. at(column): where the samples of a column stand;
// rest: of the first of these rows. Returns the rest of the row behind the last.
//
// Loops over rows are unrolled, so that a sum has a name: an array with a running index GCC keeps in memory as well. A call
// for each slice of a sparse weight would cost a tenth.
template <int R, int G, class At>
__attribute__((always_inline)) inline std::int64_t rows_of(Slice slice, std::int64_t first, std::int64_t rest,
                                                           const std::int16_t *counts, const std::uint8_t *rows, At at,
                                                           float *sums, std::int64_t step) {
    Vec sum[G][R];
    const auto add = [&sum, at](int i, Vec weight, std::uint8_t column) {
        const float *x = at(column);
        if constexpr (R == 1) {
            sum[i][0] = Vec::fma(weight, apart(Vec::load(x)), sum[i][0]);
        } else {
            for (int j = 0; j < R; ++j) sum[i][j] = Vec::fma(weight, Vec::load(x + j * L), sum[i][j]);
        }
    };
#pragma GCC unroll 8
    for (int i = 0; i < G; ++i) {
        for (int j = 0; j < R; ++j) sum[i][j] = Vec::zero();
    }
    const float *value = slice.values + first;
    const std::uint8_t *column = slice.columns + first;
    for (std::int64_t k = 0; k < slice.full; ++k, value += slice.lanes, column += slice.lanes) {
        __builtin_prefetch(value + ahead);
        const Columns<G> columns(column);
        Vec weight[G];
        Vec::spread_each(value, weight);
#pragma GCC unroll 8
        for (int i = 0; i < G; ++i) add(i, weight[i], columns[i]);
    }
    if (counts[0] <= slice.full + 1) {  // most slices: the first rows go one turn more, or none does
#pragma GCC unroll 8
        for (int i = 0; i < G; ++i, ++rest) {
            if (counts[i] == slice.full) break;
            add(i, Vec::spread(slice.values[rest]), slice.columns[rest]);
        }
    } else {
#pragma GCC unroll 8
        for (int i = 0; i < G; ++i) {
            for (std::int64_t k = slice.full; k < counts[i]; ++k, ++rest) {
                add(i, Vec::spread(slice.values[rest]), slice.columns[rest]);
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < G; ++i) {
        float *to = sums + rows[i] * step;
        for (int j = 0; j < R; ++j) Vec::add(Vec::load(to + j * L), sum[i][j]).store(to + j * L);
    }
    return rest;
}

// sums[row * step …] += the chunk's part. Eight accumulators or more hide the four cycles of a multiply-add.
template <int R, class At>
inline void rows_of_chunk(const Chunk &chunk, At at, float *sums, std::int64_t step) {
    constexpr int G = R == 1 ? 8 : R <= 3 ? 4 : 2;
    std::int64_t entry = 0;
    for (std::int64_t slot = 0; slot < chunk.R; slot += slice_rows) {
        const std::int64_t lanes = chunk.R - slot < slice_rows ? chunk.R - slot : slice_rows;
        const std::int16_t *counts = chunk.counts + slot;
        const std::uint8_t *rows = chunk.rows + slot;
        if (counts[0] == 0) break;  // descending: nothing comes after
        const Slice slice{chunk.values + entry, chunk.columns + entry, lanes, counts[lanes - 1]};
        std::int64_t rest = slice.full * lanes;
        if (lanes == slice_rows) {
            const Slice eight{slice.values, slice.columns, slice_rows, slice.full};  // the distance is known here
            for (int i = 0; i < slice_rows; i += G) {
                rest = rows_of<R, G>(eight, i, rest, counts + i, rows + i, at, sums, step);
            }
        } else {
            for (std::int64_t i = 0; i < lanes; ++i) {
                rest = rows_of<R, 1>(slice, i, rest, counts + i, rows + i, at, sums, step);
            }
        }
        entry += rest;
    }
}

}  // namespace
}  // namespace optprune::sparse_linear

#endif
