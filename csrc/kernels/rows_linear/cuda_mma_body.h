// Many samples of float16 or bfloat16: the weight is made dense in shared memory, a step of 64 columns at a time, and
// multiplied on tensor cores.
//
//   values, places ── decode, a step ahead ──▶ shared: two steps ── ldmatrix ──▶ registers ── mma ──▶ sums
//   x              ── copy,   a step ahead ──▶
//
// A block takes 64 outputs and 16, 32 or 64 samples, each of its warps 16 outputs and half of the samples.
#ifndef OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_MMA_BODY_H
#define OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_MMA_BODY_H

#include "common/cuda_fragments.h"
#include "kernels/rows_linear/cuda_decode.h"

namespace optprune::rows_linear::many {
namespace {

using optprune::cuda::place;

constexpr int warps_o = 4, warps_b = 2, threads = 32 * warps_o * warps_b;
constexpr int tile_o = warps_o * optprune::cuda::tall;
constexpr int own_rows = tile_o * chunks / threads;  // of a thread that decodes

using Chunk = Pack<std::uint16_t, chunk>;

// What a step multiplies, [rows, depth] of weight and of x; zeros outside.
template <int tile_b>
struct Stage {
    Chunk weight[tile_o * chunks], x[tile_b * chunks];
};

// Of a warp.
template <int tile_b>
constexpr int products = tile_b / warps_b / optprune::cuda::low;

template <int tile_b>
using Sums = float[products<tile_b>][4];

__device__ __forceinline__ int lane_of_warp() { return static_cast<int>(threadIdx.x) % 32; }
__device__ __forceinline__ int first_output() {
    return static_cast<int>(threadIdx.x) / 32 % warps_o * optprune::cuda::tall;
}

template <int tile_b>
__device__ __forceinline__ int first_sample() {
    return static_cast<int>(threadIdx.x) / 32 / warps_o * (tile_b / warps_b);
}

// Stores what is decoded into a stage.
struct IntoChunks {
    Chunk *chunk_at;

    __device__ __forceinline__ void operator()(int row, int c, const Chunk &eight) const {
        chunk_at[place<chunks>(row, c)] = eight;
    }
    __device__ __forceinline__ void operator()(int row, int column, std::uint16_t one) const {
        chunk_at[place<chunks>(row, column / chunk)].number[column % chunk] = one;
    }
};

template <int tile_b>
__device__ __forceinline__ void copy_x(const CudaCall &call, std::int64_t first, std::int64_t step, bool wide,
                                       Chunk *to) {
    for (int number = static_cast<int>(threadIdx.x); number < tile_b * chunks; number += threads) {
        const int row = number / chunks, c = number % chunks;
        const std::int64_t column = step * depth + c * chunk;
        const auto *from = static_cast<const std::uint16_t *>(call.x) + (first + row) * call.x_b + column;
        to[place<chunks>(row, c)] = read<chunk>(from, first + row < call.B ? call.I - column : 0, wide);
    }
}

template <Half half, int tile_b>
__device__ __forceinline__ void multiply(const Stage<tile_b> &stage, Sums<tile_b> &sums) {
    constexpr int together = 2 * optprune::cuda::columns / chunk;  // chunks of two products, one after the other
    const int lane = lane_of_warp(), o = first_output() + optprune::cuda::tall_row(lane);
    const int b = first_sample<tile_b>() + optprune::cuda::deep_row(lane);
#pragma unroll
    for (int c = 0; c < chunks; c += together) {
        std::uint32_t weight[2][4];
        for (int i = 0; i < 2; ++i) {
            const int at = c + i * together / 2 + optprune::cuda::tall_chunk(lane);
            optprune::cuda::load_matrices(&stage.weight[place<chunks>(o, at)], weight[i]);
        }
#pragma unroll
        for (int n = 0; n < products<tile_b>; ++n) {
            const int row = b + n * optprune::cuda::low;
            std::uint32_t x[4];
            optprune::cuda::load_matrices(&stage.x[place<chunks>(row, c + optprune::cuda::deep_chunk(lane))], x);
            optprune::cuda::multiply<half>(weight[0], {x[0], x[1]}, sums[n]);
            optprune::cuda::multiply<half>(weight[1], {x[2], x[3]}, sums[n]);
        }
    }
}

template <Kind kind, int tile_b>
__device__ __forceinline__ void store(const CudaCall &call, std::int64_t b, std::int64_t o, const Sums<tile_b> &sums) {
    for (int i = 0; i < 4; ++i) {
        const std::int64_t output = o + first_output() + i / 2 * 8 + lane_of_warp() / 4;
        if (output >= call.O) continue;
        const float bias = bias_of<kind>(call, output);
        for (int n = 0; n < products<tile_b>; ++n) {
            const std::int64_t sample =
                b + first_sample<tile_b>() + n * optprune::cuda::low + lane_of_warp() % 4 * 2 + i % 2;
            if (sample >= call.B) continue;
            static_cast<std::uint16_t *>(call.out)[sample * call.O + output] = rounded<kind>(sums[n][i] + bias);
        }
    }
}

// A block takes tiles of samples × outputs until none is left; samples fastest, so that neighbours decode the same rows,
// which the second-level cache then holds.
template <Kind kind, template <Kind, int> class Rows, int tile_b>
__global__ void __launch_bounds__(threads, 2) by_tensor_cores(const CudaCall call, std::int64_t tiles_b,
                                                              std::int64_t tiles_o) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    __shared__ Stage<tile_b> memory[2];
    const bool wide = aligned(call, sizeof(std::uint16_t), sizeof(Chunk));
    const std::int64_t steps = (call.I + depth - 1) / depth;
    for (std::int64_t task = blockIdx.x; task < tiles_b * tiles_o; task += gridDim.x) {
        const std::int64_t b = task % tiles_b * tile_b, o = task / tiles_b * tile_o;
        Rows<kind, own_rows> rows(call, o);
        Sums<tile_b> sums = {};
        for (std::int64_t step = 0; step <= steps; ++step) {  // a step is filled while the one before is multiplied
            if (step < steps) {
                Stage<tile_b> &next = memory[step % 2];
                rows.decode(call, o, step, IntoChunks{next.weight});
                copy_x<tile_b>(call, b, step, wide, next.x);
            }
            if (step > 0) multiply<half_of<kind>>(memory[(step - 1) % 2], sums);
            __syncthreads();
        }
        store<kind, tile_b>(call, b, o, sums);
    }
#else
    __trap();  // cuda_impl.py lets no call come here
#endif
}

}  // namespace
}  // namespace optprune::rows_linear::many

#endif
