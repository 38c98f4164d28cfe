// The turns of a slice: two at once by a gather of sixteen, which on an Intel Xeon takes a sixth less time than single
// loads that insert, and the last ones under a mask, for the processor guesses wrong where each row ends. See turns.h for
// the meaning of each function.
#ifndef OPTPRUNE_KERNELS_SPARSE_LINEAR_TURNS_AVX512_H
#define OPTPRUNE_KERNELS_SPARSE_LINEAR_TURNS_AVX512_H

#include <immintrin.h>

#include "kernels/sparse_linear/sparse_linear.h"

namespace optprune::sparse_linear {
namespace {

// Such a Xeon loads three registers of half the width in the time of two.
constexpr const Kernel *narrow = &avx2;

constexpr std::int64_t turns_at_once = 2;

inline void pick_turns(const float *x, const std::uint8_t *columns, Eight (&out)[turns_at_once]) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(columns));
    const __m512 both = _mm512_i32gather_ps(_mm512_cvtepu8_epi32(bytes), x, sizeof(float));
    out[0] = {_mm512_castps512_ps256(both)};
    out[1] = {_mm512_extractf32x8_ps(both, 1)};
}

// Other rows keep their bits, which adding a zero would not always do.
inline std::int64_t one_more(const float *x, const float *values, const std::uint8_t *columns,
                             const std::int16_t *counts, std::int64_t full, Eight &sum) {
    const __m128i own = _mm_loadu_si128(reinterpret_cast<const __m128i *>(counts));
    const __mmask8 more = _mm_cmpgt_epi16_mask(own, _mm_set1_epi16(static_cast<short>(full)));
    const __m256i index = _mm256_cvtepu8_epi32(_mm_maskz_loadu_epi8(more, columns));
    const __m256 picked = _mm256_mmask_i32gather_ps(_mm256_setzero_ps(), more, index, x, sizeof(float));
    sum = {_mm256_mask3_fmadd_ps(_mm256_maskz_loadu_ps(more, values), picked, sum.v, more)};
    return __builtin_popcount(more);
}

}  // namespace
}  // namespace optprune::sparse_linear

#endif
