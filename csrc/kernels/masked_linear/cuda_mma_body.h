// The kernel of float16 and bfloat16: tensor cores, masks applied to the fragments in registers. In a header of its own,
// as cuda_body.h is.
//
//   global ── copies two steps ahead ──▶ shared: three steps ── ldmatrix ──▶ registers: x, weight & kept ── mma ──▶ sums
//
// A block's four warps take 64 samples × 32 outputs each, two by two.
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_MMA_BODY_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_MMA_BODY_H

#include "kernels/masked_linear/cuda.h"
#include "kernels/masked_linear/cuda_fragments.h"

namespace optprune::masked_linear::mma {
namespace {

using optprune::cuda::Half;
using optprune::cuda::place;

constexpr int warps_b = 2, warps_o = 2, threads = 32 * warps_b * warps_o;
constexpr int products_b = 4, products_o = 4;  // of a warp
constexpr int warp_b = products_b * samples, warp_o = products_o * outputs;
constexpr int tile_b = warps_b * warp_b, tile_o = warps_o * warp_o;
constexpr int stages = 3, ahead = stages - 1;

struct alignas(16) Chunk {
    std::uint32_t pair[chunk / 2];
};

// What a step multiplies, [rows, depth] of x and of weight; zeros outside.
struct Stage {
    Chunk x[tile_b * chunks], weight[tile_o * chunks];
    std::uint32_t kept[tile_o];
};

using Sums = float[products_b][products_o][4];

// Rows of a tile, and how many of them there are.
struct Rows {
    const std::uint16_t *first;
    std::int64_t step, number;
};

struct Tile {
    Rows x, weight;
    const std::uint64_t *words;
    std::int64_t p, b, o;

    __device__ Tile(const CudaCall &call, std::int64_t task, std::int64_t tiles_b, std::int64_t tiles_o) {
        o = task % tiles_o * tile_o;  // outputs fastest: neighbours share the samples in the second-level cache
        b = task / tiles_o % tiles_b * tile_b;
        p = task / tiles_o / tiles_b;
        x = {static_cast<const std::uint16_t *>(call.x) + p * call.x_p + b * call.x_b, call.x_b, call.B - b};
        weight = {static_cast<const std::uint16_t *>(call.weight) + o * call.weight_o, call.weight_o, call.O - o};
        words = call.words + p * call.words_p + o * call.words_o;
    }
};

// Bytes of the widest copy that the rows of x and of weight allow, or 2.
OPTPRUNE_ANYWHERE inline int copy_width(const CudaCall &call) {
    const auto steps = static_cast<std::uint64_t>(call.x_p | call.x_b | call.weight_o) * sizeof(std::uint16_t);
    const auto all = reinterpret_cast<std::uintptr_t>(call.x) | reinterpret_cast<std::uintptr_t>(call.weight) | steps;
    return all % 16 == 0 ? 16 : all % 4 == 0 ? 4 : 2;
}

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

// The threads share the chunks of `rows` rows from a column on; `left` columns are there.
template <bool wide, int rows>
__device__ __forceinline__ void copy_rows(const Rows &from, std::int64_t column, std::int64_t left, bool pairs,
                                          Chunk *to) {
    for (int number = static_cast<int>(threadIdx.x); number < rows * chunks; number += threads) {
        const int row = number / chunks, c = number % chunks;
        const std::int64_t rest = row < from.number ? left - c * chunk : 0;
        const int there = rest <= 0 ? 0 : rest < chunk ? static_cast<int>(rest) : chunk;
        const std::int64_t at = there ? row * from.step + column + c * chunk : 0;
        copy_chunk<wide>(to[place<chunks>(row, c)], from.first + at, there, pairs);
    }
}

// One step of columns on its way into shared memory.
template <bool wide>
__device__ __forceinline__ void fetch(const CudaCall &call, const Tile &tile, std::int64_t step, bool pairs,
                                      Stage &stage) {
    const std::int64_t column = step * depth;
    copy_rows<wide, tile_b>(tile.x, column, call.I - column, pairs, stage.x);
    copy_rows<wide, tile_o>(tile.weight, column, call.I - column, pairs, stage.weight);
    const int row = static_cast<int>(threadIdx.x);
    if (row < tile_o) {
        const bool there = row < tile.weight.number;
        const auto *halves = reinterpret_cast<const std::uint32_t *>(tile.words);  // of a word, the lower first
        const std::int64_t at = there ? 2 * row * call.words_o + step : 0;
        optprune::cuda::copy_async<4>(&stage.kept[row], halves + at, there ? 4 : 0);
    }
}

template <Half half>
__device__ __forceinline__ void multiply(const Stage &stage, int b, int o, int lane, Sums &sums) {
    std::uint32_t bits[products_o];
    for (int n = 0; n < products_o; ++n) bits[n] = stage.kept[o + n * outputs + lane / 4] >> first_bit(lane);
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
            for (int i = 0; i < 4; ++i) weight[n + i / 2][i % 2] = both[i] & kept(bits[n + i / 2] >> (k + i % 2 * 8));
        }
        for (int m = 0; m < products_b; ++m) {
            for (int n = 0; n < products_o; ++n) optprune::cuda::multiply<half>(x[m], weight[n], sums[m][n]);
        }
    }
}

// Two neighbouring outputs of a sample, of which one at least is there.
template <Half half>
__device__ __forceinline__ void store_pair(const CudaCall &call, std::int64_t row, std::int64_t output, float first,
                                           float second) {
    std::uint16_t *to = static_cast<std::uint16_t *>(call.out) + row * call.O + output;
    const std::uint32_t pair = optprune::cuda::rounded<half>(first, second);
    if (call.O % 2 == 0) {
        *reinterpret_cast<std::uint32_t *>(to) = pair;
    } else {
        to[0] = static_cast<std::uint16_t>(pair);
        if (output + 1 < call.O) to[1] = static_cast<std::uint16_t>(pair >> 16);
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
                if (output < call.O) store_pair<half>(call, tile.p * call.B + sample, output, pair[0], pair[1]);
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
