// The kernel of float16 and bfloat16: tensor cores, masks applied to the fragments in registers. In a header of its own,
// as cuda_body.h is.
//
//   global ── copies two steps ahead ──▶ shared: three steps ── ldmatrix ──▶ registers: x, weight & kept ── mma ──▶ sums
//
// A block's four warps take 64 samples × 32 outputs each, two by two.
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_MMA_BODY_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_MMA_BODY_H

#include "kernels/masked_linear/cuda_fragments.h"
#include "kernels/masked_linear/cuda_kept.h"
#include "kernels/masked_linear/cuda_tile.h"

namespace optprune::masked_linear::mma {
namespace {

using optprune::cuda::place;

constexpr int warps_b = 2, warps_o = 2, threads = 32 * warps_b * warps_o;
constexpr int products_b = 4, products_o = 4;  // of a warp
constexpr int warp_b = products_b * samples, warp_o = products_o * outputs;
constexpr int tile_b = warps_b * warp_b, tile_o = warps_o * warp_o;
constexpr int stages = 3, ahead = stages - 1;

// What a step multiplies, [rows, depth] of x and of weight; zeros past the last column, and rows anew past the last.
struct Stage {
    Chunk x[tile_b * chunks], weight[tile_o * chunks];
    std::uint32_t kept[tile_o];
};

using Sums = float[products_b][products_o][4];
using Tile = masked_linear::Tile<tile_b, tile_o>;

// Copy a chunk of which `there` numbers exist: 16 bytes at once if `wide`, else pairs of numbers, or where even these are
// not aligned number by number, through registers for which the thread has to wait.
template <bool wide>
__device__ __forceinline__ void copy_chunk(Chunk &to, const std::uint16_t *from, int there, bool pairs) {
    if constexpr (wide) {
        optprune::cuda::copy_async<16>(&to, from, 2 * there);
    } else if (pairs) {
        for (int i = 0; i < chunk; i += 2) {
            const int bytes = there <= i ? 0 : there == i + 1 ? 2 : 4;
            optprune::cuda::copy_async<4>(&to.pair[i / 2], bytes ? from + i : from, bytes);
        }
    } else {
        Chunk own{};
        for (int i = 0; i < chunk; ++i) {
            if (i < there) own.pair[i / 2] |= static_cast<std::uint32_t>(from[i]) << 16 * (i % 2);
        }
        to = own;
    }
}

// One step of columns on its way into shared memory.
template <bool wide>
__device__ __forceinline__ void fetch(const CudaCall &call, const Tile &tile, std::int64_t step, bool pairs,
                                      Stage &stage) {
    const std::int64_t column = step * depth, left = call.I - column;
    const auto copy = [pairs](Chunk &to, const std::uint16_t *from, int there) {
        copy_chunk<wide>(to, from, there, pairs);
    };
    share<threads, tile_b, chunks>(tile.x, column, left, stage.x, copy);
    share<threads, tile_o, chunks>(tile.weight, column, left, stage.weight, copy);
    const unsigned row = threadIdx.x;
    if (row < tile_o) {
        const auto *halves = reinterpret_cast<const std::uint32_t *>(tile.words);  // of a word, the lower first
        const std::int64_t at = 2 * tile.weight.within(row) * call.words_o + step;
        optprune::cuda::copy_async<4>(&stage.kept[row], halves + at, 4);
    }
}

template <Half half>
__device__ __forceinline__ void multiply(const Stage &stage, int b, int o, int lane, Sums &sums) {
    std::uint32_t bits[products_o];
    for (int n = 0; n < products_o; ++n) bits[n] = stage.kept[o + n * outputs + lane / 4];
#pragma unroll
    for (int k = 0; k < depth; k += columns) {
        std::uint32_t x[products_b][4], weight[products_o][2];
        for (int m = 0; m < products_b; ++m) {
            const int at = place<chunks>(b + m * samples + optprune::cuda::tall_row(lane),
                                         k / chunk + optprune::cuda::tall_chunk(lane));
            optprune::cuda::load_matrices(&stage.x[at], x[m]);
        }
        for (int n = 0; n < products_o; n += 2) {
            const int at = place<chunks>(o + n * outputs + optprune::cuda::low_row(lane),
                                         k / chunk + optprune::cuda::low_chunk(lane));
            std::uint32_t both[4];
            optprune::cuda::load_matrices(&stage.weight[at], both);
            for (int i = 0; i < 4; ++i) {
                weight[n + i / 2][i % 2] = both[i] & Kept(bits[n + i / 2], lane).pair(k / chunk + i % 2);
            }
        }
        for (int m = 0; m < products_b; ++m) {
            for (int n = 0; n < products_o; ++n) optprune::cuda::multiply<half>(x[m], weight[n], sums[m][n]);
        }
    }
}

template <Half half>
__device__ __forceinline__ void store(const CudaCall &call, const Tile &tile, int b, int o, int lane,
                                      const Sums &sums) {
    for (int m = 0; m < products_b; ++m) {
        for (int upper = 0; upper < 2; ++upper) {
            const std::int64_t sample = tile.b + b + m * samples + upper * 8 + lane / 4;
            if (sample >= call.B) continue;
            for (int n = 0; n < products_o; ++n) {
                const std::int64_t output = tile.o + o + n * outputs + lane % 4 * 2;
                const float *pair = &sums[m][n][2 * upper];
                if (output >= call.O) continue;
                store_pair(call, tile.p * call.B + sample, output, optprune::cuda::rounded<half>(pair[0], pair[1]));
            }
        }
    }
}

// A block takes tiles of outputs × samples × candidates until none is left. wide: rows allow copies of 16 bytes.
template <Half half, bool wide>
__global__ void __launch_bounds__(threads, 4) kernel(const CudaCall call, std::int64_t tiles_b, std::int64_t tiles_o) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    __shared__ Stage memory[stages];
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int b = warp % warps_b * warp_b, o = warp / warps_b * warp_o;
    const bool pairs = copy_width(call) > 2;
    const std::int64_t steps = (call.I + depth - 1) / depth;
    for (std::int64_t task = blockIdx.x; task < call.P * tiles_b * tiles_o; task += gridDim.x) {
        const Tile tile(call, task, tiles_b, tiles_o);
        Sums sums = {};
        for (int step = 0; step < ahead; ++step) {
            if (step < steps) fetch<wide>(call, tile, step, pairs, memory[step]);
            optprune::cuda::close_copies();
        }
        int now = 0;
        for (std::int64_t step = 0; step < steps; ++step) {
            optprune::cuda::await_copies<ahead - 1>();
            __syncthreads();  // this step is there, and everyone is done with the last one, whose place is written anew
            const int next = now == 0 ? stages - 1 : now - 1;
            if (step + ahead < steps) fetch<wide>(call, tile, step + ahead, pairs, memory[next]);
            optprune::cuda::close_copies();
            multiply<half>(memory[now], b, o, lane, sums);
            now = now == stages - 1 ? 0 : now + 1;
        }
        store<half>(call, tile, b, o, lane, sums);
        __syncthreads();
    }
#else
    __trap();  // cuda_impl.py lets no call come here
#endif
}

}  // namespace
}  // namespace optprune::masked_linear::mma

#endif
