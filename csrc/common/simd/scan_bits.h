// keep_bits by bit scan, for instruction sets that cannot compress a register. Included by scalar.h and avx2.h.
#ifndef OPTPRUNE_COMMON_SIMD_SCAN_BITS_H
#define OPTPRUNE_COMMON_SIMD_SCAN_BITS_H

#include <cstdint>

namespace optprune {
namespace {

// Numbers past the end of what it returns that keep_bits may overwrite in both lists.
constexpr std::int64_t keep_slack = 8;

// Append the set bits of a word and the weights under them:
//   columns[i] = first + position of the i-th set bit,  kept[i] = weights[that position];  returns how many
// Weights under clear bits are not read: the last word of a matrix may end past the memory of its weights.
inline std::int64_t keep_bits(std::uint64_t word, const float *weights, std::int32_t first, std::int32_t *columns,
                              float *kept) {
    const std::int64_t count = __builtin_popcountll(word);
    for (std::int64_t i = 0; i < count; ++i, word &= word - 1) {
        const int bit = __builtin_ctzll(word);
        columns[i] = first + bit;
        kept[i] = weights[bit];
    }
    return count;
}

}  // namespace
}  // namespace optprune

#endif
