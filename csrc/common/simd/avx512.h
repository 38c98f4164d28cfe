// Vec: sixteen numbers in an AVX-512 register. See scalar.h for the meaning of each function.
#ifndef OPTPRUNE_COMMON_SIMD_AVX512_H
#define OPTPRUNE_COMMON_SIMD_AVX512_H

#include <immintrin.h>

#include <cstdint>

namespace optprune {
namespace {

struct Vec {
    static constexpr std::int64_t lanes = 16;
    // Of 32 registers one holds the weight; eight accumulators hide the four cycles of a multiply-add on two units.
    static constexpr int registers = 8;
    static constexpr int positions = 16;
    static constexpr int beside = 2;
    static constexpr int block_rows = 6;

    __m512 v;

    static Vec zero() { return {_mm512_setzero_ps()}; }
    static Vec spread(float a) { return {_mm512_set1_ps(a)}; }
    // A load each: with a permutation each instead, as in avx2.h, the unit that permutes has too much to do.
    template <int N>
    static void spread_each(const float *from, Vec (&out)[N]) {
        for (int i = 0; i < N; ++i) out[i] = spread(from[i]);
    }
    static Vec load(const float *from) { return {_mm512_loadu_ps(from)}; }
    static Vec load_first(const float *from, std::int64_t n) { return {_mm512_maskz_loadu_ps(ones(n), from)}; }
    static Vec load_kept(const float *from, std::uint64_t bits) {
        return {_mm512_maskz_loadu_ps(static_cast<__mmask16>(bits), from)};
    }
    static Vec take(const float *from, const std::int32_t *lane) {
        const __m512i own = _mm512_loadu_si512(lane);
        const __mmask16 any = static_cast<__mmask16>(~negative(own));
        return {_mm512_maskz_permutexvar_ps(any, own, _mm512_loadu_ps(from))};
    }
    void store(float *to) const { _mm512_storeu_ps(to, v); }
    void store_first(float *to, std::int64_t n) const { _mm512_mask_storeu_ps(to, ones(n), v); }
    static Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
    static Vec fma_kept(std::uint64_t bits, Vec a, Vec b, Vec c) {
        return {_mm512_mask3_fmadd_ps(a.v, b.v, c.v, static_cast<__mmask16>(bits))};
    }
    static Vec pick(const Vec (&table)[2], const void *places) {
        return {_mm512_permutex2var_ps(table[0].v, _mm512_loadu_si512(places), table[1].v)};
    }

    static Vec add(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
    static Vec sub(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
    static Vec mul(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
    static Vec div(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
    static Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
    static Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
    static Vec sqrt(Vec a) { return {_mm512_sqrt_ps(a.v)}; }
    static Vec if_less(Vec a, Vec b, Vec yes, Vec no) {
        return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v, yes.v)};
    }
    static Vec if_negative(Vec a, Vec yes, Vec no) {
        return {_mm512_mask_blend_ps(negative(_mm512_castps_si512(a.v)), no.v, yes.v)};
    }
    template <int N>
    static std::uint64_t signs(const Vec (&a)[N]) {
        static_assert(N * lanes <= 64);
        if constexpr (N == 4) {  // put together before they leave the mask registers
            const __mmask32 first = _mm512_kunpackw(sign_bits(a[1]), sign_bits(a[0]));
            return _mm512_kunpackd(_mm512_kunpackw(sign_bits(a[3]), sign_bits(a[2])), first);
        }
        std::uint64_t all = 0;
        for (int i = N - 1; i >= 0; --i) all = all << lanes | sign_bits(a[i]);
        return all;
    }
    static float sum(Vec a) {
        const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
        const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
        const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
    }
    static Vec power_of_two(Vec counted) {
        return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(counted.v), 23))};
    }
    static Vec exponent(Vec a) {
        const __m512i biased = _mm512_srli_epi32(_mm512_castps_si512(a.v), 23);
        return {_mm512_cvtepi32_ps(_mm512_sub_epi32(biased, _mm512_set1_epi32(127)))};
    }
    static Vec mantissa(Vec a) {
        const __m512i bits = _mm512_and_si512(_mm512_castps_si512(a.v), _mm512_set1_epi32(0x007FFFFF));
        return {_mm512_castsi512_ps(_mm512_or_si512(bits, _mm512_set1_epi32(0x3F800000)))};
    }

    static void transpose(Vec (&block)[lanes]) {
        __m512 pairs[16], fours[16];
        for (int i = 0; i < 16; i += 2) {
            pairs[i] = _mm512_unpacklo_ps(block[i].v, block[i + 1].v);
            pairs[i + 1] = _mm512_unpackhi_ps(block[i].v, block[i + 1].v);
        }
        for (int i = 0; i < 16; i += 4) {  // fours[i + c]: columns c | c + 4 | c + 8 | c + 12 of rows i … i + 3
            fours[i] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
            fours[i + 1] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], 0xEE);
            fours[i + 2] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
            fours[i + 3] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xEE);
        }
        for (int c = 0; c < 4; ++c) {
            const __m512 low_even = _mm512_shuffle_f32x4(fours[c], fours[c + 4], 0x88);  // columns c, c + 8; rows 0 … 7
            const __m512 low_odd = _mm512_shuffle_f32x4(fours[c], fours[c + 4], 0xDD);   // columns c + 4, c + 12
            const __m512 high_even = _mm512_shuffle_f32x4(fours[c + 8], fours[c + 12], 0x88);
            const __m512 high_odd = _mm512_shuffle_f32x4(fours[c + 8], fours[c + 12], 0xDD);
            block[c].v = _mm512_shuffle_f32x4(low_even, high_even, 0x88);
            block[c + 4].v = _mm512_shuffle_f32x4(low_odd, high_odd, 0x88);
            block[c + 8].v = _mm512_shuffle_f32x4(low_even, high_even, 0xDD);
            block[c + 12].v = _mm512_shuffle_f32x4(low_odd, high_odd, 0xDD);
        }
    }

  private:
    static __mmask16 sign_bits(Vec a) { return _mm512_movepi32_mask(_mm512_castps_si512(a.v)); }
    static __mmask16 negative(__m512i a) { return _mm512_cmplt_epi32_mask(a, _mm512_setzero_si512()); }
    static __mmask16 ones(std::int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
};

constexpr std::int64_t keep_slack = 16;

// As in scan_bits.h, without a branch on the bits: sixteen columns at a time are compressed in registers.
inline std::int64_t keep_bits(std::uint64_t word, const float *weights, std::int32_t first, std::int32_t *columns,
                              float *kept) {
    const __m512i steps = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    std::int64_t count = 0;
    for (int quarter = 0; quarter < 4; ++quarter) {
        const auto mask = static_cast<__mmask16>(word >> (16 * quarter));
        const __m512i column = _mm512_add_epi32(_mm512_set1_epi32(first + 16 * quarter), steps);
        const __m512 weight = _mm512_maskz_loadu_ps(mask, weights + 16 * quarter);
        // Compress, then store whole: compressing into memory is slow on Zen 4.
        _mm512_storeu_si512(columns + count, _mm512_maskz_compress_epi32(mask, column));
        _mm512_storeu_ps(kept + count, _mm512_maskz_compress_ps(mask, weight));
        count += __builtin_popcount(mask);
    }
    return count;
}

}  // namespace
}  // namespace optprune

#endif
