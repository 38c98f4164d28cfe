// The kernel, written once. An instruction set's file includes its Vec first and then this.
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_BODY_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_BODY_H

#include "common/simd/turn.h"
#include "kernels/masked_linear/masked_linear.h"

namespace optprune::masked_linear {
namespace {

constexpr std::int64_t L = Vec::lanes;

// The sums of one row over one panel, for one tile of R registers. `kept` and `columns` list the kept weights.
template <int R>
void add_row(const float *turned, const std::int32_t *columns, const float *kept, std::int64_t count, bool first,
             float *sums) {
    constexpr std::int64_t T = R * L;
    Vec sum[R];
    for (int j = 0; j < R; ++j) sum[j] = first ? Vec::zero() : Vec::load(sums + j * L);
    for (std::int64_t k = 0; k < count; ++k) {
        const Vec weight = Vec::spread(kept[k]);
        const float *x = turned + columns[k] * T;
        for (int j = 0; j < R; ++j) sum[j] = Vec::fma(weight, Vec::load(x + j * L), sum[j]);
    }
    for (int j = 0; j < R; ++j) sum[j].store(sums + j * L);
}

// List the kept weights of rows o … o + count - 1 within the panel; row r has entries start[r] … start[r + 1] - 1.
inline void list_panel(const Block &block, std::int64_t o, std::int64_t count, std::int64_t from, std::int64_t to,
                       std::int64_t *start) {
    const std::int64_t words_per_row = (block.I + 63) / 64;
    start[0] = 0;
    for (std::int64_t r = 0; r < count; ++r) {
        std::int64_t n = start[r];
        const std::uint64_t *words = block.words + (o + r) * words_per_row;
        const float *weight = block.weight + (o + r) * block.I;
        for (std::int64_t i = from; i < to; i += 64) {
            const std::uint64_t word = words[i / 64];
            if (word != 0) {
                n += keep_bits(word, weight + i, static_cast<std::int32_t>(i - from), block.columns + n,
                               block.kept + n);
            }
        }
        start[r + 1] = n;
    }
}

// Columns to list at a time. A sparse mask reads so few columns of a tile that they are not read again before they leave
// the first-level cache: take many, so that sums are seldom put down. A dense one reads each in almost every row: take
// what 32 KiB hold. Measured on 784 x 300: half the time with all weights kept, a sixth less at one in five, more at one
// in twenty.
template <int R>
std::int64_t panel_columns(const Block &block) {
    std::int64_t kept = 0;
    for (std::int64_t w = 0; w < block.O * ((block.I + 63) / 64); ++w) kept += __builtin_popcountll(block.words[w]);
    if (kept * 8 < block.O * block.I) return most_columns;
    constexpr std::int64_t cached = 8192 / (R * L) / 64 * 64;
    return cached < 64 ? 64 : cached < most_columns ? cached : most_columns;
}

// A band is L rows of weights: their sums are turned into [samples, O] in squares of L by L. Its kept weights are listed
// once and serve every tile of the block.
template <int R>
void rows_of(const Block &block) {
    constexpr std::int64_t T = R * L;
    const std::int64_t panel = panel_columns<R>(block);
    for (std::int64_t o = 0; o < block.O; o += L) {
        const std::int64_t rows = block.O - o < L ? block.O - o : L;
        for (std::int64_t from = 0; from == 0 || from < block.I; from += panel) {
            const std::int64_t to = block.I - from < panel ? block.I : from + panel;
            std::int64_t start[L + 1];
            list_panel(block, o, rows, from, to, start);
            for (std::int64_t b = 0; b < block.samples; b += T) {
                for (std::int64_t r = 0; r < rows; ++r) {
                    add_row<R>(block.turned + b * block.I + from * T, block.columns + start[r], block.kept + start[r],
                               start[r + 1] - start[r], from == 0, block.sums + b * L + r * T);
                }
            }
        }
        for (std::int64_t b = 0; b < block.samples; b += T) {
            const std::int64_t samples = block.samples - b < T ? block.samples - b : T;
            optprune::turn(block.sums + b * L, T, rows, samples, block.out + b * block.O + o, block.O, rows);
        }
    }
}

template <int R = Vec::registers>
void rows(const Block &block) {
    if constexpr (R > 1) {
        if (block.registers < R) return rows<R - 1>(block);
    }
    rows_of<R>(block);
}

void turn(const float *x, std::int64_t samples, std::int64_t I, std::int64_t registers, float *turned) {
    for (std::int64_t j = 0; j < registers; ++j) {
        const std::int64_t left = samples - j * L, count = left < 0 ? 0 : left < L ? left : L;
        optprune::turn(x + (count > 0 ? j * L * I : 0), I, count, I, turned + j * L, registers * L, L);
    }
}

constexpr Kernel kernel{L, Vec::registers, L * most_columns + keep_slack, turn, rows<>};

}  // namespace
}  // namespace optprune::masked_linear

#endif
