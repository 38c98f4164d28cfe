// One convolution under many masks:   out[p] = conv2d(x, weight * mask[p])
//
// Every output is one accumulator that starts at +0 and takes the kept products in the order of the row's bits (channel,
// ky, kx ascending), each by one fused multiply-add. Samples lie in the lanes of a register, so neither the width of a
// register nor the number of threads changes a bit of the result. Taps that fall on the padding are multiplied with
// zero: that is a skip as long as weights are finite, which the package requires of them.
#ifndef OPTPRUNE_KERNELS_MASKED_CONV2D_H
#define OPTPRUNE_KERNELS_MASKED_CONV2D_H

#include <cstdint>

#include "common/variants.h"

namespace optprune::masked_conv2d {

struct Shape {
    std::int64_t C, H, W;                   // of a sample
    std::int64_t O, group_channels, kh, kw;  // of the weight
    std::int64_t stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x, groups;

    std::int64_t I() const { return group_channels * kh * kw; }
    std::int64_t padded_h() const { return H + 2 * pad_y; }
    std::int64_t padded_w() const { return W + 2 * pad_x; }
    std::int64_t out_h() const { return (padded_h() - dilation_y * (kh - 1) - 1) / stride_y + 1; }
    std::int64_t out_w() const { return (padded_w() - dilation_x * (kw - 1) - 1) / stride_x + 1; }
};

struct Call {
    const float *x;              // [B, C, H, W] of candidate p at x + p * x_step; x_step 0: all share one
    const float *weight;         // [O, group_channels, kh, kw]
    const std::uint64_t *words;  // [O, ⌈I/64⌉] of candidate p at words + p * words_step; zero past I
    float *out;                  // [P, B, O, H', W']
    std::int64_t P, B, x_step, words_step;
    Shape shape;
};

void run(Isa isa, std::int64_t threads, const Call &call);

// What one task of a kernel reads and writes: one candidate and as many samples as a register has lanes.
struct Block {
    const Shape &shape;
    const float *padded;          // [C, padded_h, padded_w, lanes], from Kernel::pad
    const float *weight;          // [O, I]
    const std::uint64_t *words;   // [O, ⌈I/64⌉]
    float *out;                   // [samples, O, H', W']
    std::int64_t samples;         // at most `lanes`
    const std::int64_t *offsets;  // [I]: from a position of `padded` to what bit i multiplies there
    std::int64_t *taps;           // scratch: I
    float *kept;                  // scratch: I + list_slack
    std::int32_t *columns;        // scratch: 64 + list_slack
    float *sums;                  // scratch: sum_rows * W' * lanes
};

// Rows of outputs that are summed before they are written, so that narrow planes are written in long runs too.
inline std::int64_t sum_rows(const Shape &shape) {
    constexpr std::int64_t positions = 256;
    const std::int64_t rows = positions / shape.out_w();
    return rows < 4 ? 4 : rows;
}

struct Kernel {
    std::int64_t lanes;
    std::int64_t list_slack;
    // `samples` samples [C, H, W] -> [C, padded_h, padded_w, lanes]; absent samples and the padding become zero
    void (*pad)(const Shape &shape, const float *x, std::int64_t samples, float *padded);
    void (*rows)(const Block &block);
};

extern const Kernel scalar, avx2, avx512;
extern const Table<Kernel> variants;

}  // namespace optprune::masked_conv2d

#endif
