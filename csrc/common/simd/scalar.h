// Vec: four numbers in plain C++, for every machine. std::fma rounds once, with or without such an instruction.
//
// Each kernel file includes one header of this folder. All of it has internal linkage: a function that two files share
// at link time could bring instructions of one into the other, and onto a processor that lacks them.
#ifndef OPTPRUNE_COMMON_SIMD_SCALAR_H
#define OPTPRUNE_COMMON_SIMD_SCALAR_H

#include <math.h>
#include <string.h>

#include <cstdint>

namespace optprune {
namespace {

struct Vec {
    static constexpr std::int64_t lanes = 4;
    static constexpr int registers = 4;  // accumulators that a row of the linear kernel holds
    static constexpr int positions = 4;  // accumulators that a row of the convolution holds
    static constexpr int beside = 4;     // registers of samples that rows of a slice take side by side
    static constexpr int block_rows = 3;  // rows of a dense block, each with four registers of sums

    float v[lanes];

    static Vec zero() { return {{0, 0, 0, 0}}; }
    static Vec spread(float a) { return {{a, a, a, a}}; }
    // out[i]: from[i] in every lane
    template <int N>
    static void spread_each(const float *from, Vec (&out)[N]) {
        for (int i = 0; i < N; ++i) out[i] = spread(from[i]);
    }
    static Vec load(const float *from) { return {{from[0], from[1], from[2], from[3]}}; }
    static Vec load_first(const float *from, std::int64_t n) {
        Vec out = zero();
        for (std::int64_t i = 0; i < n; ++i) out.v[i] = from[i];
        return out;
    }
    // zeros under clear bits
    static Vec load_kept(const float *from, std::uint64_t bits) {
        Vec out;
        for (std::int64_t i = 0; i < lanes; ++i) out.v[i] = (bits >> i & 1) != 0 ? from[i] : 0.0f;
        return out;
    }
    // out[i]: from[lane[i]], nought where that is negative
    static Vec take(const float *from, const std::int32_t *lane) {
        Vec out;
        for (std::int64_t i = 0; i < lanes; ++i) out.v[i] = lane[i] < 0 ? 0.0f : from[lane[i]];
        return out;
    }
    void store(float *to) const {
        for (std::int64_t i = 0; i < lanes; ++i) to[i] = v[i];
    }
    void store_first(float *to, std::int64_t n) const {
        for (std::int64_t i = 0; i < n; ++i) to[i] = v[i];
    }
    // a * b + c, rounded once
    static Vec fma(Vec a, Vec b, Vec c) {
        Vec out;
        for (std::int64_t i = 0; i < lanes; ++i) out.v[i] = ::fmaf(a.v[i], b.v[i], c.v[i]);
        return out;
    }
    // a * b + c under set bits, c elsewhere
    static Vec fma_kept(std::uint64_t bits, Vec a, Vec b, Vec c) {
        const Vec sum = fma(a, b, c);
        for (std::int64_t i = 0; i < lanes; ++i) c.v[i] = (bits >> i & 1) != 0 ? sum.v[i] : c.v[i];
        return c;
    }
    // Of 32 numbers the one that each lane's place says: the five lowest of its 32 bits, which need not be aligned.
    static Vec pick(const Vec (&table)[8], const void *places) {
        std::uint32_t own[lanes];
        memcpy(own, places, sizeof own);
        Vec out;
        for (std::int64_t i = 0; i < lanes; ++i) out.v[i] = table[own[i] / lanes % 8].v[own[i] % lanes];
        return out;
    }
    static Vec add(Vec a, Vec b) { return each(a, b, [](float x, float y) { return x + y; }); }
    static Vec sub(Vec a, Vec b) { return each(a, b, [](float x, float y) { return x - y; }); }
    static Vec mul(Vec a, Vec b) { return each(a, b, [](float x, float y) { return x * y; }); }
    static Vec div(Vec a, Vec b) { return each(a, b, [](float x, float y) { return x / y; }); }
    // a > b ? a : b and a < b ? a : b: the second where one is not a number, as x86 has it
    static Vec max(Vec a, Vec b) { return each(a, b, [](float x, float y) { return x > y ? x : y; }); }
    static Vec min(Vec a, Vec b) { return each(a, b, [](float x, float y) { return x < y ? x : y; }); }
    static Vec sqrt(Vec a) { return each(a, a, [](float x, float) { return ::sqrtf(x); }); }
    // a < b ? yes : no
    static Vec if_less(Vec a, Vec b, Vec yes, Vec no) {
        Vec out;
        for (std::int64_t i = 0; i < lanes; ++i) out.v[i] = a.v[i] < b.v[i] ? yes.v[i] : no.v[i];
        return out;
    }
    // whether the sign bit is set ? yes : no
    static Vec if_negative(Vec a, Vec yes, Vec no) {
        Vec out;
        for (std::int64_t i = 0; i < lanes; ++i) out.v[i] = bits(a.v[i]) >> 31 != 0 ? yes.v[i] : no.v[i];
        return out;
    }
    // the sign bits of registers side by side, the first lane's last
    template <int N>
    static std::uint64_t signs(const Vec (&a)[N]) {
        static_assert(N * lanes <= 64);
        std::uint64_t all = 0;
        for (std::int64_t i = 0; i < N * lanes; ++i) {
            all |= std::uint64_t{bits(a[i / lanes].v[i % lanes]) >> 31} << i;
        }
        return all;
    }
    // the sum of all lanes, halves added lane by lane until one is left
    static float sum(Vec a) { return a.v[0] + a.v[2] + (a.v[1] + a.v[3]); }
    // 2^n where the last bits of a float count n + 127: 1.5 · 2^23 + 127 + n
    static Vec power_of_two(Vec counted) {
        return each(counted, counted, [](float x, float) { return from_bits(bits(x) << 23); });
    }
    // a = mantissa * 2^exponent for positive normal a, mantissa in [1, 2)
    static Vec exponent(Vec a) {
        return each(a, a, [](float x, float) { return static_cast<float>(static_cast<int>(bits(x) >> 23) - 127); });
    }
    static Vec mantissa(Vec a) {
        return each(a, a, [](float x, float) { return from_bits((bits(x) & 0x007FFFFFu) | 0x3F800000u); });
    }
    static void transpose(Vec (&block)[lanes]) {
        for (std::int64_t i = 0; i < lanes; ++i) {
            for (std::int64_t j = 0; j < i; ++j) {
                const float a = block[i].v[j];
                block[i].v[j] = block[j].v[i];
                block[j].v[i] = a;
            }
        }
    }

  private:
    template <class F>
    static Vec each(Vec a, Vec b, F f) {
        Vec out;
        for (std::int64_t i = 0; i < lanes; ++i) out.v[i] = f(a.v[i], b.v[i]);
        return out;
    }
    static std::uint32_t bits(float a) {
        std::uint32_t out;
        memcpy(&out, &a, sizeof out);
        return out;
    }
    static float from_bits(std::uint32_t a) {
        float out;
        memcpy(&out, &a, sizeof out);
        return out;
    }
};

}  // namespace
}  // namespace optprune

#include "common/simd/scan_bits.h"

#endif
