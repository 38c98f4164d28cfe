// The kernel of float16 and bfloat16 for compute capability 9.0a. In a header of its own, as cuda_body.h is.
//
//   global ── copies ──▶ shared: weight ── ldmatrix ──▶ registers: weight & kept ──┐
//                        shared: x ──────────────────────────────────────────── wgmma ──▶ sums ── turned ──▶ shared, out
//
// A product takes its first factor alone from registers, where the mask is applied: so outputs are its rows and samples
// its columns. Two warpgroups take 64 outputs each and share the samples, 128 of them or twice as many. Products run
// beside the threads, which meanwhile apply the mask to what is multiplied next.
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_WGMMA_BODY_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_WGMMA_BODY_H

#include <cstddef>

#include "kernels/masked_linear/cuda_kept.h"
#include "kernels/masked_linear/cuda_tile.h"
#include "kernels/masked_linear/cuda_wgmma_tile.h"

namespace optprune::masked_linear::wgmma {
namespace {

constexpr int threads = 128 * tile_o / outputs, warp_o = outputs / 4;
constexpr int pattern = 1024;  // bytes after which the swizzle repeats, and where it begins

// The bits of a word of mask, the lower half first.
struct Word {
    std::uint32_t half[2];
};

// What a step multiplies, [rows, depth] of x and of weight; zeros past the last column, and rows anew past the last.
template <int products>
struct Stage {
    Chunk x[products * samples * chunks], weight[tile_o * chunks];
    Word kept[tile_o];
};

// 64 sums of a thread for each product, and what it multiplies: four products of 16 columns in turn.
template <int products>
using Sums = float[products][outputs * samples / 128];
using Weights = std::uint32_t[depth / columns][4];

// How many stages there are: twice the samples leave room for one block on a multiprocessor, else there are two. A stage
// is written anew two steps after it was multiplied: in the step after, its last products may still run.
template <int products>
constexpr int stages = 2 + products;
template <int products>
constexpr int ahead = stages<products> - 2;

template <int products>
constexpr int shared_bytes = pattern + stages<products> * static_cast<int>(sizeof(Stage<products>));

template <int products>
using Tile = masked_linear::Tile<products * samples, tile_o>;

// One step of columns on its way into shared memory.
template <int products>
__device__ __forceinline__ void fetch(const CudaCall &call, const Tile<products> &tile, int step,
                                      Stage<products> &stage) {
    const std::int64_t column = std::int64_t{step} * depth, left = call.I - column;
    const auto copy = [](Chunk &to, const std::uint16_t *from, int there) {
        optprune::cuda::copy_async<16>(&to, from, 2 * there);
    };
    share<threads, products * samples, chunks>(tile.x, column, left, stage.x, copy);
    share<threads, tile_o, chunks>(tile.weight, column, left, stage.weight, copy);
    const unsigned row = threadIdx.x;
    if (row < tile_o) {
        optprune::cuda::copy_async<8>(&stage.kept[row], tile.words + tile.weight.within(row) * call.words_o + step, 8);
    }
}

// Begin the products of a step. `o` is the first of the warp's outputs.
template <Half half, int products>
__device__ __forceinline__ void multiply(const Stage<products> &stage, int o, int lane, Weights &weights,
                                         Sums<products> &sums) {
    const Word upper = stage.kept[o + lane / 4], lower = stage.kept[o + lane / 4 + 8];
    const std::uint32_t x = optprune::cuda::shared_address(stage.x);
#pragma unroll
    for (int k = 0; k < depth / columns; ++k) {
        optprune::cuda::await_products<depth / columns - 1>(weights[k]);  // those of a step ago
        const int at = optprune::cuda::place<chunks>(o + optprune::cuda::tall_row(lane),
                                                     2 * k + optprune::cuda::tall_chunk(lane));
        optprune::cuda::load_matrices(&stage.weight[at], weights[k]);
        const Kept kept[2] = {{upper.half[k / 2], lane}, {lower.half[k / 2], lane}};
        for (int i = 0; i < 4; ++i) weights[k][i] &= kept[i % 2].pair(k % 2 * 2 + i / 2);
        optprune::cuda::fence_registers(weights[k]);
        for (int n = 0; n < products; ++n) {
            const auto rows = x + static_cast<std::uint32_t>(n * samples * chunks * sizeof(Chunk));
            optprune::cuda::multiply_async<half>(weights[k], descriptor(rows, k), sums[n]);
        }
        optprune::cuda::close_products();
    }
}

// The sums of a warp, rounded, to where results wait: pairs of samples of an output become pairs of outputs of a sample.
template <Half half, int products>
__device__ __forceinline__ void turn(const Sums<products> &sums, int o, int lane, Chunk *results) {
    Chunk *to = results + result_place(result_sample(lane), o / chunk + result_chunk(lane));  // the same for each eight
    for (int n = 0; n < products; ++n) {
        for (int j = 0; j < samples / 8; j += 2) {
            std::uint32_t pairs[4];
            for (int i = 0; i < 4; ++i) {
                pairs[i] = optprune::cuda::rounded<half>(sums[n][4 * j + 2 * i], sums[n][4 * j + 2 * i + 1]);
            }
            optprune::cuda::store_turned(to + result_place(n * samples + 8 * j, 0), pairs);
        }
    }
}

// Results to where they belong; the lanes of a warp have pairs that are neighbours.
template <int products>
__device__ __forceinline__ void store(const CudaCall &call, const Tile<products> &tile, const Chunk *results) {
    constexpr unsigned pairs = tile_o / 2;
    const int o = static_cast<int>(threadIdx.x % pairs * 2);
    if (tile.o + o >= call.O) return;
    for (unsigned row = threadIdx.x / pairs; row <= tile.x.last; row += threads / pairs) {
        const std::uint32_t pair = results[result_place(static_cast<int>(row), o / chunk)].pair[o % chunk / 2];
        store_pair(call, tile.p * call.B + tile.b + row, tile.o + o, pair);
    }
}

// A block takes tiles of outputs × samples × candidates until none is left. Rows allow copies of 16 bytes.
template <Half half, int products>
__global__ void __launch_bounds__(threads, 3 - products)
    kernel(const CudaCall call, std::int64_t tiles_b, std::int64_t tiles_o) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
    static_assert(sizeof(Stage<products>) % pattern == 0 && offsetof(Stage<products>, x) == 0);
    char *shared = optprune::cuda::shared_memory();
    auto *memory = reinterpret_cast<Stage<products> *>(shared + (-optprune::cuda::shared_address(shared) % pattern));
    auto *results = reinterpret_cast<Chunk *>(memory);
    const int lane = static_cast<int>(threadIdx.x) % 32, o = static_cast<int>(threadIdx.x) / 32 * warp_o;
    const int steps = static_cast<int>((call.I + depth - 1) / depth);
    for (std::int64_t task = blockIdx.x; task < call.P * tiles_b * tiles_o; task += gridDim.x) {
        const Tile<products> tile(call, task, tiles_b, tiles_o);
        Sums<products> sums = {};
        Weights weights = {};
        int next = 0, now = 0;
        for (; next < ahead<products>; ++next) {
            if (next < steps) fetch<products>(call, tile, next, memory[next]);
            optprune::cuda::close_copies();
        }
        for (int step = 0; step < steps; ++step) {
            optprune::cuda::await_copies<ahead<products> - 1>();
            optprune::cuda::show_to_products();
            __syncthreads();  // this step is there, and everyone's products of the last but one are done
            if (step + ahead<products> < steps) fetch<products>(call, tile, step + ahead<products>, memory[next]);
            optprune::cuda::close_copies();
            multiply<half, products>(memory[now], o, lane, weights, sums);
            next = next == stages<products> - 1 ? 0 : next + 1;
            now = now == stages<products> - 1 ? 0 : now + 1;
        }
        for (auto &own : sums) optprune::cuda::await_products<0>(own);
        __syncthreads();  // all products are done, and their memory is free
        turn<half, products>(sums, o, lane, results);
        __syncthreads();
        store<products>(call, tile, results);
        __syncthreads();
    }
#else
    __trap();  // cuda_impl.py lets no call come here
#endif
}

}  // namespace
}  // namespace optprune::masked_linear::wgmma

#endif
