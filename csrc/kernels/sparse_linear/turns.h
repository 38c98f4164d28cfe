// The turns of a slice, one by one. See turns_avx512.h for the other way.
#ifndef OPTPRUNE_KERNELS_SPARSE_LINEAR_TURNS_H
#define OPTPRUNE_KERNELS_SPARSE_LINEAR_TURNS_H

#include "kernels/sparse_linear/sparse_linear.h"

namespace optprune::sparse_linear {
namespace {

// The kernel for as few samples as its registers hold; null: this one.
constexpr const Kernel *narrow = nullptr;

// So many turns have their activations picked at once.
constexpr std::int64_t turns_at_once = 1;

inline void pick_turns(const float *x, const std::uint8_t *columns, Eight (&out)[turns_at_once]) {
    out[0] = Eight::pick(x, columns);
}

// One turn more for the rows that keep more than `full`; returns how many they are.
inline std::int64_t one_more(const float *x, const float *values, const std::uint8_t *columns,
                             const std::int16_t *counts, std::int64_t full, Eight &sum) {
    float sums[slice_rows];
    sum.store(sums);
    std::int64_t rows = 0;
    for (; rows < slice_rows && counts[rows] > full; ++rows) {
        sums[rows] = multiply_add(values[rows], x[columns[rows]], sums[rows]);
    }
    sum = Eight::load(sums);
    return rows;
}

}  // namespace
}  // namespace optprune::sparse_linear

#endif
