// Products of float32 by a block: a square of sums, its factors in shared memory, in steps of `depth` columns. Each sum
// takes its products one after another, each by one fused multiply-add.
#ifndef OPTPRUNE_COMMON_CUDA_SQUARE_H
#define OPTPRUNE_COMMON_CUDA_SQUARE_H

namespace optprune::cuda::square {

constexpr int edge = 64;                  // rows of both factors
constexpr int side = 16;                  // a block has side × side threads
constexpr int threads = side * side;
constexpr int sums_per_side = edge / side;  // a thread has 4 × 4 sums: 8 loads from shared memory for 16 products
// Odd: the lanes of a warp hold one row's columns, and a column's step of 65 puts 32 of them into 32 banks.
constexpr int pitch = edge + 1;

using Sums = float[sums_per_side][sums_per_side];

template <int depth>
struct Factors {
    float x[depth][pitch];
    float weight[depth][pitch];
};

// Rows `row` + 16 r of x and `column` + 16 c of weight.
template <int depth>
__device__ __forceinline__ void multiply(const Factors<depth> &step, int row, int column, Sums &sums) {
#pragma unroll 4
    for (int k = 0; k < depth; ++k) {
        float x[sums_per_side], weight[sums_per_side];
        for (int j = 0; j < sums_per_side; ++j) {
            x[j] = step.x[k][row + j * side];
            weight[j] = step.weight[k][column + j * side];
        }
        for (int r = 0; r < sums_per_side; ++r) {
            for (int c = 0; c < sums_per_side; ++c) sums[r][c] = fmaf(x[r], weight[c], sums[r][c]);
        }
    }
}

}  // namespace optprune::cuda::square

#endif
