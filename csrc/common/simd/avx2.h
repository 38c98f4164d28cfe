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
    static constexpr int beside = 2;
    static constexpr int block_rows = 3;

    __m256 v;

    static Vec zero() { return {_mm256_setzero_ps()}; }
    static Vec spread(float a) { return {_mm256_set1_ps(a)}; }
    // One load for four of them: kernels that skip zeros wait for loads.
    template <int N>
    static void spread_each(const float *from, Vec (&out)[N]) {
        if constexpr (N % 4 == 0) {
            for (int i = 0; i < N; i += 4) {
                const __m256 four = _mm256_broadcast_ps(reinterpret_cast<const __m128 *>(from + i));
                out[i] = {_mm256_permute_ps(four, 0x00)};
                out[i + 1] = {_mm256_permute_ps(four, 0x55)};
                out[i + 2] = {_mm256_permute_ps(four, 0xAA)};
                out[i + 3] = {_mm256_permute_ps(four, 0xFF)};
            }
        } else {
            for (int i = 0; i < N; ++i) out[i] = spread(from[i]);
        }
    }
    static Vec load(const float *from) { return {_mm256_loadu_ps(from)}; }
    static Vec load_first(const float *from, std::int64_t n) { return {_mm256_maskload_ps(from, ones(n))}; }
    static Vec load_kept(const float *from, std::uint64_t bits) {
        return {_mm256_and_ps(_mm256_loadu_ps(from), _mm256_castsi256_ps(set(bits)))};
    }
    static Vec take(const float *from, const std::int32_t *lane) {
        const __m256i own = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(lane));
        const __m256 picked = _mm256_permutevar8x32_ps(_mm256_loadu_ps(from), own);
        return {_mm256_andnot_ps(_mm256_castsi256_ps(_mm256_srai_epi32(own, 31)), picked)};
    }
    void store(float *to) const { _mm256_storeu_ps(to, v); }
    void store_first(float *to, std::int64_t n) const { _mm256_maskstore_ps(to, ones(n), v); }
    static Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
    static Vec fma_kept(std::uint64_t bits, Vec a, Vec b, Vec c) {
        return {_mm256_blendv_ps(c.v, fma(a, b, c).v, _mm256_castsi256_ps(set(bits)))};
    }
    // Three bits pick in each register, two more one of the registers.
    static Vec pick(const Vec (&table)[4], const void *places) {
        const __m256i own = _mm256_loadu_si256(static_cast<const __m256i *>(places));
        const __m256 fourth = _mm256_castsi256_ps(_mm256_slli_epi32(own, 28));
        const __m256 fifth = _mm256_castsi256_ps(_mm256_slli_epi32(own, 27));
        __m256 picked[4];
        for (int i = 0; i < 4; ++i) picked[i] = _mm256_permutevar8x32_ps(table[i].v, own);
        const __m256 low = _mm256_blendv_ps(picked[0], picked[1], fourth);
        return {_mm256_blendv_ps(low, _mm256_blendv_ps(picked[2], picked[3], fourth), fifth)};
    }

    static Vec add(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
    static Vec sub(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
    static Vec mul(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
    static Vec div(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
    static Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
    static Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
    static Vec sqrt(Vec a) { return {_mm256_sqrt_ps(a.v)}; }
    static Vec if_less(Vec a, Vec b, Vec yes, Vec no) {
        return {_mm256_blendv_ps(no.v, yes.v, _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))};
    }
    static Vec if_negative(Vec a, Vec yes, Vec no) { return {_mm256_blendv_ps(no.v, yes.v, a.v)}; }
    template <int N>
    static std::uint64_t signs(const Vec (&a)[N]) {
        static_assert(N * lanes <= 64);
        std::uint64_t all = 0;
        for (int i = N - 1; i >= 0; --i) all = all << lanes | static_cast<std::uint32_t>(_mm256_movemask_ps(a[i].v));
        return all;
    }
    static float sum(Vec a) {
        const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
        const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
    }
    static Vec power_of_two(Vec counted) {
        return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(counted.v), 23))};
    }
    static Vec exponent(Vec a) {
        const __m256i biased = _mm256_srli_epi32(_mm256_castps_si256(a.v), 23);
        return {_mm256_cvtepi32_ps(_mm256_sub_epi32(biased, _mm256_set1_epi32(127)))};
    }
    static Vec mantissa(Vec a) {
        const __m256i bits = _mm256_and_si256(_mm256_castps_si256(a.v), _mm256_set1_epi32(0x007FFFFF));
        return {_mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_set1_epi32(0x3F800000)))};
    }

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
    // All ones in the lanes whose bits are set.
    static __m256i set(std::uint64_t bits) {
        const __m256i lane = _mm256_set_epi32(128, 64, 32, 16, 8, 4, 2, 1);
        return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lane), lane);
    }
};

}  // namespace
}  // namespace optprune

#include "common/simd/scan_bits.h"

#endif
