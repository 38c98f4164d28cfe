// The kernel: rows of slices over shifted planes. An instruction set's file includes its Vec first.
#ifndef OPTPRUNE_KERNELS_SPARSE_CONV2D_BODY_H
#define OPTPRUNE_KERNELS_SPARSE_CONV2D_BODY_H

#include "kernels/sparse_conv2d/sparse_conv2d.h"
#include "kernels/sparse_linear/rows.h"

namespace optprune::sparse_conv2d {
namespace {

template <int R = Vec::beside>
void many(const Chunk &chunk, const float *x, const std::int64_t *shift, std::int64_t registers, float *sums,
          std::int64_t step) {
    if constexpr (R > 1) {
        if (registers < R) return many<R - 1>(chunk, x, shift, registers, sums, step);
    }
    sparse_linear::rows_of_chunk<R>(chunk, [x, shift](std::uint8_t column) { return x + shift[column]; }, sums, step);
}

}  // namespace
}  // namespace optprune::sparse_conv2d

#endif
