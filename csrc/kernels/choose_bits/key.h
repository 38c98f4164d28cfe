// The key of a bit, the same on a CPU and on a CUDA device.
#ifndef OPTPRUNE_KERNELS_CHOOSE_BITS_KEY_H
#define OPTPRUNE_KERNELS_CHOOSE_BITS_KEY_H

#include <cstdint>

#include "common/anywhere.h"

namespace optprune::choose_bits {

// splitmix64 of the stream `seed` at `position` (S. Vigna, public domain)
OPTPRUNE_ANYWHERE inline std::uint64_t key(std::uint64_t seed, std::uint64_t position) {
    std::uint64_t z = seed + (position + 1) * 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

}  // namespace optprune::choose_bits

#endif
