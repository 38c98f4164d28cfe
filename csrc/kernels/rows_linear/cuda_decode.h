// Weights made dense, 64 columns of some rows at a time. Eight neighbouring lanes take a row: by words each a chunk of it,
// by columns each every eighth kept weight.
//
// `put` stores into shared memory: put(row, c, eight) a chunk of a row of the tile, put(row, column, one) one number.
#ifndef OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_DECODE_H
#define OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_DECODE_H

#include "kernels/rows_linear/cuda_numbers.h"

namespace optprune::rows_linear::many {
namespace {

constexpr int depth = 64;                          // columns of a step: a word of mask, a quarter of a tile of columns
constexpr int chunk = 8, chunks = depth / chunk;   // and how many a row has
constexpr int rows_of_warp = 32 / chunks;          // at a time

// The tile's row that a thread takes as its `i`-th of `own`.
template <int own>
__device__ __forceinline__ int row_of(int i) {
    const int thread = static_cast<int>(threadIdx.x);
    return (thread / 32 * own + i) * rows_of_warp + thread % 32 / chunks;
}

// A thread's chunk of each of its rows.
__device__ __forceinline__ int own_chunk() { return static_cast<int>(threadIdx.x) % chunks; }

// Places as words: a lane counts the bits before its chunk.
template <Kind kind, int own>
struct Words {
    std::int64_t at[own];  // the row's next value

    __device__ __forceinline__ Words(const CudaCall &call, std::int64_t first) {
        for (int i = 0; i < own; ++i) at[i] = start_of(call, first + row_of<own>(i));
    }

    template <class Put>
    __device__ __forceinline__ void decode(const CudaCall &call, std::int64_t first, std::int64_t step, const Put &put) {
        const auto *words = static_cast<const std::uint64_t *>(call.places);
        const std::int64_t steps = (call.I + depth - 1) / depth;
        const int shift = own_chunk() * chunk;
        for (int i = 0; i < own; ++i) {
            const std::int64_t row = first + row_of<own>(i);
            const std::uint64_t word = row < call.O ? words[row * steps + step] : 0;
            const auto *values = static_cast<const Raw<kind> *>(call.values) + at[i] +
                                 __popcll(word & ((std::uint64_t{1} << shift) - 1));
            at[i] += __popcll(word);
            const auto bits = static_cast<unsigned>(word >> shift);
            Pack<Raw<kind>, chunk> eight{};
            for (int j = 0; j < chunk; ++j) {
                const bool here = bits >> j & 1;
                if (here) eight.number[j] = *values;
                values += here;
            }
            put(row_of<own>(i), own_chunk(), eight);
        }
    }
};

// Places as columns in tiles of 256: a lane goes on until a column belongs to the next step.
template <Kind kind, int own>
struct Columns {
    std::int64_t end[own];  // of the row's tile
    int left[own];          // from the lane's next kept weight to there

    __device__ __forceinline__ Columns(const CudaCall &call, std::int64_t first) {
        for (int i = 0; i < own; ++i) end[i] = start_of(call, first + row_of<own>(i));
    }

    template <class Put>
    __device__ __forceinline__ void decode(const CudaCall &call, std::int64_t first, std::int64_t step, const Put &put) {
        constexpr int steps_of_tile = tile_columns / depth;
        const auto *columns = static_cast<const std::uint8_t *>(call.places);
        const auto *values = static_cast<const Raw<kind> *>(call.values);
        const int begin = static_cast<int>(step % steps_of_tile) * depth;
        for (int i = 0; i < own; ++i) {
            put(row_of<own>(i), own_chunk(), Pack<Raw<kind>, chunk>{});
            if (begin == 0) open_tile(call, first + row_of<own>(i), step / steps_of_tile, end[i], left[i]);
        }
        __syncwarp();  // a row's zeros are there, which are this warp's
        for (int i = 0; i < own; ++i) {
            for (; left[i] > 0; left[i] -= chunks) {
                const int column = columns[end[i] - left[i]] - begin;
                if (column >= depth) break;
                put(row_of<own>(i), column, values[end[i] - left[i]]);
            }
        }
    }

    static __device__ __forceinline__ void open_tile(const CudaCall &call, std::int64_t row, std::int64_t tile,
                                                     std::int64_t &end, int &left) {
        const std::int64_t tiles = (call.I + tile_columns - 1) / tile_columns;
        const int count = row < call.O ? call.counts[row * tiles + tile] : 0;
        end += count;
        left = count - own_chunk();
    }
};

}  // namespace
}  // namespace optprune::rows_linear::many

#endif
