#include <cuda_fp16.h>

#include "common/cuda_error.h"
#include "kernels/topk_threshold/cuda_launches.h"

namespace optprune::topk_threshold::device {

void cuda(int device, std::uintptr_t stream, int blocks, const CudaCall &call) {
    // The runtime in this module is not torch's: it has a current device of its own.
    optprune::cuda::check(cudaSetDevice(device), "topk_threshold");
    run([stream](auto kernel, unsigned across, unsigned along, auto... arguments) {
        kernel<<<dim3(across, along), threads, 0, reinterpret_cast<cudaStream_t>(stream)>>>(arguments...);
        optprune::cuda::check(cudaGetLastError(), "topk_threshold");
    }, blocks, call);
}

}  // namespace optprune::topk_threshold::device
