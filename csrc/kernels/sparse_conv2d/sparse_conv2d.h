// A convolution whose weight is kept in slices (kernels/sparse_linear/sparse_linear.h); a row of the weight is an output
// channel, a column one of C/groups · kh · kw taps.
//
// Pixels of all samples lie side by side in a padded plane, of which a tap reads a shifted copy, so an output is the same
// sum as in the linear layer: tiles of 256 taps one after another, each one accumulator in ascending order of the taps.
// Taps in the padding add a zero. Bits depend neither on instruction set and threads, nor on the samples beside one.
#ifndef OPTPRUNE_KERNELS_SPARSE_CONV2D_H
#define OPTPRUNE_KERNELS_SPARSE_CONV2D_H

#include <cstdint>

#include "common/variants.h"
#include "kernels/sparse_linear/sparse_linear.h"

namespace optprune::sparse_conv2d {

using sparse_linear::Chunk;
using sparse_linear::Planes;

struct Shape {
    std::int64_t B, C, H, W, O, kh, kw;
    std::int64_t stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, groups;
};

struct Call {
    const float *x;     // [B, C, H, W]
    Planes weight;      // of all groups, [O, C/groups · kh · kw]: the bands of a group stand together
    const float *bias;  // [O], or null
    float *out;         // [B, O, H', W']
    Shape shape;
};

void run(Isa isa, std::int64_t threads, const Call &call);

// What the linear kernel does, its registers along the pixels of a plane.
struct Kernel {
    const sparse_linear::Kernel *linear;
    // sums[row * step …] += the chunk's part, for registers · lanes pixels; a column's pixels stand at x + shift[column]
    void (*many)(const Chunk &chunk, const float *x, const std::int64_t *shift, std::int64_t registers, float *sums,
                 std::int64_t step);
};

extern const Kernel scalar, avx2, avx512;
extern const Table<Kernel> variants;

}  // namespace optprune::sparse_conv2d

#endif
