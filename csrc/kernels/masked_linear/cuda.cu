#include <algorithm>

#include "common/cuda_error.h"
#include "kernels/masked_linear/cuda_body.h"

namespace optprune::masked_linear {
namespace {

constexpr std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

void cuda(int device, std::uintptr_t stream, const CudaCall &call) {
    const std::int64_t tiles_b = divide_up(call.B, tile), tiles_o = divide_up(call.O, tile);
    const std::int64_t blocks = std::min(call.P * tiles_b * tiles_o, optprune::cuda::most_blocks);
    if (blocks == 0) return;
    // The runtime in this module is not torch's: it has a current device of its own.
    optprune::cuda::check(cudaSetDevice(device), "masked_linear");
    kernel<<<static_cast<unsigned>(blocks), threads, 0, reinterpret_cast<cudaStream_t>(stream)>>>(call, tiles_b,
                                                                                                   tiles_o);
    optprune::cuda::check(cudaGetLastError(), "masked_linear");
}

}  // namespace optprune::masked_linear
