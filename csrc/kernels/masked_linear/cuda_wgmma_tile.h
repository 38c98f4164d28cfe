// Where the numbers of a warpgroup's product are: in shared memory, in its fragments, and on their way out. Nothing here
// needs CUDA; tests/gpu/test_fragments.py counts through all of it.
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_WGMMA_TILE_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_WGMMA_TILE_H

#include <cstdint>

#include "common/cuda_fragments.h"

namespace optprune::masked_linear::wgmma {

constexpr int depth = 64;  // columns of a step: a word of mask, and the 128 bytes of a row that the swizzle is about
constexpr int chunks = depth / optprune::cuda::chunk;  // of a row

// A product of 64 outputs × 128 samples over 16 columns. Warp w of the four has outputs 16 w to 16 w + 15: they lie as in
// the tall factor of a warp's product (common/cuda_fragments.h), and their sums, of 128 samples in the place of 8, too:
// sums 4 j to 4 j + 3 are of samples 8 j to 8 j + 7.
constexpr int outputs = 64, samples = 128, columns = optprune::cuda::columns;

// How a product finds the rows of x from the one at an address in shared memory on, a multiple of 1024, and its columns
// from 16 k on: the start and the distance of eight rows from the next eight, both in units of 16 bytes, and the swizzle
// of 128 bytes, which is what place<8> does.
OPTPRUNE_ANYWHERE constexpr std::uint64_t descriptor(std::uint32_t rows, int k) {
    constexpr std::uint64_t unused = 1, eight_rows = 8 * depth * 2 / 16, swizzle_128 = 1;
    return (rows / 16 + 2 * k) | unused << 16 | eight_rows << 32 | swizzle_128 << 62;
}

// Results wait in shared memory as they will be stored, samples as rows, `tile_o` outputs of each. Which chunk holds
// outputs 8 c to 8 c + 7 of a sample: eight samples' are written at once, and lie in different banks.
constexpr int tile_o = 2 * outputs;
OPTPRUNE_ANYWHERE constexpr int result_place(int sample, int c) { return sample * (tile_o / 8) + (c ^ sample % 8); }

// Of the four matrices that are written at once, sums of 16 outputs × 16 samples, which a lane says the place of: the
// sample, and the chunk of the warp's two.
OPTPRUNE_ANYWHERE constexpr int result_sample(int lane) { return lane / 16 * 8 + lane % 8; }
OPTPRUNE_ANYWHERE constexpr int result_chunk(int lane) { return lane / 8 % 2; }

}  // namespace optprune::masked_linear::wgmma

#endif
