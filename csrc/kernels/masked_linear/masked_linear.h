// One linear layer under many masks:   out[p, b, o] = sum over kept i of x[p, b, i] * weight[o, i]
//
// Every output is one accumulator that starts at +0 and takes the kept products in ascending i, each by one fused
// multiply-add. Samples lie in the lanes of a register, so neither the width of a register nor the number of threads
// changes a bit of the result.
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_H

#include <cstdint>

#include "common/variants.h"

namespace optprune::masked_linear {

struct Call {
    const float *x;              // [B, I] of candidate p at x + p * x_step; x_step 0: all share one
    const float *weight;         // [O, I]
    const std::uint64_t *words;  // [O, ⌈I/64⌉] of candidate p at words + p * words_step; zero past I
    float *out;                  // [P, B, O]
    std::int64_t P, B, I, O, x_step, words_step;
};

void run(Isa isa, std::int64_t threads, const Call &call);

// Columns whose kept weights are listed at a time, at most: the lists of a band of rows fit the second-level cache.
constexpr std::int64_t most_columns = 1024;

// What one task of a kernel reads and writes: one candidate, `samples` samples in tiles of T = registers * lanes.
struct Block {
    const float *turned;         // [tiles, I, T], from Kernel::turn
    const float *weight;         // [O, I]
    const std::uint64_t *words;  // [O, ⌈I/64⌉]
    float *out;                  // [samples, O]
    std::int64_t samples, I, O, registers;
    float *sums;                 // scratch: tiles * T * lanes
    std::int32_t *columns;       // scratch: list_room
    float *kept;                 // scratch: list_room
};

struct Kernel {
    std::int64_t lanes;      // of a register
    std::int64_t registers;  // that a tile has at most
    std::int64_t list_room;  // numbers in `columns` and in `kept`
    // [samples, I] -> one tile [I, registers * lanes]; absent samples become zero
    void (*turn)(const float *x, std::int64_t samples, std::int64_t I, std::int64_t registers, float *turned);
    void (*rows)(const Block &block);
};

extern const Kernel scalar, avx2, avx512;
extern const Table<Kernel> variants;

}  // namespace optprune::masked_linear

#endif
