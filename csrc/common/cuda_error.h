// What every launch needs: CUDA's limit of a grid, and its errors as exceptions that keep the runtime's own words.
#ifndef OPTPRUNE_COMMON_CUDA_ERROR_H
#define OPTPRUNE_COMMON_CUDA_ERROR_H

#include <cuda_runtime_api.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace optprune::cuda {

constexpr std::int64_t most_blocks = 2147483647;  // across a grid

inline void check(cudaError_t status, const char *where) {
    if (status == cudaSuccess) return;
    throw std::runtime_error(std::string(where) + ": " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) +
                             ")");
}

}  // namespace optprune::cuda

#endif
