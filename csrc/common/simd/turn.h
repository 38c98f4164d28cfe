// Rows become lanes and lanes become rows. Include after one of scalar.h, avx2.h, avx512.h.
#ifndef OPTPRUNE_COMMON_SIMD_TURN_H
#define OPTPRUNE_COMMON_SIMD_TURN_H

#include <cstdint>

namespace optprune {
namespace {

// to[c * to_step + r] = from[r * from_step + c]   for r < rows <= Vec::lanes and c < columns
// Each row of `to` gets `written` numbers, rows <= written <= Vec::lanes; those past `rows` are zero.
// Nothing else is read or written.
inline void turn(const float *from, std::int64_t from_step, std::int64_t rows, std::int64_t columns, float *to,
                 std::int64_t to_step, std::int64_t written) {
    constexpr std::int64_t L = Vec::lanes;
    std::int64_t c = 0;
    if (rows == L) {
        for (; c + L <= columns; c += L) {
            Vec block[L];
            for (std::int64_t r = 0; r < L; ++r) block[r] = Vec::load(from + r * from_step + c);
            Vec::transpose(block);
            for (std::int64_t i = 0; i < L; ++i) block[i].store(to + (c + i) * to_step);
        }
    }
    for (; c < columns; c += L) {
        const std::int64_t n = columns - c < L ? columns - c : L;
        Vec block[L];
        for (std::int64_t r = 0; r < L; ++r) {
            block[r] = r < rows ? Vec::load_first(from + r * from_step + c, n) : Vec::zero();
        }
        Vec::transpose(block);
        for (std::int64_t i = 0; i < n; ++i) block[i].store_first(to + (c + i) * to_step, written);
    }
}

}  // namespace
}  // namespace optprune

#endif
