// What a warp's product has of a tile.
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_FRAGMENTS_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_FRAGMENTS_H

#include "common/cuda_fragments.h"

namespace optprune::masked_linear::mma {

// A product's rows: x is the tall factor, weight the low one.
constexpr int samples = optprune::cuda::tall, outputs = optprune::cuda::low, columns = optprune::cuda::columns;
constexpr int depth = 32;  // columns of a step: half a word of mask
constexpr int chunk = optprune::cuda::chunk, chunks = depth / chunk;  // of a row

}  // namespace optprune::masked_linear::mma

#endif
