// A convolution of a mask that keeps most weights: dropped ones are multiplied as zeros, which change no sum, so that
// output channels can share what they load.
//
//              H outputs
//            ┌───────────┐   in registers; a column costs H loads and G spreads for G·H multiply-adds
//   G rows   │   sums    │
//            └───────────┘
//
// Outputs are taken in strips, a strip's columns in panels of channels whose inputs the first-level cache holds.
#ifndef OPTPRUNE_KERNELS_POPULATION_CONV2D_DENSE_H
#define OPTPRUNE_KERNELS_POPULATION_CONV2D_DENSE_H

#include "kernels/population/elementwise.h"

namespace optprune::population {
namespace {

constexpr int block_outputs = 4;  // also the four that a 2x2 maximum joins
constexpr int block_rows = Vec::block_rows;

// Places of some outputs in every channel, in floats from its first number: of what they read, write, and are added to.
struct Outputs {
    int count;
    std::int64_t from[dense_strip], to[dense_strip], residual[dense_strip];
};

// Some outputs of every channel, and a panel of columns.
struct Strip {
    Outputs outputs;
    const std::int64_t *offset;              // of a column, in registers
    std::int64_t columns, first, end;        // of a row; of this panel
    bool pools;
    Vec low, high;                           // of the activation
};

// Up to block_rows channels of one group.
struct Channels {
    const float *input, *weights;
    const float *bias[block_rows], *residual[block_rows];  // or null
    float *to[block_rows];
    float *sums;                             // between panels: [channel, output of the strip]
};

inline void store_outputs(const Strip &strip, int first, int count, Vec *values, float *to) {
    for (int h = 0; h < count; ++h) values[h] = Vec::min(strip.high, Vec::max(strip.low, values[h]));
    if (!strip.pools) {
        for (int h = 0; h < count; ++h) values[h].store(to + strip.outputs.to[first + h]);
        return;
    }
    const Vec top = Vec::max(values[0], values[1]);
    Vec::max(top, Vec::max(values[2], values[3])).store(to + strip.outputs.to[first]);
}

template <int G, int H>
void add_outputs(const Strip &strip, const Channels &channels, int first) {
    Vec sum[G][H];
    const auto between = [&](int g, int h) { return channels.sums + (g * dense_strip + first + h) * L; };
    for (int g = 0; g < G; ++g) {
        const Vec bias = Vec::spread(channels.bias[g] == nullptr ? 0.0f : *channels.bias[g]);
        for (int h = 0; h < H; ++h) sum[g][h] = strip.first > 0 ? Vec::load(between(g, h)) : bias;
    }
    std::int64_t place[H];
    for (int h = 0; h < H; ++h) place[h] = strip.outputs.from[first + h];
    for (std::int64_t i = strip.first; i < strip.end; ++i) {
        const float *x = channels.input + strip.offset[i] * L;
        Vec weight[G];
        for (int g = 0; g < G; ++g) weight[g] = Vec::spread(channels.weights[g * strip.columns + i]);
        for (int h = 0; h < H; ++h) {
            const Vec v = Vec::load(x + place[h]);
            for (int g = 0; g < G; ++g) sum[g][h] = Vec::fma(weight[g], v, sum[g][h]);
        }
    }
    if (strip.end < strip.columns) {
        for (int g = 0; g < G; ++g) {
            for (int h = 0; h < H; ++h) sum[g][h].store(between(g, h));
        }
        return;
    }
    for (int g = 0; g < G; ++g) {
        if (channels.residual[g] != nullptr) {
            for (int h = 0; h < H; ++h) {
                sum[g][h] = Vec::add(sum[g][h], Vec::load(channels.residual[g] + strip.outputs.residual[first + h]));
            }
        }
        store_outputs(strip, first, H, sum[g], channels.to[g]);
    }
}

template <int G, int H = block_outputs>
void add_last(const Strip &strip, const Channels &channels, int first) {
    if constexpr (H > 1) {
        if (strip.outputs.count - first < H) return add_last<G, H - 1>(strip, channels, first);
    }
    add_outputs<G, H>(strip, channels, first);
}

template <int G = block_rows>
void add_channels(const Strip &strip, const Channels &channels, std::int64_t count) {
    if constexpr (G > 1) {
        if (count < G) return add_channels<G - 1>(strip, channels, count);
    }
    for (int first = 0; first < strip.outputs.count; first += block_outputs) add_last<G>(strip, channels, first);
}

// The next outputs of a picture, row by row, or square by square where a 2x2 maximum follows.
struct Cursor {
    std::int64_t height, width, y = 0, x = 0;  // of what is computed: whole squares

