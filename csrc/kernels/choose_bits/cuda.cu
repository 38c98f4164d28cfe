#include <algorithm>

#include "common/cuda_error.h"
#include "kernels/choose_bits/cuda_body.h"

namespace optprune::choose_bits {

void cuda(int device, std::uintptr_t stream, const CudaCall &call) {
    const std::int64_t blocks = std::min(call.P, optprune::cuda::most_blocks);
    if (blocks == 0) return;
    // The runtime in this module is not torch's: it has a current device of its own.
    optprune::cuda::check(cudaSetDevice(device), "choose_bits");
    kernel<<<static_cast<unsigned>(blocks), threads, 0, reinterpret_cast<cudaStream_t>(stream)>>>(call);
    optprune::cuda::check(cudaGetLastError(), "choose_bits");
}

}  // namespace optprune::choose_bits
