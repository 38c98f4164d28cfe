// A random subset of the set bits, of an exact size: of each row those with the smallest keys stay, where
//   key(position) = splitmix64(seed + (position + 1) * 0x9E3779B97F4A7C15)
// The mixer is a bijection and the constant is odd, so the keys of a row are distinct.
#ifndef OPTPRUNE_KERNELS_CHOOSE_BITS_H
#define OPTPRUNE_KERNELS_CHOOSE_BITS_H

#include <cstdint>

#include "common/variants.h"

namespace optprune::choose_bits {

struct Call {
    const std::uint64_t *words;  // [W] of row p at words + p * words_step
    const std::int64_t *counts;  // [P], at most the bits set in the row
    const std::uint64_t *seeds;  // [P]
    std::uint64_t *out;          // [P, W]
    std::int64_t P, W, words_step;
};

void run(Isa isa, std::int64_t threads, const Call &call);

struct Kernel {
    // keys: scratch, one for each of the `held` bits set in the row
    void (*row)(const std::uint64_t *words, std::int64_t W, std::int64_t held, std::int64_t count, std::uint64_t seed,
                std::uint64_t *keys, std::uint64_t *out);
};

extern const Kernel scalar;
extern const Table<Kernel> variants;

}  // namespace optprune::choose_bits

#endif
