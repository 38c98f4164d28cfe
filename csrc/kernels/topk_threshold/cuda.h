// The k largest weights by magnitude over many tensors, as masks, on a CUDA device; and the weights that follow.
//
//   sample ──▶ bracket ──▶ mark ──▶ key ──▶ (mark anew) ──▶ patch
//              2 keys      words, list      where the key was not inside the bracket
//
// All is enqueued at once and nothing waits: what depends on values is decided on the device. A rank whose key the
// bracket missed is found by histograms over all weights, and the words are written again; else those launches find
// nothing to do.
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_CUDA_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_CUDA_H

#include <cstdint>

namespace optprune::topk_threshold::device {

// Kinds of numbers in the plan: optprune_fast/ops/topk_threshold/device_plan.py writes it.
enum Header {
    tensors, tiles, all_words, weights, samples, capacity, search_steps, direct, wanted, wanted_second, sample_ranks
};
enum Field {
    first_tile, first_word, first_weight, tensor_words, address, words_address, pool_address, columns, row_step,
    row_words, kind, wide_loads
};
constexpr int header = 16;

constexpr int threads = 256;
constexpr int tile_words = 128;  // of mask in a tile, 8,192 weights or fewer: every thread takes 8 of them, four times
constexpr int batch = 32;        // tiles of a block that patches
constexpr int digits = 3, bins = 2048;  // 11 + 11 + 10 bits

struct Rank {
    std::int64_t lower, upper;  // in question are keys in (lower, upper]
    std::int64_t ties;          // they are all equal: a bitmap instead of a list
    std::int64_t verdict, key, quota;
    unsigned long long listed;
    unsigned long long counts[4];  // keys > upper + 1, > upper, > lower, >= lower
};

struct Select {
    std::int64_t prefix[digits], rest[digits];
    unsigned long long histogram[digits][bins];
};

// Zero at first.
struct State {
    std::int64_t key;           // of rank k
    unsigned long long nans;    // tensors from the first that holds NaN on; 0 without one
    Rank ranks[2];
    Select sampled[4], exact[2];
};

struct Entry {
    std::int32_t place;  // in the tile
    std::int32_t key;
};

// Device addresses. `n` tiles, `r` ranks: 1, or 2 with a pool.
struct CudaCall {
    const std::int64_t *plan;
    State *state;
    std::int32_t *owners;     // [n]
    std::int32_t *sample;     // [samples]
    std::uint64_t *arena;     // [r, capacity]: entries of a list, or the words of a bitmap
    std::int64_t *segments;   // [r, 2, n]: where a tile's entries start, how many they are
    std::int64_t *ties;       // [r, n]
    std::int64_t *sums;       // [r, ⌈n/batch⌉]
    std::int64_t n, samples;  // as in the plan
    int ranks;
    bool direct, drop;        // as in the plan; NaN ranks below zero
};

// Enqueue the work on a stream (a cudaStream_t as a number) of a device; it may be captured. `blocks` blocks share the
// tiles. std::runtime_error with CUDA's own words if a launch fails.
void cuda(int device, std::uintptr_t stream, int blocks, const CudaCall &call);

}  // namespace optprune::topk_threshold::device

#endif
