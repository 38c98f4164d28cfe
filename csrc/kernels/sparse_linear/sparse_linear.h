// A linear layer whose weight is kept in slices:   out[b, o] = bias[o] + sum over kept i of x[b, i] * weight[o, i]
//
// The weight is cut into chunks of 256 columns (a tile) by 256 rows (a band): the activations of a chunk stay in the
// first-level cache, and a column of it is one byte. In a chunk the rows stand in the order of how much they keep, in
// slices of eight, so that eight rows end at the same time (optprune_fast/ops/slices.py draws it):
//
//   slice   [ row a₀ b₀ … h₀ | a₁ b₁ … h₁ | … | rest of a | rest of b | … ]     a₀: the first kept weight of row a
//
// What a tile gives to an output is one accumulator, which starts at +0 and takes the kept products in ascending i, each
// by one fused multiply-add. Tiles are added one after another, then the bias. Samples or rows lie in the lanes of a
// register, so neither its width, nor the number of threads, nor of samples changes a bit of the result.
#ifndef OPTPRUNE_KERNELS_SPARSE_LINEAR_H
#define OPTPRUNE_KERNELS_SPARSE_LINEAR_H

#include <atomic>
#include <cstdint>

#include "common/variants.h"

namespace optprune::sparse_linear {

constexpr std::int64_t tile_columns = 256, band_rows = 256, slice_rows = 8, tile_words = tile_columns / 64;

enum class Type { float32, bfloat16, float16 };

// The weight [O, I]. Where `words` is null, `columns` and `counts` stand in their place.
struct Planes {
    const void *values;            // [nnz], chunk after chunk: the tiles of the first band, of the second, …
    Type type;                     // of the values
    const std::uint8_t *columns;   // [nnz] within its tile, in the order of the values
    const std::uint64_t *words;    // [O * ⌈I/64⌉]: of a chunk, its rows in their order; zero past I
    const std::int16_t *counts;    // [T * O]: kept in a row of a chunk, descending
    const std::uint8_t *rows;      // [T * O]: which row of the band it is
    const std::int64_t *starts;    // [chunks + 1]: where a chunk's values start
    std::int64_t O, I;
};

struct Call {
    const float *x;     // [B, I]
    Planes weight;
    const float *bias;  // [O], or null
    float *out;         // [B, O]
    std::int64_t B;
};

void run(Isa isa, std::int64_t threads, const Call &call);

// One chunk as the kernels read it: float32 values, columns listed.
struct Chunk {
    const float *values;
    const std::uint8_t *columns, *rows;
    const std::int16_t *counts;
    std::int64_t R;  // rows
};

// Bytes past the end of a chunk's columns that `list` may overwrite.
constexpr std::int64_t list_slack = 64;

struct Kernel {
    std::int64_t lanes;      // of a register
    std::int64_t registers;  // that a tile of samples has at most
    // [samples, I] -> one tile [I, registers * lanes]; absent samples become zero
    void (*turn)(const float *x, std::int64_t samples, std::int64_t I, std::int64_t registers, float *turned);
    // sums[row] += the chunk's part, for one sample; x: its part of the tile's columns
    void (*one)(const Chunk &chunk, const float *x, float *sums);
    // The same for a tile of samples; x: [columns, registers * lanes], sums: [R, registers * lanes]
    void (*many)(const Chunk &chunk, const float *x, std::int64_t registers, float *sums);
    // out[sample * O + row] = sums[row][sample] + bias[row] for R rows; bias may be null
    void (*finish)(float *sums, std::int64_t R, std::int64_t registers, std::int64_t samples, const float *bias,
                   float *out, std::int64_t O);
    // Words of R rows -> their counts, and their columns in slices
    void (*list)(const std::uint64_t *words, std::int64_t words_per_row, std::int64_t R, std::int16_t *counts,
                 std::uint8_t *columns);
    void (*widen)(const std::uint16_t *values, Type type, std::int64_t count, float *out);
    // For several samples, as many as a register of it holds or fewer; null: this one
    const Kernel *narrow;
};

extern const Kernel scalar, avx2, avx512;
extern const Table<Kernel> variants;
extern std::atomic<std::int64_t> narrow_calls;  // that a narrow kernel served, since the start of the process

}  // namespace optprune::sparse_linear

#endif
