// The k largest weights by magnitude over many tensors, as masks, in one read of the weights; and the weights that follow.
//
//   sample ─▶ bracket [lo, hi] of keys around the threshold
//   weights ─▶ one pass: mask words of keys above the likely threshold, counts, and a list of the few in the bracket
//   list ─▶ exact selection ─▶ the words of the fewer between it and the likely one are patched, ties by place
//
// A key is the bits of the magnitude as a float32: a whole number that grows with it (keys.h). What the sample says costs
// time where it is wrong and never a bit: counts are exact, and a bracket that misses is found by them.
//
// Sampled brackets: A. Alabi et al., "Fast k-selection algorithms for graphics processing units" (2012), and L. Monroe,
// J. Wendelberger, S. Michalak, "Randomized selection on the GPU" (2011); here with one pass that also writes the mask.
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_H

#include <cstdint>

#include "common/variants.h"

namespace optprune::topk_threshold {

enum class Type : std::int64_t { float32, float16, bfloat16 };
enum class NaN : std::int64_t { raise, keep, drop };

struct Tensor {
    const void *weights;           // [rows, columns], one after another
    std::int64_t rows, columns;
    Type type;
    std::uint64_t *words, *pool;   // [rows, ⌈columns/64⌉]; pool is null without one
};

struct Call {
    const Tensor *tensors;
    std::int64_t count;    // of tensors
    std::int64_t k, pool;  // k + pool <= all weights
    std::int32_t hint;     // a key near the threshold, or no_hint
    NaN nan;
};

constexpr std::int32_t no_hint = -1;

struct Result {
    std::int32_t key;          // of the last weight kept; +infinity's where nothing is
    std::int64_t first_nan;    // the first tensor that holds NaN where that is to raise, else -1
    std::int64_t reads;        // times that every weight was read
};

// Extra memory: at most 6 bytes for each listed key, which are n / 64 (twice that with a pool) and 65,536 more, or
// before that the sample, 4 bytes for each of some 2 n^(2/3) weights; 400 KiB a thread.
Result run(Isa isa, std::int64_t threads, const Call &call);

constexpr std::int64_t tile_weights = 65536;  // at most: places in a tile are 16 bits wide

// A bracket, in the keys of a type as they are (keys.h): certain are keys > above, in question those > from. The keys of
// one dense value, > heavy_from and not > heavy_above, are counted and not listed.
struct Cut {
    std::int32_t above, from, heavy_above, heavy_from;
};

enum class Kind { list, ties, both };  // no dense value; nothing in the brackets but one (above, from are it); else

// What the kernel reads and writes: `n` weights of a tile, one after another.
struct Pass {
    const void *weights;
    std::int64_t n;
    Type type;
    Kind kind;
    bool drop;                // NaN below zero
    int ranges;               // 1, or 2 that do not overlap, the higher first: for the mask, for mask and pool
    Cut cut[2];
    // Who is in the mask, and in mask or pool, among what is in question
    std::int32_t guess[2];    // Kind::list: keys > guess, which lies in the bracket; what is wrong is put right later
    std::int64_t quota[2];    // else: of the dense value the first so many, and of the others none
    std::uint64_t *mask, *pool;       // [⌈n/64⌉], zero past n; pool may be null where there is one range
    std::uint16_t *places;            // where the listed keys stand; room for n + list_slack, or null: no list
    std::int32_t *keys;               // them, as float32 keys
    // found
    std::int64_t above[2], heavy[2], listed;
    std::int32_t largest;             // key, in the type's own
};

constexpr std::int64_t list_slack = 64;

struct Kernel {
    void (*pass)(Pass &pass);
    // Float32 keys of `n` weights in a row.
    void (*copy_keys)(Type type, const void *weights, std::int64_t n, bool drop, std::int32_t *keys);
};

extern const Kernel scalar, avx2, avx512;
extern const Table<Kernel> variants;

}  // namespace optprune::topk_threshold

#endif
