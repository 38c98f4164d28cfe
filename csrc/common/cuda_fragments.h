// Where the numbers of a tile are: in shared memory, and in the fragments of a tensor core's product. Nothing here needs
// CUDA; tests/gpu/test_fragments.py counts through all of it.
#ifndef OPTPRUNE_COMMON_CUDA_FRAGMENTS_H
#define OPTPRUNE_COMMON_CUDA_FRAGMENTS_H

#include "common/anywhere.h"

namespace optprune::cuda {

// A product of 16 × 8 sums over 16 columns: the tall factor has 16 rows, the low one 8. A register has two neighbours of
// 16 bits.
//
//   lane l   register   row           its columns
//   tall     0          l / 4         2 (l % 4) and the next
//            1          l / 4 + 8     the same
//            2, 3       as 0, 1       8 further
//   low      0          l / 4         2 (l % 4) and the next
//            1          l / 4         8 further
//   sums     0, 1       l / 4 of tall       rows 2 (l % 4) of low, and the next
//            2, 3       l / 4 + 8 of tall   the same
constexpr int tall = 16, low = 8, columns = 16;
constexpr int chunk = 8;  // neighbours that are loaded at once: 16 bytes

// Which chunk of a tile's shared memory holds chunk `c` of a row of `chunks`, 4 or 8. Turned from row to row, so that the
// same chunk of eight rows, and the eight chunks of one row or two, lie in different banks. Four chunks:
//
//   row 0   0 1 2 3     row 2   1 0 3 2     row 4   2 3 0 1     row 6   3 2 1 0
//   row 1   0 1 2 3     row 3   1 0 3 2     row 5   2 3 0 1     row 7   3 2 1 0
template <int chunks>
OPTPRUNE_ANYWHERE constexpr int place(int row, int c) {
    static_assert(chunks == 4 || chunks == 8);
    return row * chunks + (c ^ (row / (8 / chunks) % chunks));
}

// Of the four 8 × 8 matrices that are loaded at once, which row a lane names, and which chunk of those from a column on.
OPTPRUNE_ANYWHERE constexpr int tall_row(int lane) { return lane % 16; }
OPTPRUNE_ANYWHERE constexpr int tall_chunk(int lane) { return lane / 16; }
OPTPRUNE_ANYWHERE constexpr int low_row(int lane) { return lane / 16 * 8 + lane % 8; }  // for two products side by side
OPTPRUNE_ANYWHERE constexpr int low_chunk(int lane) { return lane / 8 % 2; }
OPTPRUNE_ANYWHERE constexpr int deep_row(int lane) { return lane % 8; }  // low ones for two products, 16 columns apart
OPTPRUNE_ANYWHERE constexpr int deep_chunk(int lane) { return lane / 8; }

}  // namespace optprune::cuda

#endif
