// Few samples, places as columns in tiles of 256.
//
//   slice of x          in shared memory, the samples of a column side by side; a block's warps go through it together
//   two tiles of a row  half a warp takes one: its lanes the kept weights in turn, each times its column of the slice
#ifndef OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_FEW_COLUMNS_H
#define OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_FEW_COLUMNS_H

#include "kernels/rows_linear/cuda_few.h"

namespace optprune::rows_linear::few {
namespace {

constexpr int slice_bytes = 32768, side = lanes / 2;
constexpr int in_flight = 4;  // kept weights that a lane asks for at once

// How the work is cut for so many samples: rows of a warp, kept weights of a row at once, columns of a slice.
template <Kind kind, int samples>
struct Cut {
    static constexpr int rows = samples < 8 ? 2 : 4, ahead = in_flight / rows;
    static constexpr int columns = slice_bytes / static_cast<int>(samples * sizeof(Raw<kind>));
    static_assert(columns % (2 * tile_columns) == 0);
};

template <Kind kind, int samples>
using Slice = Pack<Raw<kind>, samples>[Cut<kind, samples>::columns];

template <Kind kind, int samples>
__device__ __forceinline__ void fill(const CudaCall &call, std::int64_t first, Slice<kind, samples> &slice) {
    const auto *x = static_cast<const Raw<kind> *>(call.x) + first;
    for (int i = static_cast<int>(threadIdx.x); i < Cut<kind, samples>::columns && first + i < call.I; i += threads) {
        Pack<Raw<kind>, samples> column{};
        for (int b = 0; b < samples; ++b) {
            if (b < call.B) column.number[b] = x[b * call.x_b + i];
        }
        slice[i] = column;
    }
}

// What a lane has left of its tile of a row: kept weights from `at` on, every `side`-th.
struct Share {
    std::int64_t at, end;
};

// A lane's share of the tile `tile`, or for the upper half of a warp the next; `start` moves behind both.
__device__ __forceinline__ Share share_of(const CudaCall &call, std::int64_t row, std::int64_t tile, int lane,
                                          std::int64_t &start) {
    const std::int64_t tiles = (call.I + tile_columns - 1) / tile_columns;
    const std::int16_t *counts = call.counts + row * tiles;
    const bool there = row < call.O, upper = lane >= side;
    const int first = there ? counts[tile] : 0, second = there && tile + 1 < tiles ? counts[tile + 1] : 0;
    const std::int64_t begin = start + (upper ? first : 0);
    start += first + second;
    return {begin + lane % side, begin + (upper ? second : first)};
}

template <Kind kind, int samples, int rows = Cut<kind, samples>::rows>
__device__ __forceinline__ void add(const CudaCall &call, const Pack<Raw<kind>, samples> *slice, Share (&shares)[rows],
                                    float (&sums)[rows][samples]) {
    constexpr int ahead = Cut<kind, samples>::ahead;
    const auto *values = static_cast<const Raw<kind> *>(call.values);
    const auto *columns = static_cast<const std::uint8_t *>(call.places);
    for (bool left = true; left;) {
        left = false;
        Raw<kind> weights[rows][ahead] = {};
        int column[rows][ahead] = {};
        for (int r = 0; r < rows; ++r) {
            for (int k = 0; k < ahead; ++k) {
                const std::int64_t at = shares[r].at + k * side;
                if (at >= shares[r].end) continue;
                weights[r][k] = values[at];
                column[r][k] = columns[at];
            }
        }
        for (int r = 0; r < rows; ++r) {
            for (int k = 0; k < ahead; ++k) {
                if (shares[r].at + k * side >= shares[r].end) continue;
                const Pack<Raw<kind>, samples> given = slice[column[r][k]];
                const float weight = widened<kind>(weights[r][k]);
                for (int b = 0; b < samples; ++b) {
                    sums[r][b] = fmaf(weight, widened<kind>(given.number[b]), sums[r][b]);
                }
            }
            shares[r].at += ahead * side;
            left = left || shares[r].at < shares[r].end;
        }
    }
}

template <Kind kind, int samples>
__global__ void __launch_bounds__(threads, 2) by_columns(const CudaCall call) {
    using Cut = few::Cut<kind, samples>;
    constexpr int rows = Cut::rows;
    __shared__ Slice<kind, samples> slice;
    const int lane = static_cast<int>(threadIdx.x) % lanes, warp = static_cast<int>(threadIdx.x) / lanes;
    for (std::int64_t task = blockIdx.x; task * warps * rows < call.O; task += gridDim.x) {
        const std::int64_t first = (task * warps + warp) * rows;
        float sums[rows][samples] = {};
        std::int64_t start[rows];
        for (int r = 0; r < rows; ++r) start[r] = start_of(call, first + r);
        for (std::int64_t begin = 0; begin < call.I; begin += Cut::columns) {
            __syncthreads();  // everyone is done with the last slice
            fill<kind, samples>(call, begin, slice);
            __syncthreads();
            for (int column = 0; column < Cut::columns && begin + column < call.I; column += 2 * tile_columns) {
                Share shares[rows];
                for (int r = 0; r < rows; ++r) {
                    shares[r] = share_of(call, first + r, (begin + column) / tile_columns, lane, start[r]);
                }
                add<kind, samples>(call, slice + column + lane / side * tile_columns, shares, sums);
            }
        }
        finish<kind>(call, first, lane, sums);
    }
}

}  // namespace
}  // namespace optprune::rows_linear::few

#endif
