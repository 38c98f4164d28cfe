// The kernel, written once. An instruction set's file includes its Vec first and then this.
#ifndef OPTPRUNE_KERNELS_MASKED_CONV2D_BODY_H
#define OPTPRUNE_KERNELS_MASKED_CONV2D_BODY_H

#include <string.h>

#include "common/simd/turn.h"
#include "kernels/masked_conv2d/masked_conv2d.h"

namespace optprune::masked_conv2d {
namespace {

constexpr std::int64_t L = Vec::lanes;

// One output channel of a block: its kept weights, and the steps between neighbouring outputs in `padded`.
struct Channel {
    const std::int64_t *taps;
    const float *kept;
    std::int64_t count, x_step, y_step, out_w;
};

// The sums of G rows of N outputs, all in registers. Unit: the columns lie one after another, a step that the compiler
// can put into the address.
template <int G, int N, bool Unit>
void add_patch(const Channel &channel, const float *from, float *sums) {
    const std::int64_t x_step = Unit ? L : channel.x_step;
    Vec sum[G][N];
    for (int g = 0; g < G; ++g) {
        for (int j = 0; j < N; ++j) sum[g][j] = Vec::zero();
    }
    for (std::int64_t k = 0; k < channel.count; ++k) {
        const Vec weight = Vec::spread(channel.kept[k]);
        const float *x = from + channel.taps[k];
        for (int g = 0; g < G; ++g) {
            for (int j = 0; j < N; ++j) {
                sum[g][j] = Vec::fma(weight, Vec::load(x + g * channel.y_step + j * x_step), sum[g][j]);
            }
        }
    }
    for (int g = 0; g < G; ++g) {
        for (int j = 0; j < N; ++j) sum[g][j].store(sums + (g * channel.out_w + j) * L);
    }
}

// Rows that N columns leave registers for.
template <int N>
constexpr int patch_rows = Vec::positions / N >= 4 ? 4 : Vec::positions / N >= 2 ? 2 : 1;

// `rows` rows of `columns` <= N outputs.
template <bool Unit, int N = Vec::positions>
void add_columns(const Channel &channel, std::int64_t rows, std::int64_t columns, const float *from, float *sums) {
    if constexpr (N > 1) {
        if (columns < N) return add_columns<Unit, N - 1>(channel, rows, columns, from, sums);
    }
    constexpr int G = patch_rows<N>;
    std::int64_t y = 0;
    for (; y + G <= rows; y += G) {
        add_patch<G, N, Unit>(channel, from + y * channel.y_step, sums + y * channel.out_w * L);
    }
    for (; y < rows; ++y) add_patch<1, N, Unit>(channel, from + y * channel.y_step, sums + y * channel.out_w * L);
}

inline void add_rows(const Channel &channel, std::int64_t rows, const float *from, float *sums) {
    const std::int64_t pieces = (channel.out_w + Vec::positions - 1) / Vec::positions;
    const std::int64_t width = (channel.out_w + pieces - 1) / pieces;
    for (std::int64_t x = 0; x < channel.out_w; x += width) {
        const std::int64_t columns = channel.out_w - x < width ? channel.out_w - x : width;
        if (channel.x_step == L) {
            add_columns<true>(channel, rows, columns, from + x * channel.x_step, sums + x * L);
        } else {
            add_columns<false>(channel, rows, columns, from + x * channel.x_step, sums + x * L);
        }
    }
}

// List the kept weights of one row of bits; returns how many.
inline std::int64_t list_row(const Block &block, std::int64_t o) {
    const std::int64_t I = block.shape.I();
    const std::uint64_t *words = block.words + o * ((I + 63) / 64);
    std::int64_t n = 0;
    for (std::int64_t i = 0; i < I; i += 64) {
        const std::int64_t found = keep_bits(words[i / 64], block.weight + o * I + i, 0, block.columns, block.kept + n);
        for (std::int64_t k = 0; k < found; ++k) block.taps[n + k] = block.offsets[i + block.columns[k]];
        n += found;
    }
    return n;
}

void rows(const Block &block) {
    const Shape &shape = block.shape;
    const std::int64_t out_h = shape.out_h(), out_w = shape.out_w(), plane = out_h * out_w;
    const std::int64_t channel_floats = shape.padded_h() * shape.padded_w() * L;
    const std::int64_t y_step = shape.stride_y * shape.padded_w() * L, most = sum_rows(shape);
    for (std::int64_t o = 0; o < shape.O; ++o) {
        const std::int64_t group = o / (shape.O / shape.groups);
        const float *input = block.padded + group * shape.group_channels * channel_floats;
        const Channel channel{block.taps, block.kept, list_row(block, o), shape.stride_x * L, y_step, out_w};
        for (std::int64_t y = 0; y < out_h; y += most) {
            const std::int64_t count = out_h - y < most ? out_h - y : most;
            add_rows(channel, count, input + y * y_step, block.sums);
            float *out = block.out + o * plane + y * out_w;
            for (std::int64_t q = 0; q < count * out_w; q += L) {
                const std::int64_t positions = count * out_w - q < L ? count * out_w - q : L;
                turn(block.sums + q * L, L, positions, block.samples, out + q, shape.O * plane, positions);
            }
        }
    }
}

void pad(const Shape &shape, const float *x, std::int64_t samples, float *padded) {
    const std::int64_t padded_h = shape.padded_h(), padded_w = shape.padded_w();
    const std::int64_t sample = shape.C * shape.H * shape.W;
    if (shape.pad_x > 0 || shape.pad_y > 0) {
        memset(padded, 0, static_cast<size_t>(shape.C * padded_h * padded_w * L) * sizeof(float));
    }
    // Without columns of padding a whole plane is one run.
    const std::int64_t runs = shape.pad_x > 0 ? shape.H : 1, run = shape.pad_x > 0 ? shape.W : shape.H * shape.W;
    for (std::int64_t c = 0; c < shape.C; ++c) {
        for (std::int64_t y = 0; y < runs; ++y) {
            turn(x + c * shape.H * shape.W + y * run, sample, samples, run,
                 padded + ((c * padded_h + shape.pad_y + y) * padded_w + shape.pad_x) * L, L, L);
        }
    }
}

constexpr Kernel kernel{L, keep_slack, pad, rows};

}  // namespace
}  // namespace optprune::masked_conv2d

#endif
