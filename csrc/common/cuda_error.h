// An error of the CUDA runtime becomes an exception that keeps the runtime's own words.
#ifndef OPTPRUNE_COMMON_CUDA_ERROR_H
#define OPTPRUNE_COMMON_CUDA_ERROR_H

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace optprune::cuda {

inline void check(cudaError_t status, const char *where) {
    if (status == cudaSuccess) return;
    throw std::runtime_error(std::string(where) + ": " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) +
                             ")");
}

}  // namespace optprune::cuda

#endif
