// The kernel of float32, in a header of its own: the tests run it on a CPU too, thread by thread, where no GPU is at hand
// (tests/gpu/emulated_masked_linear.cpp).
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_BODY_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_BODY_H

#include "kernels/masked_linear/cuda.h"

namespace optprune::masked_linear {
namespace {

constexpr int tile = 64;                  // samples and outputs of a block
constexpr int side = 16;                  // a block has side × side threads
constexpr int threads = side * side;
constexpr int sums_per_side = tile / side;  // a thread has 4 × 4 sums: 8 loads from shared memory for 16 products
constexpr int depth = 32;                 // columns of one step: the lanes of a warp load one row of them
constexpr int warps = threads / depth;
// Odd: the lanes of a warp hold one row's 32 columns, and a column's step of 65 puts them into 32 banks.
constexpr int pitch = tile + 1;

struct Step {
    float x[depth][pitch];
    float weight[depth][pitch];
};

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

__device__ void multiply(const Step &step, int row, int column, float (&sums)[sums_per_side][sums_per_side]) {
#pragma unroll 4
    for (int k = 0; k < depth; ++k) {
        float x[sums_per_side], weight[sums_per_side];
        for (int j = 0; j < sums_per_side; ++j) {
            x[j] = step.x[k][row + j * side];
            weight[j] = step.weight[k][column + j * side];
        }
        for (int r = 0; r < sums_per_side; ++r) {
            for (int c = 0; c < sums_per_side; ++c) sums[r][c] = fmaf(x[r], weight[c], sums[r][c]);
        }
    }
}

// A block takes tiles of outputs × samples × candidates, outputs fastest, until none is left.
__global__ void __launch_bounds__(threads) kernel(const CudaCall call, std::int64_t tiles_b, std::int64_t tiles_o) {
    __shared__ Step step;
    const int row = threadIdx.x / side, column = threadIdx.x % side;
    for (std::int64_t task = blockIdx.x; task < call.P * tiles_b * tiles_o; task += gridDim.x) {
        const std::int64_t o = task % tiles_o * tile, b = task / tiles_o % tiles_b * tile;
        const std::int64_t p = task / tiles_o / tiles_b;
        float sums[sums_per_side][sums_per_side] = {};
        for (std::int64_t i = 0; i < call.I; i += depth) {
            load(call, p, b, o, i, step);
            __syncthreads();
            multiply(step, row, column, sums);
            __syncthreads();
        }
        for (int r = 0; r < sums_per_side; ++r) {
            for (int c = 0; c < sums_per_side; ++c) {
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
