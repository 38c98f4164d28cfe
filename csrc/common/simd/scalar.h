// Vec: four numbers in plain C++, for every machine. std::fma rounds once, with or without such an instruction.
//
// Each kernel file includes one header of this folder. All of it has internal linkage: a function that two files share
// at link time could bring instructions of one into the other, and onto a processor that lacks them.
#ifndef OPTPRUNE_COMMON_SIMD_SCALAR_H
#define OPTPRUNE_COMMON_SIMD_SCALAR_H

#include <math.h>

#include <cstdint>

namespace optprune {
namespace {

struct Vec {
    static constexpr std::int64_t lanes = 4;
    static constexpr int registers = 4;  // accumulators that a row of the linear kernel holds
    static constexpr int positions = 4;  // accumulators that a row of the convolution holds

    float v[lanes];

    static Vec zero() { return {{0, 0, 0, 0}}; }
    static Vec spread(float a) { return {{a, a, a, a}}; }
    static Vec load(const float *from) { return {{from[0], from[1], from[2], from[3]}}; }
    static Vec load_first(const float *from, std::int64_t n) {
        Vec out = zero();
        for (std::int64_t i = 0; i < n; ++i) out.v[i] = from[i];
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
    static void transpose(Vec (&block)[lanes]) {
        for (std::int64_t i = 0; i < lanes; ++i) {
            for (std::int64_t j = 0; j < i; ++j) {
                const float a = block[i].v[j];
                block[i].v[j] = block[j].v[i];
                block[j].v[i] = a;
            }
        }
    }
};

}  // namespace
}  // namespace optprune

#include "common/simd/scan_bits.h"

#endif
