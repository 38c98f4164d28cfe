// A linear layer on a CUDA device that reads its kept weights alone:
//
//   out[b, o] = bias[o] + sum over kept i of x[b, i] * weight[o, i]
//
// How the planes lie: optprune_fast/ops/rows.py. Sums are float32, in an order that the shape, the kind and the number of
// samples decide, and nothing else; they are rounded once at the end.
#ifndef OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_H
#define OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_H

#include <cstdint>

namespace optprune::rows_linear {

enum class Kind { float32, bfloat16, float16 };  // as KINDS of optprune_fast/ops/cuda_support.py numbers them

constexpr int tile_columns = 256;  // that a byte tells apart

// Device addresses. A step is the distance of neighbours in elements; the columns of x are neighbours.
struct CudaCall {
    Kind kind;                   // of x, values, bias and out
    const void *x;               // [B, I], step x_b
    const void *values;          // [kept], row after row
    const void *places;          // std::uint64_t [O, ⌈I/64⌉], zero past I; listed: std::uint8_t [kept]
    const std::int16_t *counts;  // listed: [O, ⌈I/256⌉]
    const void *starts;          // [O + 1]: std::int32_t; wide_starts: std::int64_t
    const void *bias;            // [O], or null
    void *out;                   // [B, O], contiguous
    std::int64_t B, I, O, x_b;
    bool listed, wide_starts;
};

// Enqueue the work on a stream (a cudaStream_t as a number) of a device. std::runtime_error with CUDA's own words if the
// launch fails; what fails while the kernel runs shows at the next synchronization.
void cuda(int device, std::uintptr_t stream, const CudaCall &call);

}  // namespace optprune::rows_linear

#endif
