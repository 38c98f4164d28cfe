// Blocks: 32 keys at a time, in plain C++. block_avx2.h and block_avx512.h have the same members.
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_BLOCK_SCALAR_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_BLOCK_SCALAR_H

#include <cstdint>
#include <type_traits>

namespace optprune::topk_threshold {
namespace {

// Bits: an unsigned number as wide as a weight
template <class Bits>
struct Block {
    using Level = std::int32_t;  // what keys are compared with

    std::int32_t v[32];

    static Level level(std::int32_t key) { return key; }
    // magnitudes of 32 weights as keys
    static Block load(const Bits *weights) {
        constexpr Bits magnitude = static_cast<Bits>(~Bits{0}) >> 1;
        Block out;
        for (int i = 0; i < 32; ++i) out.v[i] = static_cast<std::int32_t>(weights[i] & magnitude);
        return out;
    }
    // bit i: key i > level
    static std::uint32_t above(const Block &block, Level level) {
        std::uint32_t bits = 0;
        for (int i = 0; i < 32; ++i) bits |= static_cast<std::uint32_t>(block.v[i] > level) << i;
        return bits;
    }
    // bit i: key i - low, wrapped to the width of Bits, < end
    static std::uint32_t within(const Block &block, Level low, Level end) {
        std::uint32_t bits = 0;
        for (int i = 0; i < 32; ++i) {
            const auto wrapped = static_cast<Bits>(static_cast<Bits>(block.v[i]) - static_cast<Bits>(low));
            bits |= static_cast<std::uint32_t>(static_cast<std::make_signed_t<Bits>>(wrapped) < end) << i;
        }
        return bits;
    }
    // the larger of a level and of every key that it meets; `top` is what came of it
    static Level largest(Level level, const Block &block) {
        for (int i = 0; i < 32; ++i) level = block.v[i] > level ? block.v[i] : level;
        return level;
    }
    static std::int32_t top(Level level) { return level; }
    // keys above the level become -1
    static Block without(const Block &block, Level level) {
        Block out;
        for (int i = 0; i < 32; ++i) out.v[i] = block.v[i] > level ? -1 : block.v[i];
        return out;
    }
};

}  // namespace
}  // namespace optprune::topk_threshold

#endif
