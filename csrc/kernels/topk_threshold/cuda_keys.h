// Keys on the device: magnitudes as integers, and how a tile's are read.
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_CUDA_KEYS_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_CUDA_KEYS_H

#include "kernels/topk_threshold/cuda.h"

namespace optprune::topk_threshold::device {
namespace {

constexpr std::int32_t infinity = 0x7F800000, kept_nan = infinity + 1, dropped_nan = -1;
constexpr std::int32_t no_key = -3;  // outside of a row: below every bound, so that nothing counts it
constexpr std::int32_t no_lower = -2, no_upper = 0x7FFFFFFF;
constexpr int per_load = 8;                                     // weights that a thread takes at a time: a byte of mask
constexpr int loads = tile_words * 64 / (threads * per_load);   // of a thread in a tile

__device__ __forceinline__ std::int64_t field(const CudaCall &call, Field which, std::int64_t tensor) {
    return call.plan[header + which * call.plan[tensors] + tensor];
}

// The compiler does not see where an address that is a number points to, and would ask at every store; __ldg tells it
// for loads.
template <class T>
__device__ __forceinline__ T *global_memory(std::int64_t address) {
    T *pointer = reinterpret_cast<T *>(address);
    __builtin_assume(__isGlobal(pointer));
    return pointer;
}

// All NaN are one key: above infinity, or below zero.
__device__ __forceinline__ std::int32_t settled(std::int32_t key, bool drop) {
    return key <= infinity ? key : drop ? dropped_nan : kept_nan;
}

__device__ __forceinline__ std::int32_t key_of_half(std::uint16_t raw) {  // every float16 is a normal float32, or 0
    return __float_as_int(__half2float(__ushort_as_half(static_cast<unsigned short>(raw & 0x7FFF))));
}

__device__ __forceinline__ std::int32_t key_at(std::int64_t address, std::int64_t kind, std::int64_t place, bool drop) {
    if (kind == 0) return settled(__ldg(reinterpret_cast<const int *>(address) + place) & 0x7FFFFFFF, drop);
    const std::uint16_t raw = __ldg(reinterpret_cast<const unsigned short *>(address) + place);
    return settled(kind == 1 ? raw << 16 & 0x7FFFFFFF : key_of_half(raw), drop);
}

// A tile, and where its weights are.
//
//   place   0 … 8191      bit of the tile's words; word place / 64
struct Tile {
    std::int64_t address, kind, columns, row_words, step;
    std::int64_t row, word;      // of the tensor, where the tile starts
    std::int64_t words;          // of the tile
    std::int64_t local, global;  // first word in the tensor, in the bitmap
    std::int64_t tensor;
    bool plain;                  // 8,192 weights, one after another, at a multiple of 16 bytes

    __device__ Tile(const CudaCall &call, std::int64_t number) {
        tensor = call.owners[number];
        local = (number - field(call, first_tile, tensor)) * tile_words;
        global = field(call, first_word, tensor) + local;
        const std::int64_t all = field(call, tensor_words, tensor);
        words = all - local < tile_words ? all - local : tile_words;
        address = field(call, device::address, tensor);
        kind = field(call, device::kind, tensor);
        columns = field(call, device::columns, tensor);
        row_words = field(call, device::row_words, tensor);
        step = field(call, row_step, tensor);
        row = local / row_words;
        word = local - row * row_words;
        plain = all == row_words && field(call, wide_loads, tensor) && (local + tile_words) * 64 <= columns;
    }

    // Where 8 places from a multiple of 8 on lie in memory, and how many of them are weights.
    __device__ std::int64_t weight(int place, int &there) const {
        const std::uint32_t at = static_cast<std::uint32_t>(word) + place / 64;  // rows are shorter than 2^31 words
        const std::uint32_t below = at / static_cast<std::uint32_t>(row_words);
        const std::int64_t column = static_cast<std::int64_t>(at - below * static_cast<std::uint32_t>(row_words)) * 64 +
                                    place % 64;
        const std::int64_t left = place / 64 < words ? columns - column : 0;
        there = left <= 0 ? 0 : left < per_load ? static_cast<int>(left) : per_load;
        return (row + below) * step + column;
    }

