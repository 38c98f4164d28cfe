// Few samples, places as words.
//
//   batch of 1024 columns   a lane takes 32 bits of a row's mask; a sum over the lanes before it says where its values lie
//   step of 128 columns     a lane takes four: their bits and where their values lie from the lane that has them, the
//                           values, and x of each sample; times zero where nothing is kept
#ifndef OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_FEW_WORDS_H
#define OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_FEW_WORDS_H

#include "kernels/rows_linear/cuda_few.h"

namespace optprune::rows_linear::few {
namespace {

constexpr int rows_by_words = 2;  // of a warp: they share what is read of x
constexpr int half = 32, own_columns = 4, step = lanes * own_columns, batch = lanes * half;
constexpr int lanes_of_half = half / own_columns;

// A lane's share of a batch of one row.
struct Bits {
    std::uint32_t kept;
    int before, all;  // values of the batch before the lane's first, and of all lanes
};

__device__ __forceinline__ Bits bits_of(const CudaCall &call, std::int64_t row, std::int64_t column, int lane) {
    const std::int64_t halves = (call.I + 63) / 64 * 2, own = column / half + lane;
    const bool there = row < call.O && own < halves;  // of a word, the lower half first
    const std::uint32_t kept = there ? static_cast<const std::uint32_t *>(call.places)[row * halves + own] : 0;
    const int through = sum_through(__popc(kept), lane);
    return {kept, through - __popc(kept), __shfl_sync(all_lanes, through, lanes - 1)};
}

// The lane's four weights of the step that begins `column` columns into a batch, whose first value is `values`.
template <Kind kind>
__device__ __forceinline__ void weights_of(const Bits &bits, const Raw<kind> *values, int column, int lane,
                                           float (&weights)[own_columns]) {
    const int from = column / half + lane / lanes_of_half, first = lane % lanes_of_half * own_columns;
    const std::uint32_t kept = __shfl_sync(all_lanes, bits.kept, from);
    values += __shfl_sync(all_lanes, bits.before, from) + __popc(kept & ((1u << first) - 1));
    for (int j = 0; j < own_columns; ++j) {
        const bool here = kept >> (first + j) & 1;
        weights[j] = here ? widened<kind>(*values) : 0.0f;
        values += here;
    }
}

template <Kind kind, int samples>
__global__ void __launch_bounds__(threads, 2) by_words(const CudaCall call) {
    constexpr int rows = rows_by_words;
    const auto *x = static_cast<const Raw<kind> *>(call.x), *values = static_cast<const Raw<kind> *>(call.values);
    const bool wide = aligned(call, sizeof(Raw<kind>), sizeof(Raw<kind>) * own_columns);
    const int lane = static_cast<int>(threadIdx.x) % lanes, warp = static_cast<int>(threadIdx.x) / lanes;
    for (std::int64_t task = blockIdx.x; task * warps * rows < call.O; task += gridDim.x) {
        const std::int64_t first = (task * warps + warp) * rows;
        float sums[rows][samples] = {};
        std::int64_t at[rows];
        for (int r = 0; r < rows; ++r) at[r] = start_of(call, first + r);
        for (std::int64_t begin = 0; begin < call.I; begin += batch) {
            Bits bits[rows];
            for (int r = 0; r < rows; ++r) bits[r] = bits_of(call, first + r, begin, lane);
#pragma unroll 2
            for (int column = 0; column < batch && begin + column < call.I; column += step) {
                float weights[rows][own_columns];
                for (int r = 0; r < rows; ++r) weights_of<kind>(bits[r], values + at[r], column, lane, weights[r]);
                const std::int64_t own = begin + column + lane * own_columns;
                for (int b = 0; b < samples; ++b) {
                    if (b >= call.B) break;
                    const auto given = read<own_columns>(x + b * call.x_b + own, call.I - own, wide);
                    for (int j = 0; j < own_columns; ++j) {
                        const float factor = widened<kind>(given.number[j]);
                        for (int r = 0; r < rows; ++r) sums[r][b] = fmaf(weights[r][j], factor, sums[r][b]);
                    }
                }
            }
            for (int r = 0; r < rows; ++r) at[r] += bits[r].all;
        }
        finish<kind>(call, first, lane, sums);
    }
}

}  // namespace
}  // namespace optprune::rows_linear::few

#endif
