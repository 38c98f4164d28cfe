// A linear layer: one kept weight, a few registers of samples.
#ifndef OPTPRUNE_KERNELS_POPULATION_LINEAR_H
#define OPTPRUNE_KERNELS_POPULATION_LINEAR_H

#include "kernels/population/elementwise.h"

namespace optprune::population {
namespace {

constexpr std::int64_t most_registers = 8;

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

template <int R>
void linear_rows(const Step &step, const Rows &rows, const float *x, float *out) {
    const Vec low = step.activation == Activation::relu ? Vec::zero() : Vec::spread(-__builtin_inff());
    for (std::int64_t live = 0; live < rows.live_count; ++live) {
        const std::int64_t r = rows.live[live];
        const std::int64_t *start = rows.start_of(r);
        const float bias = step.bias == nullptr ? 0.0f : step.bias[r];
        add_row<R>(x, rows.kept + start[0], rows.kept + start[1], bias, low, out + r * step.out.stride[0] * L);
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
            weight += visit->count;
        }
    }
}

// G rows by H registers in registers: a column of the tile serves G rows.
template <int G, int H>
void add_block(const float *x, std::int64_t row_floats, const float *weights, std::int64_t columns, std::int64_t from,
               std::int64_t to, float *const (&sums)[3], const float (&bias)[3], Vec low) {
    Vec sum[G][H];
    for (int g = 0; g < G; ++g) {
        for (int h = 0; h < H; ++h) sum[g][h] = from > 0 ? Vec::load(sums[g] + h * L) : Vec::spread(bias[g]);
    }
    for (std::int64_t i = from; i < to; ++i) {
        const float *column = x + i * row_floats;
        Vec weight[G];
        for (int g = 0; g < G; ++g) weight[g] = Vec::spread(weights[g * columns + i]);
        for (int h = 0; h < H; ++h) {
            const Vec v = Vec::load(column + h * L);
            for (int g = 0; g < G; ++g) sum[g][h] = Vec::fma(weight[g], v, sum[g][h]);
        }
    }
    for (int g = 0; g < G; ++g) {
        for (int h = 0; h < H; ++h) Vec::max(low, sum[g][h]).store(sums[g] + h * L);
    }
}

template <int G = 3, int H = 4>
void add_blocks(std::int64_t rows, std::int64_t registers, const float *x, std::int64_t row_floats,
                const float *weights, std::int64_t columns, std::int64_t from, std::int64_t to,
                float *const (&sums)[3], const float (&bias)[3], Vec low) {
    if constexpr (G > 1) {
        if (rows < G) {
            return add_blocks<G - 1, H>(rows, registers, x, row_floats, weights, columns, from, to, sums, bias, low);
        }
    }
    if constexpr (H > 1) {
        if (registers < H) {
            return add_blocks<G, H - 1>(rows, registers, x, row_floats, weights, columns, from, to, sums, bias, low);
        }
    }
    add_block<G, H>(x, row_floats, weights, columns, from, to, sums, bias, low);
}

inline void dense_rows(const Step &step, const Layer &layer, const Rows &rows, std::int64_t registers, const float *x,
                       std::int64_t row_floats, float *out) {
    constexpr std::int64_t cached_columns = 96;
    const Vec nothing = Vec::spread(-__builtin_inff());
    const Vec low = step.activation == Activation::relu ? Vec::zero() : nothing;
    for (std::int64_t from = 0; from == 0 || from < layer.columns; from += cached_columns) {
        const std::int64_t to = from + cached_columns < layer.columns ? from + cached_columns : layer.columns;
        for (std::int64_t live = 0; live < rows.live_count; live += 3) {
            const std::int64_t count = rows.live_count - live < 3 ? rows.live_count - live : 3;
            const float *weights = rows.dense + live * layer.columns;
            for (std::int64_t h = 0; h < registers; h += 4) {
                float *sums[3] = {};
                float bias[3] = {};
                for (std::int64_t g = 0; g < count; ++g) {
                    const std::int64_t r = rows.live[live + g];
                    sums[g] = out + r * step.out.stride[0] * L + h * L;
                    bias[g] = step.bias == nullptr ? 0.0f : step.bias[r];
                }
                add_blocks(count, registers - h < 4 ? registers - h : 4, x + h * L, row_floats, weights, layer.columns,
                           from, to, sums, bias, to == layer.columns ? low : nothing);
            }
        }
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

// Activations other than ReLU take their own pass over the rows that were computed.
inline void activate_rows(const Tile &tile, const Step &step, const Rows &rows, std::int64_t registers) {
    if (step.activation == Activation::none || step.activation == Activation::relu) return;
    float *out = at(tile, step.out);
    for (std::int64_t live = 0; live < rows.live_count; ++live) {
        const std::int64_t r = rows.live[live];
        float *row = out + r * step.out.stride[0] * L;
        if (step.activation == Activation::gelu) {
            gaussian_run(row, registers, L);
            continue;
        }
        for (std::int64_t n = 0; n < registers; ++n) {
            activate(Vec::load(row + n * L), step.activation, step.parameters).store(row + n * L);
        }
    }
}

inline void linear(const Tile &tile, const Step &step) {
    const Layer &layer = tile.call.program.layers[step.layer];
    const Rows &rows = tile.scratch.rows[step.layer];
    const std::int64_t registers = step.a.shape[1], x_step = step.a.stride[0] * L;
    const float *x = at(tile, step.a);
    float *out = at(tile, step.out);
    if (registers <= most_registers) {
        linear_tile(registers, step, layer, rows, x, x_step, out);
    } else {  // columns far apart would fight for the same cache sets: lay them side by side first
        float *packed = tile.scratch.packed;
        for (std::int64_t n = 0; n < registers; n += most_registers) {
            const std::int64_t count = registers - n < most_registers ? registers - n : most_registers;
            for (std::int64_t i = 0; i < layer.columns; ++i) {
                for (std::int64_t j = 0; j < count; ++j) {
                    Vec::load(x + i * x_step + (n + j) * L).store(packed + (i * most_registers + j) * L);
                }
            }
            linear_tile(count, step, layer, rows, packed, most_registers * L, out + n * L);
        }
    }
    activate_rows(tile, step, rows, registers);
}

}  // namespace
}  // namespace optprune::population

#endif
