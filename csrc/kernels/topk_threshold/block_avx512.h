// Blocks of 32 keys in AVX-512 registers. See block_scalar.h for the meaning of each function.
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_BLOCK_AVX512_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_BLOCK_AVX512_H

#include <immintrin.h>

#include <cstdint>

namespace optprune::topk_threshold {
namespace {

template <class Bits>
struct Block;

// float32: sixteen keys a register
template <>
struct Block<std::uint32_t> {
    using Level = __m512i;

    __m512i v[2];

    static Level level(std::int32_t key) { return _mm512_set1_epi32(key); }
    static Block load(const std::uint32_t *weights) {
        const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
        return {{_mm512_and_si512(_mm512_loadu_si512(weights), magnitude),
                 _mm512_and_si512(_mm512_loadu_si512(weights + 16), magnitude)}};
    }
    static std::uint32_t above(const Block &block, Level level) {
        const __mmask16 low = _mm512_cmpgt_epi32_mask(block.v[0], level);
        const __mmask16 high = _mm512_cmpgt_epi32_mask(block.v[1], level);
        return static_cast<std::uint32_t>(_mm512_kunpackw(high, low));
    }
    static std::uint32_t within(const Block &block, Level low, Level end) {
        const __mmask16 first = _mm512_cmpgt_epi32_mask(end, _mm512_sub_epi32(block.v[0], low));
        const __mmask16 second = _mm512_cmpgt_epi32_mask(end, _mm512_sub_epi32(block.v[1], low));
        return static_cast<std::uint32_t>(_mm512_kunpackw(second, first));
    }
    static Level largest(Level level, const Block &block) {
        return _mm512_max_epi32(level, _mm512_max_epi32(block.v[0], block.v[1]));
    }
    static std::int32_t top(Level level) { return _mm512_reduce_max_epi32(level); }
    static Block without(const Block &block, Level level) {
        const __m512i nan = _mm512_set1_epi32(-1);
        return {{_mm512_mask_mov_epi32(block.v[0], _mm512_cmpgt_epi32_mask(block.v[0], level), nan),
                 _mm512_mask_mov_epi32(block.v[1], _mm512_cmpgt_epi32_mask(block.v[1], level), nan)}};
    }
};

// float16 and bfloat16: 32 keys a register
template <>
struct Block<std::uint16_t> {
    using Level = __m512i;

    __m512i v;

    static Level level(std::int32_t key) { return _mm512_set1_epi16(static_cast<short>(key)); }
    static Block load(const std::uint16_t *weights) {
        return {_mm512_and_si512(_mm512_loadu_si512(weights), _mm512_set1_epi16(0x7FFF))};
    }
    static std::uint32_t above(const Block &block, Level level) {
        return static_cast<std::uint32_t>(_mm512_cmpgt_epi16_mask(block.v, level));
    }
    static std::uint32_t within(const Block &block, Level low, Level end) {
        return static_cast<std::uint32_t>(_mm512_cmpgt_epi16_mask(end, _mm512_sub_epi16(block.v, low)));
    }
    static Level largest(Level level, const Block &block) { return _mm512_max_epi16(level, block.v); }
    static std::int32_t top(Level level) {
        std::int16_t keys[32], most = -1;
        _mm512_storeu_si512(keys, level);
        for (const std::int16_t key : keys) most = key > most ? key : most;
        return most;
    }
    static Block without(const Block &block, Level level) {
        return {_mm512_mask_mov_epi16(block.v, _mm512_cmpgt_epi16_mask(block.v, level), _mm512_set1_epi16(-1))};
    }
};

}  // namespace
}  // namespace optprune::topk_threshold

#endif
