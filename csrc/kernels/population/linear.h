// A linear layer: one kept weight, a few registers of samples.
#ifndef OPTPRUNE_KERNELS_POPULATION_LINEAR_H
#define OPTPRUNE_KERNELS_POPULATION_LINEAR_H

#include "kernels/population/elementwise.h"
#include "kernels/population/list.h"

namespace optprune::population {
namespace {

constexpr std::int64_t most_registers = 8;
constexpr int block_registers = 4;  // of a block of Vec::block_rows rows
constexpr std::int64_t line = 16;   // floats

template <int R>
void add_row(const float *x, const Kept *kept, const Kept *end, float bias, Vec low, float *sums) {
    Vec sum[R];
    for (int j = 0; j < R; ++j) sum[j] = Vec::spread(bias);
    for (; kept != end; ++kept) {
        const Vec weight = Vec::spread(kept->weight);
        const float *from = x + kept->offset;
        for (int j = 0; j < R; ++j) sum[j] = Vec::fma(weight, Vec::load(from + j * L), sum[j]);
    }
    for (int j = 0; j < R; ++j) Vec::max(low, sum[j]).store(sums + j * L);
}

// What a row reads of a panel of columns, added to its sums so far.
template <int R>
void add_word(const float *x, std::int64_t row_floats, const Visit &visit, const float *weight, const float *sums_in,
              float bias, Vec low, float *sums) {
    Vec sum[R];
    for (int j = 0; j < R; ++j) sum[j] = sums_in != nullptr ? Vec::load(sums_in + j * L) : Vec::spread(bias);
    std::uint64_t bits = visit.bits;
    for (const float *end = weight + visit.count; weight != end; ++weight, bits &= bits - 1) {
        const Vec factor = Vec::spread(*weight);
        const float *from = x + __builtin_ctzll(bits) * row_floats;
        for (int j = 0; j < R; ++j) sum[j] = Vec::fma(factor, Vec::load(from + j * L), sum[j]);
    }
    for (int j = 0; j < R; ++j) Vec::max(low, sum[j]).store(sums + j * L);
}

// Activations other than ReLU are applied to the sums of a row while the first cache holds them.
inline bool has_curve(const Step &step) {
    return step.activation != Activation::none && step.activation != Activation::relu;
}

template <int R>
void linear_rows(const Step &step, const Rows &rows, const float *x, float *out) {
    const Vec low = step.activation == Activation::relu ? Vec::zero() : Vec::spread(-__builtin_inff());
    for (std::int64_t live = 0; live < rows.live_count; ++live) {
        const std::int64_t r = rows.live[live];
        const std::int64_t *start = rows.start_of(r);
        const float bias = step.bias == nullptr ? 0.0f : step.bias[r];
        float *sums = out + r * step.out.stride[0] * L;
        add_row<R>(x, rows.kept + start[0], rows.kept + start[1], bias, low, sums);
        if (has_curve(step)) activate_run(step, sums, R);
    }
}

template <int R>
void linear_words(const Step &step, const Layer &layer, const Rows &rows, const float *x, std::int64_t row_floats,
                  float *out) {
    const Vec nothing = Vec::spread(-__builtin_inff());
    const Vec low = step.activation == Activation::relu ? Vec::zero() : nothing;
    const std::int64_t out_step = step.out.stride[0] * L, W = layer.words();
    const auto bias = [&](std::int64_t r) { return step.bias == nullptr ? 0.0f : step.bias[r]; };
    const Visit *visit = rows.visits;
    const float *weight = rows.packed;
    for (std::int64_t w = 0; w < W; ++w, x += word_bits * row_floats) {
        const Visit *end = visit + rows.live_count;
        const bool is_first = w == 0, is_last = w + 1 == W;
        while (!is_first && !is_last && visit != end && visit->count == 0) ++visit;
        const Vec floor = is_last ? low : nothing;
        for (; visit != end; ++visit) {
            float *sums = out + visit->row * out_step;
            add_word<R>(x, row_floats, *visit, weight, is_first ? nullptr : sums, bias(visit->row), floor, sums);
            if (is_last && has_curve(step)) activate_run(step, sums, R);
            weight += visit->count;
        }
    }
}

// Rows of a block, and what they are added to.
struct Block {
    float *sums[Vec::block_rows];
    float bias[Vec::block_rows];
};

// G rows by H registers in registers: a column of the tile serves G rows. The weights of the next block are fetched
// meanwhile, a cache line of each row at a time.
template <int G, int H>
void add_block(const float *x, std::int64_t x_step, const float *weights, std::int64_t weights_step,
               std::int64_t columns, bool adds, const Block &block, Vec low) {
    Vec sum[G][H];
    for (int g = 0; g < G; ++g) {
        for (int h = 0; h < H; ++h) sum[g][h] = adds ? Vec::load(block.sums[g] + h * L) : Vec::spread(block.bias[g]);
    }
    for (std::int64_t i = 0; i < columns; ++i) {
        if (i % line == 0) {
            for (int g = 0; g < G; ++g) __builtin_prefetch(weights + (G + g) * weights_step + i);
        }
        const float *column = x + i * x_step;
        Vec weight[G];
        for (int g = 0; g < G; ++g) weight[g] = Vec::spread(weights[g * weights_step + i]);
        for (int h = 0; h < H; ++h) {
            const Vec v = Vec::load(column + h * L);
            for (int g = 0; g < G; ++g) sum[g][h] = Vec::fma(weight[g], v, sum[g][h]);
        }
    }
    for (int g = 0; g < G; ++g) {
        for (int h = 0; h < H; ++h) Vec::max(low, sum[g][h]).store(block.sums[g] + h * L);
    }
}

template <int G = Vec::block_rows, int H = block_registers>
void add_blocks(std::int64_t rows, std::int64_t registers, const float *x, std::int64_t x_step, const float *weights,
                std::int64_t weights_step, std::int64_t columns, bool adds, const Block &block, Vec low) {
    if constexpr (G > 1) {
        if (rows < G) {
            return add_blocks<G - 1, H>(rows, registers, x, x_step, weights, weights_step, columns, adds, block, low);
        }
    }
    if constexpr (H > 1) {
        if (registers < H) {
            return add_blocks<G, H - 1>(rows, registers, x, x_step, weights, weights_step, columns, adds, block, low);
        }
    }
    add_block<G, H>(x, x_step, weights, weights_step, columns, adds, block, low);
}

// A panel of columns, from `from` on. A group of registers at a time, group_step floats apart, stays in the first cache
// while the weights of some rows pass by; those stay in the second.
inline void dense_panel(const Step &step, const Layer &layer, const Rows &rows, std::int64_t registers,
                        std::int64_t from, const float *x, std::int64_t x_step, std::int64_t group_step, float *out) {
    constexpr std::int64_t cached_rows = 384;
    const std::int64_t columns = lesser(dense_columns, layer.columns - from), out_step = step.out.stride[0] * L;
    const bool is_last = from + columns == layer.columns, is_packed = rows.dense == rows.packed;
    const float *panel = rows.dense + (is_packed ? from * rows.live_count : from);
    const std::int64_t weights_step = is_packed ? columns : layer.columns;
    const Vec nothing = Vec::spread(-__builtin_inff());
    const Vec low = is_last && step.activation == Activation::relu ? Vec::zero() : nothing;
    for (std::int64_t first = 0; first < rows.live_count; first += cached_rows) {
        const std::int64_t end = lesser(first + cached_rows, rows.live_count);
        for (std::int64_t h = 0; h < registers; h += block_registers) {
            const std::int64_t width = lesser(block_registers, registers - h);
            for (std::int64_t live = first; live < end; live += Vec::block_rows) {
                const std::int64_t count = lesser(Vec::block_rows, end - live);
                Block block = {};
                for (std::int64_t g = 0; g < count; ++g) {
                    const std::int64_t r = rows.live[live + g];
                    block.sums[g] = out + r * out_step + h * L;
                    block.bias[g] = step.bias == nullptr ? 0.0f : step.bias[r];
                }
                add_blocks(count, width, x + h / block_registers * group_step, x_step, panel + live * weights_step,
                           weights_step, columns, from > 0, block, low);
                if (!is_last || !has_curve(step)) continue;
                for (std::int64_t g = 0; g < count; ++g) activate_run(step, block.sums[g], width);
            }
        }
    }
}

inline void dense_rows(const Step &step, const Layer &layer, const Rows &rows, std::int64_t registers, const float *x,
                       std::int64_t x_step, float *out) {
    std::int64_t from = 0;
    do dense_panel(step, layer, rows, registers, from, x + from * x_step, x_step, block_registers * L, out);
    while ((from += dense_columns) < layer.columns);
}

// R registers of each column, side by side: columns far apart would fight for the same cache sets.
template <int R>
void pack_columns(const float *x, std::int64_t x_step, std::int64_t columns, std::int64_t count, float *packed) {
    for (std::int64_t i = 0; i < columns; ++i, x += x_step, packed += R * L) {
        if (count >= R) {
            for (int j = 0; j < R; ++j) Vec::load(x + j * L).store(packed + j * L);
        } else {
            for (std::int64_t j = 0; j < count; ++j) Vec::load(x + j * L).store(packed + j * L);
        }
    }
}

// As dense_rows, for many registers.
inline void dense_strips(const Step &step, const Layer &layer, const Rows &rows, std::int64_t registers, const float *x,
                         std::int64_t x_step, float *packed, float *out) {
    for (std::int64_t n = 0; n < registers; n += dense_registers) {
        const std::int64_t count = lesser(dense_registers, registers - n);
        std::int64_t from = 0;
        do {
            const std::int64_t columns = lesser(dense_columns, layer.columns - from), group = columns * block_registers * L;
            for (std::int64_t h = 0; h < count; h += block_registers) {
                pack_columns<block_registers>(x + from * x_step + (n + h) * L, x_step, columns, count - h,
                                          packed + h / block_registers * group);
            }
            dense_panel(step, layer, rows, count, from, packed, block_registers * L, group, out + n * L);
        } while ((from += dense_columns) < layer.columns);
    }
}

template <int R = most_registers>
void linear_tile(std::int64_t registers, const Step &step, const Layer &layer, const Rows &rows, const float *x,
                 std::int64_t row_floats, float *out) {
    if constexpr (R > 1) {
        if (registers < R) return linear_tile<R - 1>(registers, step, layer, rows, x, row_floats, out);
    }
    switch (rows.way) {
        case Way::list: return linear_rows<R>(step, rows, x, out);
        case Way::words: return linear_words<R>(step, layer, rows, x, row_floats, out);
        case Way::dense: return dense_rows(step, layer, rows, R, x, row_floats, out);
    }
}

inline void linear(const Tile &tile, const Step &step) {
    const Layer &layer = tile.call.program.layers[step.layer];
    const Rows &rows = tile.scratch.rows[step.layer];
    const std::int64_t registers = step.a.shape[1], x_step = step.a.stride[0] * L;
    const float *x = at(tile, step.a);
    float *out = at(tile, step.out), *packed = tile.scratch.packed;
    if (registers <= most_registers) return linear_tile(registers, step, layer, rows, x, x_step, out);
    if (rows.way == Way::dense) return dense_strips(step, layer, rows, registers, x, x_step, packed, out);
    for (std::int64_t n = 0; n < registers; n += most_registers) {
        const std::int64_t count = lesser(most_registers, registers - n);
        pack_columns<most_registers>(x + n * L, x_step, layer.columns, count, packed);
        linear_tile(count, step, layer, rows, packed, most_registers * L, out + n * L);
    }
}

}  // namespace
}  // namespace optprune::population

#endif