    bool at_end() const { return y >= height || width == 0; }

    void advance(std::int64_t by) {
        x += by;
        if (x >= width) x = 0, y += by;
    }
};

inline Outputs take_outputs(const Step &step, bool pools, bool adds, Cursor &cursor) {
    const std::int64_t *n = step.numbers;
    const std::int64_t row = step.a.stride[1] * n[0] * L, column = step.a.stride[2] * n[1] * L;
    const std::int64_t side = pools ? 2 : 1;
    Outputs out;
    out.count = 0;
    for (; out.count < dense_strip && !cursor.at_end(); cursor.advance(side)) {
        for (std::int64_t i = 0; i < side * side; ++i, ++out.count) {
            const std::int64_t y = cursor.y + i / side, x = cursor.x + i % side;
            out.from[out.count] = y * row + x * column;
            out.to[out.count] = (y / side * step.out.stride[1] + x / side) * L;
            out.residual[out.count] = adds ? (y * step.b.stride[1] + x) * L : 0;
        }
    }
    return out;
}

// As many columns as the first-level cache holds the inputs of: whole channels. What a strip reads beyond, because it
// ends in another row than it began or is dilated, is let pass.
inline std::int64_t panel_columns(const Layer &layer, std::int64_t channels, std::int64_t kernel_w, std::int64_t x_step) {
    constexpr std::int64_t cached = 20 * 1024 / sizeof(float) / L;
    const std::int64_t taps = layer.columns / channels;
    const std::int64_t registers = taps / kernel_w * ((dense_strip - 1) * x_step + kernel_w);
    return registers < cached ? cached / registers * taps : taps;
}

// numbers: as conv2d
inline void conv2d_dense(const Tile &tile, const Step &step) {
    const Layer &layer = tile.call.program.layers[step.layer];
    const Rows &rows = tile.scratch.rows[step.layer];
    const std::int64_t *n = step.numbers;
    const std::int64_t group_rows = layer.rows / n[2], group_channels = step.a.shape[0] / n[2];
    const bool adds = n[7] != 0;
    const float *from = at(tile, step.a), *residual = adds ? at(tile, step.b) : nullptr;
    float *to = at(tile, step.out);
    const std::int64_t panel = panel_columns(layer, group_channels, n[5], n[1]);
    Strip strip;
    strip.offset = layer.offset, strip.columns = layer.columns, strip.pools = n[6] != 0;
    const Bounds bounds = bounds_of(step);
    strip.low = Vec::spread(bounds.low), strip.high = Vec::spread(bounds.high);
    Cursor cursor{n[3], n[4]};
    if (strip.pools) cursor.height -= n[3] % 2, cursor.width -= n[4] % 2;
    while (!cursor.at_end()) {
        strip.outputs = take_outputs(step, strip.pools, adds, cursor);
        for (strip.first = 0; strip.first < layer.columns; strip.first = strip.end) {
            strip.end = strip.first + panel < layer.columns ? strip.first + panel : layer.columns;
            for (std::int64_t live = 0, count; live < rows.live_count; live += count) {
                const std::int64_t group = rows.live[live] / group_rows;
                const auto is_own = [&](std::int64_t k) {
                    return live + k < rows.live_count && rows.live[live + k] < (group + 1) * group_rows;
                };
                for (count = 1; count <= block_rows && is_own(count);) ++count;
                // A last row alone would wait for its own sums: it shares what the block before it has.
                if (count > block_rows) count = is_own(count) ? block_rows : (block_rows + 1) / 2;
                Channels channels;
                channels.input = from + group * group_channels * step.a.stride[0] * L;
                channels.weights = rows.dense + live * layer.columns;
                channels.sums = tile.scratch.partial + live * dense_strip * L;
                for (std::int64_t g = 0; g < count; ++g) {
                    const std::int64_t o = rows.live[live + g];
                    channels.bias[g] = step.bias == nullptr ? nullptr : step.bias + o;
                    channels.residual[g] = adds ? residual + o * step.b.stride[0] * L : nullptr;
                    channels.to[g] = to + o * step.out.stride[0] * L;
                }
                add_channels(strip, channels, count);
            }
        }
    }
}

}  // namespace
}  // namespace optprune::population

#endif
