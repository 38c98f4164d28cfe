// The kernel of float32, in a header of its own: the tests run it on a CPU too, thread by thread, where no GPU is at hand
// (tests/gpu/emulated_masked_linear.cpp).
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_BODY_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_BODY_H

#include "common/cuda_square.h"
#include "kernels/masked_linear/cuda.h"

namespace optprune::masked_linear {
namespace {

using optprune::cuda::square::side, optprune::cuda::square::threads;

constexpr int tile = optprune::cuda::square::edge;  // samples and outputs of a block
constexpr int depth = 32;                           // columns of one step: the lanes of a warp load one row of them
constexpr int warps = threads / depth;

using Step = optprune::cuda::square::Factors<depth>;

// One step of columns, [rows, depth] of x and of weight, into shared memory; zeros outside and where the mask is zero.
__device__ void load(const CudaCall &call, std::int64_t p, std::int64_t b, std::int64_t o, std::int64_t i, Step &step) {
    const auto *x = static_cast<const float *>(call.x), *weights = static_cast<const float *>(call.weight);
    const int lane = threadIdx.x % depth;
    const std::int64_t column = i + lane;
    const bool inside = column < call.I;
    for (int row = threadIdx.x / depth; row < tile; row += warps) {
        step.x[lane][row] = inside && b + row < call.B ? x[p * call.x_p + (b + row) * call.x_b + column] : 0.0f;
        float weight = 0.0f;
        if (inside && o + row < call.O) {
            const std::uint64_t word = call.words[p * call.words_p + (o + row) * call.words_o + column / 64];
            if (word >> (column % 64) & 1) weight = weights[(o + row) * call.weight_o + column];
        }
        step.weight[lane][row] = weight;
    }
}

// A block takes tiles of outputs × samples × candidates, outputs fastest, until none is left.
__global__ void __launch_bounds__(threads) kernel(const CudaCall call, std::int64_t tiles_b, std::int64_t tiles_o) {
    __shared__ Step step;
    const int row = threadIdx.x / side, column = threadIdx.x % side;
    for (std::int64_t task = blockIdx.x; task < call.P * tiles_b * tiles_o; task += gridDim.x) {
        const std::int64_t o = task % tiles_o * tile, b = task / tiles_o % tiles_b * tile;
        const std::int64_t p = task / tiles_o / tiles_b;
        optprune::cuda::square::Sums sums = {};
        for (std::int64_t i = 0; i < call.I; i += depth) {
            load(call, p, b, o, i, step);
            __syncthreads();
            optprune::cuda::square::multiply(step, row, column, sums);
            __syncthreads();
        }
        for (int r = 0; r < optprune::cuda::square::sums_per_side; ++r) {
            for (int c = 0; c < optprune::cuda::square::sums_per_side; ++c) {
                const std::int64_t sample = b + row + r * side, output = o + column + c * side;
                if (sample >= call.B || output >= call.O) continue;
                static_cast<float *>(call.out)[(p * call.B + sample) * call.O + output] = sums[r][c];
            }
        }
    }
}

}  // namespace
}  // namespace optprune::masked_linear

#endif
