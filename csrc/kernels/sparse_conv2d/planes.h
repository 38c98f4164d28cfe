// The input of a convolution as padded planes, in which a tap is a shift.
//
// Stride 1: rows of W pixels and pw zeros, H rows and ph rows of zeros, sample after sample. A row's zeros are the padding
// to its right and to the left of the next one; likewise below and above.
//
//   . . . . .          pixel (b, y, x) of the output reads at  (b · rows + y) · pitch + x  +  ky · dh · pitch + kx · dw
//   . a b . c d .
//   . e f . g h . …    (two samples of 2 x 2, padding 1; pitch 3)
//
// Stride s: one such plane for each phase (y mod sh, x mod sw) of the padded input, where strides are 1 again.
#ifndef OPTPRUNE_KERNELS_SPARSE_CONV2D_PLANES_H
#define OPTPRUNE_KERNELS_SPARSE_CONV2D_PLANES_H

#include <algorithm>
#include <cstring>
#include <vector>

#include "common/buffer.h"
#include "common/thread_pool.h"
#include "kernels/sparse_conv2d/sparse_conv2d.h"

namespace optprune::sparse_conv2d {

struct Axis {
    std::int64_t size, taps, stride, padding, dilation;

    bool shared() const { return stride == 1; }  // padding of neighbours
    std::int64_t outputs() const { return (size + 2 * padding - dilation * (taps - 1) - 1) / stride + 1; }
    // of a plane; more outputs than inputs have more padding than a kernel covers
    std::int64_t pitch() const {
        return std::max(outputs(), shared() ? size + padding : divide_up(size + 2 * padding, stride));
    }
    std::int64_t lead() const { return shared() ? padding : 0; }
    std::int64_t phase(std::int64_t tap) const { return tap * dilation % stride; }
    std::int64_t shift(std::int64_t tap) const { return tap * dilation / stride; }
};

class PaddedPlanes {
  public:
    // width: pixels that a kernel reads at a time
    PaddedPlanes(const Shape &shape, std::int64_t width)
        : shape_(shape), high_{shape.H, shape.kh, shape.stride_h, shape.padding_h, shape.dilation_h},
          wide_{shape.W, shape.kw, shape.stride_w, shape.padding_w, shape.dilation_w} {
        const std::int64_t last = ((shape.B - 1) * high_.pitch() + high_.outputs() - 1) * wide_.pitch() + wide_.outputs();
        pixels_ = divide_up(last, width) * width;
        const std::int64_t reach = high_.shift(shape.kh - 1) * wide_.pitch() + wide_.shift(shape.kw - 1);
        const std::int64_t held = shape.B * high_.pitch() * wide_.pitch() + high_.lead() * wide_.pitch() + wide_.lead();
        plane_ = divide_up(std::max(pixels_ + reach, held), 16) * 16;
    }

    // Positions from the first output pixel to the last, those between rows included; a multiple of the width.
    std::int64_t pixels() const { return pixels_; }
    std::int64_t per_channel() const { return plane_ * high_.stride * wide_.stride; }
    const Axis &high() const { return high_; }
    const Axis &wide() const { return wide_; }

    // Where the taps of one group read, from its first plane on: [C/groups · kh · kw]
    std::vector<std::int64_t> shifts() const {
        std::vector<std::int64_t> out;
        for (std::int64_t c = 0; c < shape_.C / shape_.groups; ++c) {
            for (std::int64_t ky = 0; ky < shape_.kh; ++ky) {
                for (std::int64_t kx = 0; kx < shape_.kw; ++kx) {
                    const std::int64_t phase = high_.phase(ky) * wide_.stride + wide_.phase(kx);
                    out.push_back(c * per_channel() + phase * plane_ + high_.shift(ky) * wide_.pitch() + wide_.shift(kx));
                }
            }
        }
        return out;
    }

    Buffer<float> fill(const float *x, std::int64_t threads) const {
        Buffer<float> planes = make_buffer<float>(std::max<std::int64_t>(1, shape_.C * per_channel()));
        parallel_for(shape_.C, threads, [&](std::int64_t c, std::int64_t) {
            float *to = planes.get() + c * per_channel();
            std::memset(to, 0, static_cast<std::size_t>(per_channel()) * sizeof(float));
            for (std::int64_t b = 0; b < shape_.B; ++b) {
                for (std::int64_t y = 0; y < shape_.H; ++y) {
                    row(x + ((b * shape_.C + c) * shape_.H + y) * shape_.W, b, y, to);
                }
            }
        });
        return planes;
    }

  private:
    void row(const float *x, std::int64_t b, std::int64_t y, float *to) const {
        const std::int64_t padded = high_.shared() ? y + high_.lead() : y + high_.padding;
        const std::int64_t at = (b * high_.pitch() + padded / high_.stride) * wide_.pitch();
        float *phases = to + padded % high_.stride * wide_.stride * plane_ + at;
        if (wide_.shared()) {
            std::memcpy(phases + wide_.lead(), x, static_cast<std::size_t>(shape_.W) * sizeof(float));
            return;
        }
        for (std::int64_t i = 0; i < shape_.W; ++i) {
            const std::int64_t column = i + wide_.padding;
            phases[column % wide_.stride * plane_ + column / wide_.stride] = x[i];
        }
    }

    Shape shape_;
    Axis high_, wide_;
    std::int64_t pixels_, plane_;
};

}  // namespace optprune::sparse_conv2d

#endif
