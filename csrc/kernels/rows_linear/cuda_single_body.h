// Many samples of float32: the weight is made dense in shared memory, a step of 64 columns at a time. Every output is one
// accumulator that takes the columns in ascending order, zeros among them.
#ifndef OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_SINGLE_BODY_H
#define OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_SINGLE_BODY_H

#include "common/cuda_square.h"
#include "kernels/rows_linear/cuda_decode.h"

namespace optprune::rows_linear::many {
namespace {

namespace square = optprune::cuda::square;

constexpr int own_rows_of_square = square::edge * chunks / square::threads;

using Factors = square::Factors<depth>;

// Stores what is decoded as a factor.
struct IntoFactor {
    float (*column_at)[square::pitch];

    __device__ __forceinline__ void operator()(int row, int c, const Pack<float, chunk> &eight) const {
        for (int j = 0; j < chunk; ++j) column_at[c * chunk + j][row] = eight.number[j];
    }
    __device__ __forceinline__ void operator()(int row, int column, float one) const { column_at[column][row] = one; }
};

__device__ __forceinline__ void copy_x(const CudaCall &call, std::int64_t first, std::int64_t begin,
                                       float (&to)[depth][square::pitch]) {
    const auto *x = static_cast<const float *>(call.x);
    const int column = static_cast<int>(threadIdx.x) % depth;
    for (int row = static_cast<int>(threadIdx.x) / depth; row < square::edge; row += square::threads / depth) {
        const bool there = first + row < call.B && begin + column < call.I;
        to[column][row] = there ? x[(first + row) * call.x_b + begin + column] : 0.0f;
    }
}

// A block takes tiles of samples × outputs until none is left, samples fastest, as by_tensor_cores does.
template <template <Kind, int> class Rows>
__global__ void __launch_bounds__(square::threads) by_fused_sums(const CudaCall call, std::int64_t tiles_b,
                                                                 std::int64_t tiles_o) {
    __shared__ Factors factors;
    const int row = static_cast<int>(threadIdx.x) / square::side, column = static_cast<int>(threadIdx.x) % square::side;
    for (std::int64_t task = blockIdx.x; task < tiles_b * tiles_o; task += gridDim.x) {
        const std::int64_t b = task % tiles_b * square::edge, o = task / tiles_b * square::edge;
        Rows<Kind::float32, own_rows_of_square> rows(call, o);
        square::Sums sums = {};
        for (std::int64_t step = 0; step * depth < call.I; ++step) {
            rows.decode(call, o, step, IntoFactor{factors.weight});
            copy_x(call, b, step * depth, factors.x);
            __syncthreads();
            square::multiply(factors, row, column, sums);
            __syncthreads();
        }
        for (int c = 0; c < square::sums_per_side; ++c) {
            const std::int64_t output = o + column + c * square::side;
            if (output >= call.O) continue;
            const float bias = bias_of<Kind::float32>(call, output);
            for (int r = 0; r < square::sums_per_side; ++r) {
                const std::int64_t sample = b + row + r * square::side;
                if (sample < call.B) static_cast<float *>(call.out)[sample * call.O + output] = sums[r][c] + bias;
            }
        }
    }
}

}  // namespace
}  // namespace optprune::rows_linear::many

#endif
