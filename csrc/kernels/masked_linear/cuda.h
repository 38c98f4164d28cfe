// One linear layer under many masks, on a CUDA device:   out[p, b, o] = sum over kept i of x[p, b, i] * weight[o, i]
//
// fma, for float32: every output is one accumulator that takes the products in ascending i, each by one fused multiply-add; a
// dropped weight adds a zero. For finite x that is the sum of the CPU kernels (masked_linear.h), but for the sign of a
// zero.
// mma and wgmma, for float16 and bfloat16: tensor cores, sums in float32 that are rounded once at the end. mma from compute
// capability 8.0 on; wgmma on 9.0 alone, for rows of x and of weight that begin at multiples of 16 bytes.
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_H

#include <cstdint>

namespace optprune::masked_linear {

enum class Kind { float32, bfloat16, float16 };  // as KINDS of optprune_fast/ops/cuda_support.py numbers them
enum class Way { fma, mma, wgmma };              // as WAYS of optprune_fast/ops/masked_linear/cuda_impl.py

// Device addresses. A step is the distance of neighbours in elements; columns and words of a row are neighbours.
struct CudaCall {
    Way way;
    Kind kind;                   // of x, weight and out
    const void *x;               // [P, B, I], steps x_p and x_b; x_p 0: all candidates share one
    const void *weight;          // [O, I], step weight_o
    const std::uint64_t *words;  // [P, O, ⌈I/64⌉], steps words_p and words_o; zero past I
    void *out;                   // [P, B, O], contiguous
    std::int64_t P, B, I, O, x_p, x_b, weight_o, words_p, words_o;
};

// Enqueue the work on a stream (a cudaStream_t as a number) of a device. std::runtime_error with CUDA's own words if the
// launch fails; what fails while the kernel runs shows at the next synchronization.
void cuda(int device, std::uintptr_t stream, const CudaCall &call);

// The same for wgmma, in a file that is compiled for 9.0a, where nvcc can.
void cuda_sm90a(int device, std::uintptr_t stream, const CudaCall &call);

}  // namespace optprune::masked_linear

#endif
