// The tiles that a call is cut into: outputs × samples × candidates.
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_TILES_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_TILES_H

#include "kernels/masked_linear/cuda.h"

namespace optprune::masked_linear {
namespace {

struct Tiles {
    std::int64_t b, o, all;

    Tiles(const CudaCall &call, int tile_b, int tile_o)
        : b((call.B + tile_b - 1) / tile_b), o((call.O + tile_o - 1) / tile_o), all(call.P * b * o) {}
};

}  // namespace
}  // namespace optprune::masked_linear

#endif
