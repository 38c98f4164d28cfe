// How cuda.cu and cuda_sm90a.cu launch a kernel.
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_ENQUEUE_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_ENQUEUE_H

#include <algorithm>

#include "common/cuda_error.h"

namespace optprune::masked_linear {
namespace {

inline auto enqueue_on(int device, std::uintptr_t stream) {
    return [=](auto kernel, int threads, int shared, std::int64_t tiles, auto... arguments) {
        const auto check = [](cudaError_t status) { optprune::cuda::check(status, "masked_linear"); };
        const auto blocks = static_cast<unsigned>(std::min(tiles, optprune::cuda::most_blocks));
        if (blocks == 0) return;
        // The runtime in this module is not torch's: it has a current device of its own.
        check(cudaSetDevice(device));
        if (shared) check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared));
        kernel<<<blocks, static_cast<unsigned>(threads), shared, reinterpret_cast<cudaStream_t>(stream)>>>(arguments...);
        check(cudaGetLastError());
    };
}

}  // namespace
}  // namespace optprune::masked_linear

#endif
