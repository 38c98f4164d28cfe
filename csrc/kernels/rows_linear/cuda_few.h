// What the kernels for few samples share: a warp takes some rows, a lane a share of their columns and all samples; at the
// end the sums of the lanes are added.
#ifndef OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_FEW_H
#define OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_FEW_H

#include "kernels/rows_linear/cuda_numbers.h"

namespace optprune::rows_linear::few {
namespace {

constexpr int lanes = 32, warps = 8, threads = lanes * warps;
constexpr unsigned all_lanes = 0xFFFFFFFF;

// The sums of all lanes, added in pairs: the same in every lane.
__device__ __forceinline__ float sum_of_lanes(float sum) {
    for (int step = lanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(all_lanes, sum, step);
    return sum;
}

// The sums of this lane and those before it.
__device__ __forceinline__ int sum_through(int own, int lane) {
    for (int step = 1; step < lanes; step *= 2) {
        const int before = __shfl_up_sync(all_lanes, own, step);
        if (lane >= step) own += before;
    }
    return own;
}

// Add up and store the outputs of rows from `first` on, sample b by lane b.
template <Kind kind, int rows, int samples>
__device__ __forceinline__ void finish(const CudaCall &call, std::int64_t first, int lane,
                                       const float (&sums)[rows][samples]) {
    auto *out = static_cast<Raw<kind> *>(call.out);
#pragma unroll
    for (int r = 0; r < rows; ++r) {
        float own = 0.0f;
#pragma unroll
        for (int b = 0; b < samples; ++b) {
            const float sum = sum_of_lanes(sums[r][b]);
            if (lane == b) own = sum;
        }
        const std::int64_t row = first + r;
        if (row < call.O && lane < call.B) out[lane * call.O + row] = rounded<kind>(own + bias_of<kind>(call, row));
    }
}

}  // namespace
}  // namespace optprune::rows_linear::few

#endif
