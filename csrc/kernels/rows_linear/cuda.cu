#include <algorithm>

#include "common/cuda_error.h"
#include "common/cuda_tensor_cores.h"
#include "kernels/rows_linear/cuda_launches.h"

namespace optprune::rows_linear {

void cuda(int device, std::uintptr_t stream, const CudaCall &call) {
    run([=](auto kernel, int threads, std::int64_t shares, auto... arguments) {
        const auto blocks = static_cast<unsigned>(std::min(shares, optprune::cuda::most_blocks));
        // The runtime in this module is not torch's: it has a current device of its own.
        optprune::cuda::check(cudaSetDevice(device), "rows_linear");
        kernel<<<blocks, static_cast<unsigned>(threads), 0, reinterpret_cast<cudaStream_t>(stream)>>>(arguments...);
        optprune::cuda::check(cudaGetLastError(), "rows_linear");
    }, call);
}

}  // namespace optprune::rows_linear
