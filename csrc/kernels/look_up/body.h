// The kernel, written once. An instruction set's file includes its Vec first and then this.
#ifndef OPTPRUNE_KERNELS_LOOK_UP_BODY_H
#define OPTPRUNE_KERNELS_LOOK_UP_BODY_H

#include "kernels/look_up/look_up.h"
#include "kernels/population/elementwise.h"
#include "kernels/population/linear.h"

namespace optprune::look_up {
namespace {

using population::L;
using population::Layer;
using population::lesser;
using population::Step;

constexpr int most_registers = 4;  // of candidates: with four samples, what a processor keeps in registers
constexpr int lane_inputs = L == 16 ? 4 : L == 8 ? 3 : 2;  // that tell the lanes of a register apart
constexpr std::uint64_t lanes_with[] = {0xAAAA, 0xCCCC, 0xF0F0, 0xFF00};  // lanes whose number has bit 0, 1, 2, 3

// Entry n: the products of the inputs whose bits are set in n, added in ascending order.
inline void fill(Vec (&table)[table_size / L], const Vec (&weight)[group_inputs], const float *x) {
    table[0] = Vec::zero();
    for (int i = 0; i < lane_inputs; ++i) {
        table[0] = Vec::fma_kept(lanes_with[i], weight[i], Vec::spread(x[i * samples_together]), table[0]);
    }
    for (int i = lane_inputs, size = 1; i < group_inputs; ++i, size *= 2) {
        const Vec v = Vec::spread(x[i * samples_together]);
        for (int n = 0; n < size; ++n) table[size + n] = Vec::fma(weight[i], v, table[n]);
    }
}

// One row, R registers of candidates, some samples.
template <int R>
void add_row(const Work &work, const float *x, std::int64_t columns, std::int64_t first, float bias, float *sums) {
    Vec sum[samples_together][R];
    for (int i = 0; i < samples_together; ++i) {
        for (int j = 0; j < R; ++j) sum[i][j] = Vec::spread(bias);
    }
    for (std::int64_t c = 0, g = 0; c < columns; c += group_inputs, ++g) {
        // A byte further on, the picks of the next group are the lowest of their 32 bits.
        const auto *picks = reinterpret_cast<const char *>(
            work.picks + g / groups_together * most_candidates + first) + g % groups_together;
        Vec weight[group_inputs];
        for (int i = 0; i < group_inputs; ++i) weight[i] = Vec::spread(work.weights[c + i]);
        // Sums stay in registers only where this is unrolled; GCC would rather take two groups at once.
#pragma GCC unroll 4
        for (int i = 0; i < samples_together; ++i) {
            Vec table[table_size / L];
            fill(table, weight, x + c * samples_together + i);
            for (int j = 0; j < R; ++j) sum[i][j] = Vec::add(sum[i][j], Vec::pick(table, picks + j * L * 4));
        }
    }
    for (int i = 0; i < samples_together; ++i) {
        for (int j = 0; j < R; ++j) sum[i][j].store(sums + i * most_candidates + j * L);
    }
}

template <int R = most_registers>
void add_rows(std::int64_t registers, const Work &work, const float *x, std::int64_t columns, std::int64_t first,
              float bias, float *sums) {
    if constexpr (R > 1) {
        if (registers < R) return add_rows<R - 1>(registers, work, x, columns, first, bias, sums);
    }
    add_row<R>(work, x, columns, first, bias, sums);
}

// Of one row: what each candidate keeps, five bits a byte.
inline void list_picks(const Call &call, const Layer &layer, std::int64_t row, const Part &part, std::uint32_t *picks) {
    constexpr std::int64_t together = group_inputs * groups_together, word_bits = population::word_bits;
    constexpr std::uint64_t five = table_size - 1;
    const std::int64_t W = layer.words();
    for (std::int64_t p = 0; p < part.candidates; ++p) {
        const std::uint64_t *words = call.words + (part.candidate + p) * call.words_step + layer.first_word + row * W;
        for (std::int64_t first = 0, q = p; first < layer.columns; first += together, q += most_candidates) {
            const std::int64_t w = first / word_bits, shift = first % word_bits;
            std::uint64_t bits = words[w] >> shift;
            if (shift + together > word_bits && w + 1 < W) bits |= words[w + 1] << (word_bits - shift);
            picks[q] = static_cast<std::uint32_t>((bits & five) | (bits & five << 5) << 3 | (bits & five << 10) << 6 |
                                                  (bits & five << 15) << 9);
        }
    }
}

// A tile [columns][width * L] in the order in which rows read it; returns the end.
inline float *pack_inputs(const float *x, std::int64_t x_step, std::int64_t floats, std::int64_t columns,
                          std::int64_t filled, float *packed) {
    for (std::int64_t n = 0; n < floats; n += samples_together) {
        for (std::int64_t c = 0; c < filled; ++c, packed += samples_together) {
            for (std::int64_t i = 0; i < samples_together; ++i) packed[i] = c < columns ? x[c * x_step + n + i] : 0.0f;
        }
    }
    return packed;
}

// [samples][candidates] -> of each candidate a register of samples, `step` floats apart
inline void turn_sums(const float *sums, std::int64_t candidates, Vec low, float *out, std::int64_t step) {
    for (std::int64_t first = 0; first < candidates; first += L) {
        Vec block[L];
        for (std::int64_t i = 0; i < L; ++i) block[i] = Vec::load(sums + i * most_candidates + first);
        Vec::transpose(block);
        const std::int64_t count = lesser(L, candidates - first);
        for (std::int64_t c = 0; c < count; ++c) Vec::max(low, block[c]).store(out + (first + c) * step);
    }
}

// One row on one tile: out is what the first candidate gets, the others' lies work.step floats apart.
inline void give_row(const Step &step, const Part &part, const Work &work, const float *x, std::int64_t columns,
                     float bias, std::int64_t registers, float *out) {
    const Vec low = step.activation == population::Activation::relu ? Vec::zero() : Vec::spread(-__builtin_inff());
    for (std::int64_t n = 0; n < registers * L; n += L) {
        // Each candidate's part lies elsewhere, and is asked for while the sums are made.
        for (std::int64_t p = 0; p < part.candidates; ++p) __builtin_prefetch(out + p * work.step + n, 1);
        for (std::int64_t i = 0; i < L; i += samples_together, x += columns * samples_together) {
            float *sums = work.sums + i * most_candidates;
            for (std::int64_t first = 0; first < part.candidates; first += most_registers * L) {
                const std::int64_t left = lesser(part.candidates - first, most_registers * L);
                add_rows((left + L - 1) / L, work, x, columns, first, bias, sums + first);
            }
        }
        turn_sums(work.sums, part.candidates, low, out + n, work.step);
    }
    if (!population::has_curve(step)) return;
    for (std::int64_t p = 0; p < part.candidates; ++p) {
        population::activate_run(step, out + p * work.step, registers);
    }
}

void look_up(const Call &call, const Part &part, const Work &work) {
    const Program &program = call.program;
    const Step &step = program.steps[0];
    const Layer &layer = program.layers[step.layer];
    const std::int64_t columns = (layer.columns + group_inputs - 1) / group_inputs * group_inputs;
    const std::int64_t floats = program.width * L;
    float *packed = work.inputs;
    for (std::int64_t t = 0; t < part.tiles; ++t) {
        const float *x = population::wide_input(call, part.tile + t) + step.a.offset * L;
        packed = pack_inputs(x, step.a.stride[0] * L, floats, layer.columns, columns, packed);
    }
    for (std::int64_t i = layer.columns; i < columns; ++i) work.weights[i] = 0.0f;
    for (std::int64_t row = 0; row < layer.rows; ++row) {
        for (std::int64_t i = 0; i < layer.columns; ++i) work.weights[i] = layer.weight[row * layer.columns + i];
        list_picks(call, layer, row, part, work.picks);
        const float bias = step.bias == nullptr ? 0.0f : step.bias[row];
        for (std::int64_t t = 0; t < part.tiles; ++t) {
            give_row(step, part, work, work.inputs + t * floats * columns, columns, bias, program.width,
                     work.given + (t * layer.rows + row) * floats);
        }
    }
}

[[maybe_unused]] constexpr Kernel kernel{L, look_up};

}  // namespace
}  // namespace optprune::look_up

#endif
