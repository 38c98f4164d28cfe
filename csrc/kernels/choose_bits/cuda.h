// choose_bits (choose_bits.h) on a CUDA device: the bits of the CPU kernels.
#ifndef OPTPRUNE_KERNELS_CHOOSE_BITS_CUDA_H
#define OPTPRUNE_KERNELS_CHOOSE_BITS_CUDA_H

#include <cstdint>

namespace optprune::choose_bits {

// Device addresses.
struct CudaCall {
    const std::uint64_t *words;  // [W] of row p at words + p * words_step
    const std::int64_t *counts;  // [P]; below 0 is 0, beyond the bits set in the row is all of them
    const std::uint64_t *seeds;  // [P]
    std::uint64_t *out;          // [P, W], contiguous
    std::int64_t P, W, words_step;
};

// Enqueue the work on a stream (a cudaStream_t as a number) of a device; nothing waits. std::runtime_error with CUDA's
// own words if the launch fails.
void cuda(int device, std::uintptr_t stream, const CudaCall &call);

}  // namespace optprune::choose_bits

#endif
