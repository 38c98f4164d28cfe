// The numbers of a call: how they are read, widened to float32, and rounded.
#ifndef OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_NUMBERS_H
#define OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_NUMBERS_H

#include <type_traits>

#include "kernels/rows_linear/cuda.h"

namespace optprune::rows_linear {
namespace {

using optprune::cuda::Half;

template <Kind kind>
using Raw = std::conditional_t<kind == Kind::float32, float, std::uint16_t>;

template <Kind kind>
constexpr Half half_of = kind == Kind::bfloat16 ? Half::bfloat16 : Half::float16;

template <Kind kind>
__device__ __forceinline__ float widened(Raw<kind> number) {
    if constexpr (kind == Kind::float32) {
        return number;
    } else {
        return optprune::cuda::widened<half_of<kind>>(number);
    }
}

template <Kind kind>
__device__ __forceinline__ Raw<kind> rounded(float number) {
    if constexpr (kind == Kind::float32) {
        return number;
    } else {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
        return static_cast<std::uint16_t>(optprune::cuda::rounded<half_of<kind>>(number, 0.0f));
#else
        __trap();  // cuda_impl.py lets no 16-bit type come to an older card
        return 0;
#endif
    }
}

// Neighbours that are read and written together, up to 16 bytes at once.
template <class Number, int many>
struct alignas(sizeof(Number) * many < 16 ? sizeof(Number) * many : 16) Pack {
    Number number[many];
};

// `many` neighbours, of which `there` exist; the rest are zeros. wide: they may be read at once, where all exist.
template <int many, class Number>
__device__ __forceinline__ Pack<Number, many> read(const Number *from, std::int64_t there, bool wide) {
    if (wide && there >= many) return *reinterpret_cast<const Pack<Number, many> *>(from);
    Pack<Number, many> out{};
    for (int i = 0; i < many; ++i) {
        if (i < there) out.number[i] = from[i];
    }
    return out;
}

// Whether the rows of x begin at multiples of so many bytes.
__device__ __forceinline__ bool aligned(const CudaCall &call, int number_bytes, int bytes) {
    const auto step = static_cast<std::uintptr_t>(call.x_b * number_bytes);
    return (reinterpret_cast<std::uintptr_t>(call.x) | step) % bytes == 0;
}

// Where the values of a row begin; 0 for one that is not there.
__device__ __forceinline__ std::int64_t start_of(const CudaCall &call, std::int64_t row) {
    if (row >= call.O) return 0;
    return call.wide_starts ? static_cast<const std::int64_t *>(call.starts)[row]
                            : static_cast<const std::int32_t *>(call.starts)[row];
}

template <Kind kind>
__device__ __forceinline__ float bias_of(const CudaCall &call, std::int64_t row) {
    return call.bias ? widened<kind>(static_cast<const Raw<kind> *>(call.bias)[row]) : 0.0f;
}

}  // namespace
}  // namespace optprune::rows_linear

#endif
