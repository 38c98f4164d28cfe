// Eight: the rows of a slice side by side in an AVX2 register. See eight_scalar.h for the meaning of each function.
#ifndef OPTPRUNE_KERNELS_SPARSE_LINEAR_EIGHT_AVX2_H
#define OPTPRUNE_KERNELS_SPARSE_LINEAR_EIGHT_AVX2_H

#include <immintrin.h>
#include <string.h>

#include <cstdint>

namespace optprune::sparse_linear {
namespace {

struct Eight {
    __m256 v;

    static Eight zero() { return {_mm256_setzero_ps()}; }
    static Eight load(const float *from) { return {_mm256_loadu_ps(from)}; }
    // Single loads that insert: a gather of Zen 3 takes twice as long. The eight bytes are loaded at once.
    static Eight pick(const float *x, const std::uint8_t *columns) {
        std::uint64_t c;
        memcpy(&c, columns, sizeof c);
        return {_mm256_set_m128(four(x, static_cast<std::uint32_t>(c >> 32)), four(x, static_cast<std::uint32_t>(c)))};
    }
    static Eight fma(Eight a, Eight b, Eight c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
    void store(float *to) const { _mm256_storeu_ps(to, v); }

  private:
    static __m128 four(const float *x, std::uint32_t c) {
        __m128 out = _mm_load_ss(x + (c & 255));
        out = _mm_insert_ps(out, _mm_load_ss(x + (c >> 8 & 255)), 0x10);
        out = _mm_insert_ps(out, _mm_load_ss(x + (c >> 16 & 255)), 0x20);
        return _mm_insert_ps(out, _mm_load_ss(x + (c >> 24)), 0x30);
    }
};

inline float multiply_add(float a, float b, float c) {
    return _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c)));
}

inline __m128i eight_bytes(const std::uint8_t *from) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i *>(from));
}

// Squares of eight by eight bytes are transposed in registers.
inline void interleave(const std::uint8_t *lists, std::int64_t step, std::int64_t count, std::uint8_t *out) {
    for (std::int64_t k = 0; k < count; k += 8) {  // a list has room to be read past its end
        __m128i pairs[4], fours[4];
        for (int i = 0; i < 4; ++i) {  // pairs[i]: bytes 0 … 7 of lists 2 i and 2 i + 1 in turns
            pairs[i] = _mm_unpacklo_epi8(eight_bytes(lists + 2 * i * step + k), eight_bytes(lists + (2 * i + 1) * step + k));
        }
        for (int i = 0; i < 2; ++i) {
            fours[2 * i] = _mm_unpacklo_epi16(pairs[2 * i], pairs[2 * i + 1]);      // bytes 0 … 3 of four lists
            fours[2 * i + 1] = _mm_unpackhi_epi16(pairs[2 * i], pairs[2 * i + 1]);  // bytes 4 … 7
        }
        const __m128i eights[4] = {_mm_unpacklo_epi32(fours[0], fours[2]), _mm_unpackhi_epi32(fours[0], fours[2]),
                                   _mm_unpacklo_epi32(fours[1], fours[3]), _mm_unpackhi_epi32(fours[1], fours[3])};
        for (int i = 0; i < 4; ++i) {
            _mm_storeu_si128(reinterpret_cast<__m128i *>(out + 8 * k) + i, eights[i]);
        }
    }
}

inline void widen_halves(const std::uint16_t *from, std::int64_t count, float *out) {
    std::int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from + i))));
    }
    for (; i < count; ++i) out[i] = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(from[i])));
}

}  // namespace
}  // namespace optprune::sparse_linear

#endif
