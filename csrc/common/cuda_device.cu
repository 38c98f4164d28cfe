#include "common/cuda_device.h"

#include <cuda_runtime_api.h>

namespace optprune::cuda {

int device_count() {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

std::string device_error() {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    return status == cudaSuccess ? "" : cudaGetErrorString(status);
}

int runtime_version() {
    int version = 0;
    cudaRuntimeGetVersion(&version);
    return version;
}

int driver_version() {
    int version = 0;
    cudaDriverGetVersion(&version);
    return version;
}

std::vector<int> architectures() {
    // nvcc sets the list in every pass, the one for the host included: 750,800 for 7.5 and 8.0.
    std::vector<int> list{__CUDA_ARCH_LIST__};
    for (int &architecture : list) architecture /= 10;
    return list;
}

}  // namespace optprune::cuda
