// A convolution of one register of samples, with what follows it: bias, residual, ReLU, 2x2 maximum.
#ifndef OPTPRUNE_KERNELS_POPULATION_CONV2D_H
#define OPTPRUNE_KERNELS_POPULATION_CONV2D_H

#include "kernels/population/conv2d_dense.h"

namespace optprune::population {
namespace {

// One output channel over a block of outputs. Steps count floats.
struct Patch {
    const Kept *kept, *end;
    const float *from;                       // under the block's first output
    std::int64_t x_step, y_step;             // from one output to the next
    const float *residual;                   // added to the outputs, or null
    std::int64_t residual_y;
    float *to;
    std::int64_t to_y;
    float bias;
    Vec low;                                 // zero for ReLU, else minus infinity
};

// G rows of N outputs, all in registers. Unit: outputs lie one after another, a step that goes into the address.
template <int G, int N, bool Unit>
void add_patch(const Patch &patch) {
    const std::int64_t x_step = Unit ? L : patch.x_step;
    Vec sum[G][N];
    for (int g = 0; g < G; ++g) {
        for (int j = 0; j < N; ++j) sum[g][j] = Vec::spread(patch.bias);
    }
    for (const Kept *kept = patch.kept; kept != patch.end; ++kept) {
        const Vec weight = Vec::spread(kept->weight);
        const float *x = patch.from + kept->offset;
        for (int g = 0; g < G; ++g) {
            for (int j = 0; j < N; ++j) {
                sum[g][j] = Vec::fma(weight, Vec::load(x + g * patch.y_step + j * x_step), sum[g][j]);
            }
        }
    }
    if (patch.residual != nullptr) {
        for (int g = 0; g < G; ++g) {
            for (int j = 0; j < N; ++j) {
                sum[g][j] = Vec::add(sum[g][j], Vec::load(patch.residual + g * patch.residual_y + j * L));
            }
        }
    }
    for (int g = 0; g < G; ++g) {
        for (int j = 0; j < N; ++j) Vec::max(patch.low, sum[g][j]).store(patch.to + g * patch.to_y + j * L);
    }
}

// Rows that N columns leave registers for.
template <int N>
constexpr int patch_rows = Vec::positions / N >= 4 ? 4 : Vec::positions / N >= 2 ? 2 : 1;

// `rows` rows of `columns` <= N outputs.
template <bool Unit, int N = Vec::positions>
void add_rows(Patch patch, std::int64_t rows, std::int64_t columns) {
    if constexpr (N > 1) {
        if (columns < N) return add_rows<Unit, N - 1>(patch, rows, columns);
    }
    constexpr int G = patch_rows<N>;
    const auto advance = [&](std::int64_t by) {
        patch.from += by * patch.y_step;
        patch.to += by * patch.to_y;
        if (patch.residual != nullptr) patch.residual += by * patch.residual_y;
    };
    for (; rows >= G; rows -= G, advance(G)) add_patch<G, N, Unit>(patch);
    for (; rows > 0; --rows, advance(1)) add_patch<1, N, Unit>(patch);
}

// Outputs side by side: few enough that all the inputs that they read stay in the first-level cache while one output
// channel after the other reads them, but not fewer than hide the latency of a multiply-add.
inline std::int64_t strip_columns(const Layer &layer, std::int64_t out_w, std::int64_t kernel_w, std::int64_t x_step) {
    constexpr std::int64_t cached = 24 * 1024 / sizeof(float) / L, fewest = Vec::positions < 8 ? Vec::positions : 8;
    std::int64_t most = Vec::positions;
    const std::int64_t rows = layer.columns / kernel_w;  // of input that one output reads
    while (most > fewest && rows * ((most - 1) * x_step + kernel_w) > cached) --most;
    const std::int64_t pieces = (out_w + most - 1) / most;
    return (out_w + pieces - 1) / pieces;
}

inline void pool_pairs(const float *strip, std::int64_t columns, float *to) {
    for (std::int64_t x = 0; x + 1 < columns; x += 2) {
        const float *upper = strip + x * L, *lower = upper + columns * L;
        const Vec top = Vec::max(Vec::load(upper), Vec::load(upper + L));
        Vec::max(top, Vec::max(Vec::load(lower), Vec::load(lower + L))).store(to + x / 2 * L);
    }
}

// numbers: stride y, stride x, groups, H', W' (before pooling), kernel width, 1 if a 2x2 maximum follows, 1 if b is added
inline void conv2d(const Tile &tile, const Step &step) {
    const Layer &layer = tile.call.program.layers[step.layer];
    const Rows &rows = tile.scratch.rows[step.layer];
    if (rows.is_dense) return conv2d_dense(tile, step);
    const std::int64_t *n = step.numbers;
    const std::int64_t group_rows = layer.rows / n[2], out_h = n[3], out_w = n[4];
    const bool pools = n[6] != 0, adds = n[7] != 0;
    const std::int64_t group_floats = step.a.shape[0] / n[2] * step.a.stride[0] * L;
    const float *from = at(tile, step.a), *residual = adds ? at(tile, step.b) : nullptr;
    float *to = at(tile, step.out), *strip = tile.scratch.strip;
    const std::int64_t row = step.a.stride[1] * n[0] * L, column = step.a.stride[2] * n[1] * L;
    std::int64_t width = strip_columns(layer, out_w, n[5], n[1]);
    if (pools && width % 2 != 0) width = width < Vec::positions ? width + 1 : width - 1;
    // Rows that share registers are taken together; otherwise row by row, so that a strip's inputs stay in cache.
    const std::int64_t height = pools ? 2 : Vec::positions / width >= 4 ? 4 : Vec::positions / width >= 2 ? 2 : 1;
    Patch patch;
    patch.x_step = column, patch.y_step = row;
    patch.low = step.activation == Activation::relu ? Vec::zero() : Vec::spread(-__builtin_inff());
    patch.residual_y = adds ? step.b.stride[1] * L : 0;
    for (std::int64_t y = 0; y < out_h; y += height) {
        const std::int64_t count = out_h - y < height ? out_h - y : height;
        for (std::int64_t x = 0; x < out_w; x += width) {
            const std::int64_t columns = out_w - x < width ? out_w - x : width;
            for (std::int64_t live = 0; live < rows.live_count; ++live) {
                const std::int64_t o = rows.live[live];
                const std::int64_t *start = rows.panel_start(o, 0);
                patch.kept = rows.kept + start[0], patch.end = rows.kept + start[1];
                patch.bias = step.bias == nullptr ? 0.0f : step.bias[o];
                patch.from = from + o / group_rows * group_floats + y * row + x * column;
                const std::int64_t out = o * step.out.stride[0];
                if (adds) {
                    patch.residual = residual + (o * step.b.stride[0] + y * step.b.stride[1] + x) * L;
                } else {
                    patch.residual = nullptr;
                }
                patch.to = pools ? strip : to + (out + y * step.out.stride[1] + x) * L;
                patch.to_y = pools ? columns * L : step.out.stride[1] * L;
                column == L ? add_rows<true>(patch, count, columns) : add_rows<false>(patch, count, columns);
                if (pools && count == 2) {
                    pool_pairs(strip, columns, to + (out + y / 2 * step.out.stride[1] + x / 2) * L);
                }
            }
        }
    }
}

}  // namespace
}  // namespace optprune::population

#endif
