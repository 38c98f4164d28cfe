// Where the numbers of a tile are: in shared memory, and in the fragments of a tensor core's product. Nothing here needs
// CUDA; tests/gpu/test_fragments.py counts through all of it.
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_FRAGMENTS_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_FRAGMENTS_H

#include <cstdint>

#include "common/anywhere.h"

namespace optprune::masked_linear::mma {

constexpr int depth = 32;              // columns of a step: half a word of mask
constexpr int chunk = 8, chunks = depth / chunk;  // 16 bytes, and how many a row has

// A product of 16 samples × 8 outputs over 16 columns. A register has two neighbours of 16 bits.
//
//   lane l   register   row           its columns
//   x        0          l / 4         2 (l % 4) and the next
//            1          l / 4 + 8     the same
//            2, 3       as 0, 1       8 further
//   weight   0          l / 4         2 (l % 4) and the next
//            1          l / 4         8 further
//   sums     0, 1       l / 4         outputs 2 (l % 4) and the next
//            2, 3       l / 4 + 8     the same
constexpr int samples = 16, outputs = 8, columns = 16;

// Which chunk of a tile's shared memory holds chunk `c` of a row. Turned from row to row, so that the same chunk of eight
// rows, and all chunks of two rows, lie in different banks.
//
//   row 0   0 1 2 3     row 2   1 0 3 2     row 4   2 3 0 1     row 6   3 2 1 0
//   row 1   0 1 2 3     row 3   1 0 3 2     row 5   2 3 0 1     row 7   3 2 1 0
OPTPRUNE_ANYWHERE constexpr int place(int row, int c) { return row * chunks + (c ^ (row / 2 % chunks)); }

// Of the four 8 × 8 matrices that are loaded at once, which row a lane names, and which chunk of those from a column on.
OPTPRUNE_ANYWHERE constexpr int x_row(int lane) { return lane % 16; }
OPTPRUNE_ANYWHERE constexpr int x_chunk(int lane) { return lane / 16; }
OPTPRUNE_ANYWHERE constexpr int weight_row(int lane) { return lane / 16 * 8 + lane % 8; }  // of two products
OPTPRUNE_ANYWHERE constexpr int weight_chunk(int lane) { return lane / 8 % 2; }

// The bits of a lane's weights, in half a word of its output's mask: those from `column` on become the lowest two.
OPTPRUNE_ANYWHERE constexpr int first_bit(int lane) { return lane % 4 * 2; }

// All ones for each of the two neighbours whose bit is set.
OPTPRUNE_ANYWHERE constexpr std::uint32_t kept(std::uint32_t bits) {
    return (bits & 1) * 0xFFFFu | (bits & 2) * 0x7FFF8000u;
}

}  // namespace optprune::masked_linear::mma

#endif
