// The pass over the weights: words of what is above the bracket; what is inside goes to a list, or into a bitmap.
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_CUDA_MARK_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_CUDA_MARK_H

#include "kernels/topk_threshold/cuda_select.h"

namespace optprune::topk_threshold::device {
namespace {

// Bits of a thread's weights in a tile: 8 of each load, the first load lowest.
struct Bits {
    std::uint32_t above, inside;    // keys > upper; in (lower, upper]
    std::uint32_t over, at_lower;   // how many are > upper + 1; are lower
};

struct Bounds {
    std::int32_t lower, upper;
};

__device__ __forceinline__ void compare(const std::int32_t (&keys)[per_load], int load, const Bounds &bounds,
                                        Bits &bits) {
    for (int i = 0; i < per_load; ++i) {
        const std::uint32_t bit = 1u << (load * per_load + i);
        if (keys[i] > bounds.upper) bits.above |= bit;
        if (keys[i] > bounds.lower && keys[i] <= bounds.upper) bits.inside |= bit;
        bits.over += keys[i] > bounds.upper + 1;
        bits.at_lower += keys[i] == bounds.lower;
    }
}

__device__ __forceinline__ void store_bytes(std::uint8_t *to, const Tile &tile, std::uint32_t bits) {
    for (int load = 0; load < loads; ++load) {
        const int byte = load * threads + static_cast<int>(threadIdx.x);
        if (byte / 8 < tile.words) to[byte] = static_cast<std::uint8_t>(bits >> (load * per_load));
    }
}

// Put what is inside of the bracket where it belongs: into the bitmap, or into the list, in no order within a tile.
__device__ __forceinline__ void collect(const CudaCall &call, int j, std::int64_t number, const Tile &tile,
                                        std::uint32_t inside) {
    __shared__ unsigned count;
    __shared__ unsigned long long start;
    Rank &own = call.state->ranks[j];
    const std::int64_t capacity = call.plan[device::capacity];
    std::uint64_t *arena = call.arena + j * capacity;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    unsigned slot = 0;
    if (inside) slot = atomicAdd(&count, static_cast<unsigned>(__popc(inside)));
    __syncthreads();
    if (threadIdx.x == 0) {
        start = count && !own.ties ? atomicAdd(&own.listed, static_cast<unsigned long long>(count)) : 0;
        call.segments[2 * call.n * j + number] = static_cast<std::int64_t>(start);
        call.segments[2 * call.n * j + call.n + number] = count;
    }
    __syncthreads();
    if (own.ties) {
        store_bytes(reinterpret_cast<std::uint8_t *>(arena + tile.global), tile, inside);
        return;
    }
    for (; inside; inside &= inside - 1, ++slot) {
        const int bit = __ffs(static_cast<int>(inside)) - 1;
        const int place = (bit / per_load * threads + static_cast<int>(threadIdx.x)) * per_load + bit % per_load;
        const auto entry = static_cast<std::int64_t>(start + slot);
        if (entry < capacity) reinterpret_cast<Entry *>(arena)[entry] = {place, tile.key(place, call.drop)};
    }
}

struct Sums {
    unsigned long long of[2][4];
};

__device__ __forceinline__ bool is_redone(const Rank &rank) { return rank.verdict == known || rank.verdict == missed; }

// Blocks share the tiles. `again`: mark anew the ranks whose key was not where it was looked for; without one there is
// nothing to do.
template <int ranks>
__global__ void __launch_bounds__(threads, ranks == 1 ? 4 : 2) mark(const CudaCall call, bool again) {
    __shared__ Sums sums;
    bool redo[ranks], any = false;
    Bounds bounds[ranks];
    for (int j = 0; j < ranks; ++j) {
        const Rank &own = call.state->ranks[j];
        bounds[j] = {static_cast<std::int32_t>(own.lower), static_cast<std::int32_t>(own.upper)};
        redo[j] = !again || is_redone(own);
        any |= redo[j];
    }
    if (!any) return;
    if (threadIdx.x == 0) sums = {};
    unsigned long long own[ranks][4] = {};
    for (std::int64_t number = blockIdx.x; number < call.n; number += gridDim.x) {
        const Tile tile(call, number);
        Bits bits[ranks] = {};
        bool nan = false;
        each_load(tile, call.drop, [&](int load, const std::int32_t(&keys)[per_load]) {
            for (int i = 0; i < per_load; ++i) nan |= keys[i] > infinity;
            for (int j = 0; j < ranks; ++j) compare(keys, load, bounds[j], bits[j]);
        });
        // The first tensor counts most.
        if (nan) atomicMax(&call.state->nans, static_cast<unsigned long long>(call.plan[tensors] - tile.tensor));
        auto *words = global_memory<std::uint8_t>(field(call, words_address, tile.tensor) + 8 * tile.local);
        store_bytes(words, tile, bits[0].above);
        if (ranks == 2) {
            auto *pool = global_memory<std::uint8_t>(field(call, pool_address, tile.tensor) + 8 * tile.local);
            store_bytes(pool, tile, bits[ranks - 1].above & ~bits[0].above);
        }
        for (int j = 0; j < ranks; ++j) {
            own[j][0] += bits[j].over;
            own[j][1] += __popc(bits[j].above);
            own[j][2] += __popc(bits[j].inside);
            own[j][3] += bits[j].at_lower;
            if (redo[j]) collect(call, j, number, tile, bits[j].inside);
        }
    }
    if (again) return;
    __syncthreads();
    for (int j = 0; j < ranks; ++j) {
        own[j][2] += own[j][1];
        own[j][3] += own[j][2];
        for (int i = 0; i < 4; ++i) atomicAdd(&sums.of[j][i], own[j][i]);
    }
    __syncthreads();
    if (threadIdx.x < 4 * ranks) {
        const int j = static_cast<int>(threadIdx.x) / 4, i = static_cast<int>(threadIdx.x) % 4;
        atomicAdd(&call.state->ranks[j].counts[i], sums.of[j][i]);
    }
}

}  // namespace
}  // namespace optprune::topk_threshold::device

#endif