    // The key of a place that is a weight.
    __device__ std::int32_t key(int place, bool drop) const {
        int there;
        const std::int64_t at = plain ? local * 64 + place
                                      : weight(place / per_load * per_load, there) + place % per_load;
        return key_at(address, kind, at, drop);
    }
};

// One of the four numbers of a load of 16 bytes.
__device__ __forceinline__ std::uint32_t part(const uint4 &all, int i) {
    return i == 0 ? all.x : i == 1 ? all.y : i == 2 ? all.z : all.w;
}

// What a thread reads of a tile: first all of it, so that its loads wait together, then the keys of each load. `plain`
// tiles are read 16 bytes at a time.
struct Plain32 {
    static constexpr int unroll = loads;
    uint4 raw[loads][2];

    __device__ Plain32(const Tile &tile) {
        const auto *from = reinterpret_cast<const uint4 *>(tile.address + tile.local * 64 * 4);
#pragma unroll
        for (int load = 0; load < loads; ++load) {
            const int at = 2 * (load * threads + static_cast<int>(threadIdx.x));
            raw[load][0] = __ldg(from + at);
            raw[load][1] = __ldg(from + at + 1);
        }
    }

    __device__ void keys(int load, bool drop, std::int32_t (&out)[per_load]) const {
        for (int i = 0; i < per_load; ++i) {
            out[i] = settled(static_cast<std::int32_t>(part(raw[load][i / 4], i % 4) & 0x7FFFFFFF), drop);
        }
    }
};

template <bool half>
struct Plain16 {
    static constexpr int unroll = loads;
    uint4 raw[loads];

    __device__ Plain16(const Tile &tile) {
        const auto *from = reinterpret_cast<const uint4 *>(tile.address + tile.local * 64 * 2);
#pragma unroll
        for (int load = 0; load < loads; ++load) {
            raw[load] = __ldg(from + load * threads + static_cast<int>(threadIdx.x));
        }
    }

    __device__ void keys(int load, bool drop, std::int32_t (&out)[per_load]) const {
        for (int i = 0; i < per_load; ++i) {
            const std::uint32_t pair = part(raw[load], i / 2);
            if (half) {
                out[i] = settled(key_of_half(static_cast<std::uint16_t>(i % 2 ? pair >> 16 : pair)), drop);
            } else {
                out[i] = settled(static_cast<std::int32_t>(i % 2 ? pair & 0x7FFF0000 : pair << 16 & 0x7FFFFFFF), drop);
            }
        }
    }
};

struct Single {
    static constexpr int unroll = 1;  // four times the addresses would take all registers
    const Tile &tile;

    __device__ Single(const Tile &of) : tile(of) {}

    __device__ void keys(int load, bool drop, std::int32_t (&out)[per_load]) const {
        int there;
        const std::int64_t at = tile.weight((load * threads + static_cast<int>(threadIdx.x)) * per_load, there);
        for (int i = 0; i < per_load; ++i) {
            out[i] = i < there ? key_at(tile.address, tile.kind, at + i, drop) : no_key;
        }
    }
};

// take(load, keys) for every load of a thread.
template <class Read, class Take>
__device__ __forceinline__ void each_load_of(const Tile &tile, bool drop, const Take &take) {
    const Read read(tile);
#pragma unroll (Read::unroll)
    for (int load = 0; load < loads; ++load) {
        std::int32_t keys[per_load];
        read.keys(load, drop, keys);
        take(load, keys);
    }
}

template <class Take>
__device__ __forceinline__ void each_load(const Tile &tile, bool drop, const Take &take) {
    if (!tile.plain) {
        each_load_of<Single>(tile, drop, take);
    } else if (tile.kind == 0) {
        each_load_of<Plain32>(tile, drop, take);
    } else if (tile.kind == 1) {
        each_load_of<Plain16<false>>(tile, drop, take);
    } else {
        each_load_of<Plain16<true>>(tile, drop, take);
    }
}

}  // namespace
}  // namespace optprune::topk_threshold::device

#endif
