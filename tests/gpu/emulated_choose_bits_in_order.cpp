// The same with keys that differ in their last digits alone: the first bits of a row stay, and every digit is needed.
#include <cstdint>

#define OPTPRUNE_KERNELS_CHOOSE_BITS_KEY_H

namespace optprune::choose_bits {

inline std::uint64_t key(std::uint64_t seed, std::uint64_t position) { return seed + position; }

}  // namespace optprune::choose_bits

#include "emulated_choose_bits.cpp"
