// The steps of a tile, and a lane's bits of the mask. Nothing here needs CUDA; tests/gpu/test_fragments.py counts through
// all of it.
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_FRAGMENTS_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_FRAGMENTS_H

#include <cstdint>

#include "common/cuda_fragments.h"

namespace optprune::masked_linear::mma {

// A product's rows: x is the tall factor, weight the low one.
constexpr int samples = optprune::cuda::tall, outputs = optprune::cuda::low, columns = optprune::cuda::columns;
constexpr int depth = 32;  // columns of a step: half a word of mask
constexpr int chunk = optprune::cuda::chunk, chunks = depth / chunk;  // of a row

// The bits of a lane's weights, in half a word of its output's mask: those from `column` on become the lowest two.
OPTPRUNE_ANYWHERE constexpr int first_bit(int lane) { return lane % 4 * 2; }

// All ones for each of the two neighbours whose bit is set.
OPTPRUNE_ANYWHERE constexpr std::uint32_t kept(std::uint32_t bits) {
    return (bits & 1) * 0xFFFFu | (bits & 2) * 0x7FFF8000u;
}

}  // namespace optprune::masked_linear::mma

#endif
