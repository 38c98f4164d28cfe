// Eight: the rows of a slice side by side, in plain C++. See eight_avx2.h for the other one.
#ifndef OPTPRUNE_KERNELS_SPARSE_LINEAR_EIGHT_SCALAR_H
#define OPTPRUNE_KERNELS_SPARSE_LINEAR_EIGHT_SCALAR_H

#include <math.h>
#include <string.h>

#include <cstdint>

namespace optprune::sparse_linear {
namespace {

struct Eight {
    float v[8];

    static Eight zero() { return {{0, 0, 0, 0, 0, 0, 0, 0}}; }
    static Eight load(const float *from) {
        Eight out;
        memcpy(out.v, from, sizeof out.v);
        return out;
    }
    // x[columns[0]], …, x[columns[7]]
    static Eight pick(const float *x, const std::uint8_t *columns) {
        Eight out;
        for (int i = 0; i < 8; ++i) out.v[i] = x[columns[i]];
        return out;
    }
    // a * b + c, rounded once
    static Eight fma(Eight a, Eight b, Eight c) {
        for (int i = 0; i < 8; ++i) c.v[i] = ::fmaf(a.v[i], b.v[i], c.v[i]);
        return c;
    }
    void store(float *to) const { memcpy(to, v, sizeof v); }
};

inline float multiply_add(float a, float b, float c) { return ::fmaf(a, b, c); }

// out[8 k + i] = lists[i * step + k] for k < count
inline void interleave(const std::uint8_t *lists, std::int64_t step, std::int64_t count, std::uint8_t *out) {
    for (std::int64_t k = 0; k < count; ++k) {
        for (int i = 0; i < 8; ++i) out[8 * k + i] = lists[i * step + k];
    }
}

// IEEE 754 binary16
inline float widened(std::uint16_t half) {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000) << 16, rest = half & 0x7FFFu;
    std::uint32_t bits = rest << 13;
    if (rest >= 0x7C00) {
        bits += 0x70000000u;  // infinite or not a number: the exponent of 31 becomes 255
        if (rest > 0x7C00) bits |= 0x00400000u;
    } else if (rest >= 0x0400) {
        bits += 0x38000000u;  // the exponent counts from 15, then from 127
    } else {
        const float small = static_cast<float>(rest) * 0x1p-24f;
        memcpy(&bits, &small, sizeof bits);
    }
    bits |= sign;
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

inline void widen_halves(const std::uint16_t *from, std::int64_t count, float *out) {
    for (std::int64_t i = 0; i < count; ++i) out[i] = widened(from[i]);
}

}  // namespace
}  // namespace optprune::sparse_linear

#endif
