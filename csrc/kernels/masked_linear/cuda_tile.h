// What the kernels of 16-bit types share: rows of a tile, copied in chunks of 16 bytes, and pairs of results.
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_TILE_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_TILE_H

#include "common/anywhere.h"
#include "common/cuda_fragments.h"
#include "kernels/masked_linear/cuda.h"

namespace optprune::masked_linear {
namespace {

using optprune::cuda::Half;

using optprune::cuda::chunk;

struct alignas(16) Chunk {
    std::uint32_t pair[chunk / 2];
};

// Rows of a tile. In the place of those past the last one the last is read again: what it gives nobody stores.
struct Rows {
    const std::uint16_t *first;
    std::int64_t step;
    unsigned last;

    __device__ std::int64_t within(unsigned row) const { return row < last ? row : last; }
};

template <int tile_b, int tile_o>
struct Tile {
    Rows x, weight;
    const std::uint64_t *words;
    std::int64_t p, b, o;

    __device__ Tile(const CudaCall &call, std::int64_t task, std::int64_t tiles_b, std::int64_t tiles_o) {
        o = task % tiles_o * tile_o;  // outputs fastest: neighbours share the samples in the second-level cache
        b = task / tiles_o % tiles_b * tile_b;
        p = task / tiles_o / tiles_b;
        x = {static_cast<const std::uint16_t *>(call.x) + p * call.x_p + b * call.x_b, call.x_b, last(call.B - b, tile_b)};
        weight = {static_cast<const std::uint16_t *>(call.weight) + o * call.weight_o, call.weight_o, last(call.O - o, tile_o)};
        words = call.words + p * call.words_p + o * call.words_o;
    }

    __device__ static unsigned last(std::int64_t left, int rows) {
        return static_cast<unsigned>(left < rows ? left : rows) - 1;
    }
};

// Bytes of the widest copy that the rows of x and of weight allow, or 2.
OPTPRUNE_ANYWHERE inline int copy_width(const CudaCall &call) {
    const auto steps = static_cast<std::uint64_t>(call.x_p | call.x_b | call.weight_o) * sizeof(std::uint16_t);
    const auto all = reinterpret_cast<std::uintptr_t>(call.x) | reinterpret_cast<std::uintptr_t>(call.weight) | steps;
    return all % 16 == 0 ? 16 : all % 4 == 0 ? 4 : 2;
}

// The threads share the chunks of `rows` rows from a column on, of which `left` columns are there. copy(to, from, there)
// is called for each; the first `there` of its numbers exist, and are at `from`.
template <int threads, int rows, int chunks, class Copy>
__device__ __forceinline__ void share(const Rows &from, std::int64_t column, std::int64_t left, Chunk *to,
                                      const Copy &copy) {
    constexpr int apart = threads / chunks;
    static_assert(apart * chunks == threads && apart % 8 == 0 && rows % apart == 0);  // places repeat every eight rows
    const unsigned row = threadIdx.x / chunks;
    const int c = static_cast<int>(threadIdx.x % chunks);
    const std::int64_t rest = left - c * chunk;
    const int there = rest <= 0 ? 0 : rest < chunk ? static_cast<int>(rest) : chunk;
    const std::uint16_t *chunk_of_first = from.first + (there ? column + c * chunk : 0);
    to += optprune::cuda::place<chunks>(static_cast<int>(row), c);
#pragma unroll
    for (unsigned i = 0; i < rows; i += apart) {
        copy(to[i * chunks], chunk_of_first + from.within(row + i) * from.step, there);
    }
}

// Two neighbouring outputs of a sample, of which one at least is there; the first in the lower half.
__device__ __forceinline__ void store_pair(const CudaCall &call, std::int64_t row, std::int64_t output,
                                           std::uint32_t pair) {
    std::uint16_t *to = static_cast<std::uint16_t *>(call.out) + row * call.O + output;
    if (call.O % 2 == 0) {
        *reinterpret_cast<std::uint32_t *>(to) = pair;
    } else {
        to[0] = static_cast<std::uint16_t>(pair);
        if (output + 1 < call.O) to[1] = static_cast<std::uint16_t>(pair >> 16);
    }
}

}  // namespace
}  // namespace optprune::masked_linear

#endif
