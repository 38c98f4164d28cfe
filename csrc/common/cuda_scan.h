// Sums over the threads of a block that come before one.
#ifndef OPTPRUNE_COMMON_CUDA_SCAN_H
#define OPTPRUNE_COMMON_CUDA_SCAN_H

namespace optprune::cuda {

// Threads add up in rows: side × side of them, all that the block has. Two barriers; one more must stand before the next
// call.
template <int side>
__device__ __forceinline__ unsigned long long sum_before(unsigned long long own) {
    __shared__ unsigned long long sums[side * side], rows[side];
    const int thread = static_cast<int>(threadIdx.x), row = thread / side;
    sums[thread] = own;
    __syncthreads();
    if (thread < side) {
        unsigned long long sum = 0;
        for (int i = 0; i < side; ++i) sum += sums[thread * side + i];
        rows[thread] = sum;
    }
    __syncthreads();
    unsigned long long before = 0;
    for (int i = 0; i < row; ++i) before += rows[i];
    for (int i = row * side; i < thread; ++i) before += sums[i];
    return before;
}

}  // namespace optprune::cuda

#endif
