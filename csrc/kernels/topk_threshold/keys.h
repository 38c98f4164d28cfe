// Keys: magnitudes as whole numbers, sign cleared. Comparing them as floats would depend on whether the processor flushes
// denormal numbers.
//
//   float32   0 eeeeeeee fff…f (23)           its own key and the common one
//   bfloat16  0 eeeeeeee fffffff              the upper half of the float32 of the same value
//   float16   0 eeeee ffffffffff              another exponent; every float16 is a normal float32
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_KEYS_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_KEYS_H

#include <string.h>

#include "kernels/topk_threshold/topk_threshold.h"

namespace optprune::topk_threshold {
namespace {

constexpr std::int32_t infinity = 0x7F800000;
constexpr std::int32_t kept_nan = infinity + 1;  // all of them, or they would rank by their idle bits
constexpr std::int32_t dropped_nan = -1;
constexpr std::int32_t lowest_key = -1, highest_key = kept_nan;

constexpr std::int32_t own_infinity(Type type) {
    return type == Type::float32 ? infinity : type == Type::float16 ? 0x7C00 : 0x7F80;
}

// The common key of a type's own key.
inline std::int32_t common_key(Type type, std::int32_t own) {
    if (type == Type::float32) return own > infinity ? kept_nan : own;
    if (type == Type::bfloat16) return own > 0x7F80 ? kept_nan : own < 0 ? own : own * 65536;
    const float count = static_cast<float>(own);  // a denormal float16 counts steps of 2^-24
    std::int32_t bits;
    memcpy(&bits, &count, sizeof bits);
    const std::int32_t denormal = own > 0 ? bits - (24 << 23) : own;
    const std::int32_t normal = own < 0x7C00 ? own * 8192 + (112 << 23) : own == 0x7C00 ? infinity : kept_nan;
    return own < 0x400 ? denormal : normal;
}

// The largest own key whose common key is at most `key`; below all of them for keys that are.
inline std::int32_t own_at_most(Type type, std::int32_t key) {
    const std::int32_t all = type == Type::float32 ? 0x7FFFFFFF : 0x7FFF;
    if (key < 0) return key;
    if (key > infinity) return all;
    if (type == Type::float32) return key;
    if (type == Type::bfloat16) return key >> 16;
    std::int32_t low = 0, high = 0x7C00;
    while (low < high) {
        const std::int32_t middle = (low + high + 1) / 2;
        if (common_key(type, middle) <= key) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

inline std::int64_t bytes_of(Type type) { return type == Type::float32 ? 4 : 2; }

// Common keys of `n` weights in a row.
inline void copy_keys(Type type, const void *weights, std::int64_t n, bool drop, std::int32_t *keys) {
    const auto *full = static_cast<const std::uint32_t *>(weights);
    const auto *half = static_cast<const std::uint16_t *>(weights);
    if (type == Type::float32) {
        for (std::int64_t i = 0; i < n; ++i) keys[i] = common_key(type, static_cast<std::int32_t>(full[i] & 0x7FFFFFFF));
    } else if (type == Type::float16) {
        for (std::int64_t i = 0; i < n; ++i) keys[i] = common_key(Type::float16, half[i] & 0x7FFF);
    } else {
        for (std::int64_t i = 0; i < n; ++i) keys[i] = common_key(Type::bfloat16, half[i] & 0x7FFF);
    }
    if (drop) {
        for (std::int64_t i = 0; i < n; ++i) keys[i] = keys[i] > infinity ? dropped_nan : keys[i];
    }
}

}  // namespace
}  // namespace optprune::topk_threshold

#endif
