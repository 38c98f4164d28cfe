// Vec: eight numbers in an AVX2 register. See scalar.h for the meaning of each function.
#ifndef OPTPRUNE_COMMON_SIMD_AVX2_H
#define OPTPRUNE_COMMON_SIMD_AVX2_H

#include <immintrin.h>

#include <cstdint>

namespace optprune {
namespace {

// A window of eight that starts at 8 - n has n leading ones.
alignas(64) const std::int32_t first_n[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

struct Vec {
    static constexpr std::int64_t lanes = 8;
    // Of 16 registers one holds the weight; the rest are accumulators.
    static constexpr int registers = 8;
    static constexpr int positions = 14;

    __m256 v;

    static Vec zero() { return {_mm256_setzero_ps()}; }
    static Vec spread(float a) { return {_mm256_set1_ps(a)}; }
    static Vec load(const float *from) { return {_mm256_loadu_ps(from)}; }
    static Vec load_first(const float *from, std::int64_t n) { return {_mm256_maskload_ps(from, ones(n))}; }
    void store(float *to) const { _mm256_storeu_ps(to, v); }
    void store_first(float *to, std::int64_t n) const { _mm256_maskstore_ps(to, ones(n), v); }
    static Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }

    static void transpose(Vec (&block)[lanes]) {
        __m256 pairs[8], fours[8];
        for (int i = 0; i < 8; i += 2) {  // pairs[i], pairs[i + 1]: columns 0 1 | 4 5 and 2 3 | 6 7 of rows i, i + 1
            pairs[i] = _mm256_unpacklo_ps(block[i].v, block[i + 1].v);
            pairs[i + 1] = _mm256_unpackhi_ps(block[i].v, block[i + 1].v);
        }
        for (int i = 0; i < 8; i += 4) {  // fours[i + c]: columns c | c + 4 of rows i … i + 3
            fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
            fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xEE);
            fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
            fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xEE);
        }
        for (int c = 0; c < 4; ++c) {
            block[c].v = _mm256_permute2f128_ps(fours[c], fours[c + 4], 0x20);
            block[c + 4].v = _mm256_permute2f128_ps(fours[c], fours[c + 4], 0x31);
        }
    }

  private:
    static __m256i ones(std::int64_t n) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(first_n + 8 - n));
    }
};

}  // namespace
}  // namespace optprune

#include "common/simd/scan_bits.h"

#endif
