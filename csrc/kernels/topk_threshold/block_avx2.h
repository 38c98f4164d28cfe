// Blocks of 32 keys in AVX2 registers. See block_scalar.h for the meaning of each function.
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_BLOCK_AVX2_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_BLOCK_AVX2_H

#include <immintrin.h>

#include <cstdint>

namespace optprune::topk_threshold {
namespace {

inline __m256i load_register(const void *from) { return _mm256_loadu_si256(static_cast<const __m256i *>(from)); }

template <class Bits>
struct Block;

// float32: eight keys a register
//
//   compare    0…7 | 8…15 | 16…23 | 24…31      all ones or zero, 32 bits each
//   packs_epi32 twice, packs_epi16             a byte each, but in fours: 0 8 16 24 | 4 12 20 28, each of four keys
//   permutevar8x32, movemask_epi8              fours in order, one bit each
template <>
struct Block<std::uint32_t> {
    using Level = __m256i;

    __m256i v[4];

    static Level level(std::int32_t key) { return _mm256_set1_epi32(key); }
    static Block load(const std::uint32_t *weights) {
        const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
        Block out;
        for (int i = 0; i < 4; ++i) out.v[i] = _mm256_and_si256(load_register(weights + 8 * i), magnitude);
        return out;
    }
    static std::uint32_t above(const Block &block, Level level) {
        return bits([&](int i) { return _mm256_cmpgt_epi32(block.v[i], level); });
    }
    static std::uint32_t within(const Block &block, Level low, Level end) {
        return bits([&](int i) { return _mm256_cmpgt_epi32(end, _mm256_sub_epi32(block.v[i], low)); });
    }
    static Level largest(Level level, const Block &block) {
        const __m256i low = _mm256_max_epi32(block.v[0], block.v[1]), high = _mm256_max_epi32(block.v[2], block.v[3]);
        return _mm256_max_epi32(level, _mm256_max_epi32(low, high));
    }
    static std::int32_t top(Level level) {
        std::int32_t keys[8], most = -1;
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(keys), level);
        for (const std::int32_t key : keys) most = key > most ? key : most;
        return most;
    }
    static Block without(const Block &block, Level level) {
        Block out;
        for (int i = 0; i < 4; ++i) out.v[i] = _mm256_or_si256(block.v[i], _mm256_cmpgt_epi32(block.v[i], level));
        return out;
    }

  private:
    template <class Compared>
    static std::uint32_t bits(Compared compared) {
        const __m256i fours = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        const __m256i low = _mm256_packs_epi32(compared(0), compared(1));
        const __m256i high = _mm256_packs_epi32(compared(2), compared(3));
        const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), fours);
        return static_cast<std::uint32_t>(_mm256_movemask_epi8(bytes));
    }
};

// float16 and bfloat16: sixteen keys a register
template <>
struct Block<std::uint16_t> {
    using Level = __m256i;

    __m256i v[2];

    static Level level(std::int32_t key) { return _mm256_set1_epi16(static_cast<short>(key)); }
    static Block load(const std::uint16_t *weights) {
        const __m256i magnitude = _mm256_set1_epi16(0x7FFF);
        return {{_mm256_and_si256(load_register(weights), magnitude),
                 _mm256_and_si256(load_register(weights + 16), magnitude)}};
    }
    static std::uint32_t above(const Block &block, Level level) {
        return bits([&](int i) { return _mm256_cmpgt_epi16(block.v[i], level); });
    }
    static std::uint32_t within(const Block &block, Level low, Level end) {
        return bits([&](int i) { return _mm256_cmpgt_epi16(end, _mm256_sub_epi16(block.v[i], low)); });
    }
    static Level largest(Level level, const Block &block) {
        return _mm256_max_epi16(level, _mm256_max_epi16(block.v[0], block.v[1]));
    }
    static std::int32_t top(Level level) {
        std::int16_t keys[16], most = -1;
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(keys), level);
        for (const std::int16_t key : keys) most = key > most ? key : most;
        return most;
    }
    static Block without(const Block &block, Level level) {
        return {{_mm256_or_si256(block.v[0], _mm256_cmpgt_epi16(block.v[0], level)),
                 _mm256_or_si256(block.v[1], _mm256_cmpgt_epi16(block.v[1], level))}};
    }

  private:
    template <class Compared>
    static std::uint32_t bits(Compared compared) {
        const __m256i bytes = _mm256_packs_epi16(compared(0), compared(1));
        return static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_permute4x64_epi64(bytes, 0xD8)));
    }
};

}  // namespace
}  // namespace optprune::topk_threshold

#endif
