// A whole network under many masks: fitness of P candidates, one tile of samples after the other through all steps.
//
//   input tile ─▶ step ─▶ step ─▶ … ─▶ loss        one candidate, one tile: everything stays in cache
//
// Every number of a tile is a register of samples. A tensor is an array of registers with strides, so that a
// permutation, a slice or the border of a padded picture costs nothing. Convolutions run on a *narrow* tile of one
// register of samples, whose pictures fit into the caches; linear layers on a *wide* tile of `width` registers, so that
// one weight serves many samples. A program runs its narrow steps `width` times, then its wide ones once.
//
// Weights under clear bits are skipped; a layer that keeps most weights multiplies zeros in their place, which
// changes no sum. Each output is one accumulator that starts with the bias and takes the kept products in ascending
// order, so neither the instruction set nor the number of threads changes a bit.
#ifndef OPTPRUNE_KERNELS_POPULATION_H
#define OPTPRUNE_KERNELS_POPULATION_H

#include <cstdint>

#include "common/variants.h"

namespace optprune::population {

constexpr int most_dims = 6;
constexpr int most_numbers = 24;
constexpr std::int64_t word_bits = 64;

enum class Space : std::int64_t { narrow_input, wide_input, narrow, wide, constant };

// Registers of samples. Space constant: one float each, the same for all samples.
struct Tensor {
    Space space;
    std::int64_t offset, rank, shape[most_dims], stride[most_dims];
};

enum class Op : std::int64_t {
    linear,       // a: [I, N] -> out: [O, N], N contiguous registers
    conv2d,       // a: [C, H, W] with its border -> out: [O, H', W']
    activation,   // out = f(a)
    add,          // out = f(a + b)
    subtract,     // out = f(a - b)
    multiply,     // out = f(a * b)
    scale,        // out = f(a * factor + shift)
    max_pool,     // a: [C, H, W] with its border -> out: [C, H', W']
    average_pool,
    mean,         // over the last `dims` dimensions of a
    softmax,      // over the last dimension
    log_softmax,
    layer_norm,   // over the last `dims` dimensions
    matmul,       // a: [..., M, K], b: [..., K, N] -> out: [..., M, N], times a factor and shifted if wanted
    embedding,    // a: [positions] of indices -> out: [E, positions]
    widen,        // narrow a -> one register column of wide out
    loss,         // a: [C, positions, width], b: what is wanted
    halo,         // out: [C, h, W] in bands with their border: the border's rows, from the neighbouring bands
    regroup,      // a: [C, h, W] in bands -> out: in bands of other rows, or [C, H, W] in the first lanes
    spread,       // a: [C, 1, 1] in the first lanes -> out: the same in every band of a sample
};

enum class Activation : std::int64_t {
    none, relu, relu6, leaky_relu, elu, gelu, gelu_tanh, silu, sigmoid, tanh, hardswish, hardsigmoid, hardtanh
};

enum class Loss : std::int64_t { outputs, cross_entropy, error, kl, mse };

struct Step {
    Op op;
    std::int64_t narrow;  // 1: runs for each register of the wide tile
    std::int64_t layer;   // of linear, conv2d; else -1
    Activation activation;
    float parameters[2];  // of the activation
    const float *bias;    // per output unit, or null. scale: factor, shift. layer_norm: weights. embedding: table
    const float *extra;   // layer_norm: biases. matmul: factor, shift
    std::int64_t numbers[most_numbers];
    Tensor out, a, b;
};

// Row r of a layer is read through `columns` columns of a later layer, from column r * columns on.
struct Consumer {
    std::int64_t layer, columns;
};

// A masked (or dense) matrix of weights.
struct Layer {
    const float *weight;         // [rows, columns]
    std::int64_t rows, columns;
    std::int64_t first_word;     // in a mask; -1: not pruned, all weights count
    const std::int64_t *offset;  // [columns]: registers from an output's base in `a` to what the column multiplies
    // Which rows anybody reads: those whose columns some live row of a consumer keeps. Without consumers: all.
    const Consumer *consumers;
    std::int64_t consumer_count;
    std::int64_t registers;      // of samples and positions that one weight of a linear layer serves; 0: a convolution
    double dense_from;           // share of kept weights from which dropped ones are multiplied too; above 1: never

    std::int64_t words() const { return (columns + word_bits - 1) / word_bits; }
};

// What a row keeps, in ascending order of columns. Offsets count floats.
struct Kept {
    std::int32_t offset;
    float weight;
};

constexpr int dense_strip = 16;  // outputs of a channel that a dense convolution takes together

// One word of a row's mask, and how many weights it keeps.
struct Visit {
    std::uint64_t bits;
    std::int32_t row, count;
};

constexpr std::int64_t place_count = word_bits + 2;  // to sort the words of a panel in

// How the kept weights of a layer are given.
enum class Way {
    list,   // row by row, each weight with the offset of its input
    words,  // panel by panel of 64 columns: what the rows read of a panel stays in the first-level cache
    dense,  // all weights, zeros for dropped ones, which change no sum
};

constexpr std::int64_t dense_columns = 128;  // of a panel of a dense linear layer
constexpr std::int64_t dense_registers = 32;  // of samples that share such a panel's weights

constexpr int kept_slack = 8;  // entries past the last one that listing may overwrite

// The kept weights of one layer under one mask.
struct Rows {
    std::int32_t *live;       // rows to compute, ascending
    std::int64_t live_count;
    Way way, whole;           // what linear() takes; the cheapest where all live rows are computed
    std::int64_t *start;      // list: row r's weights start at kept[start[r]]; the last entry is the end of all
    Kept *kept;
    Visit *visits;            // words: live_count in each panel
    std::int32_t *places;     // words: place_count for each panel
    float *packed;            // words: the weights in the order of the visits; dense: memory for the rows
    const float *dense;       // dense: [live_count, columns]; of a linear layer, if packed, panel by panel
    std::uint64_t *used;      // [words]: columns that some live row keeps
    std::int64_t first_row = 0;  // the row that `start` begins with

    const std::int64_t *start_of(std::int64_t row) const { return start + row - first_row; }
};

// Plain pointers: what has templates of the standard library in it must not be compiled for one instruction set only.
struct Program {
    const Step *steps;
    const Layer *layers;
    std::int64_t step_count, layer_count;
    std::int64_t width;                       // registers of samples of a wide tile, 1 … 8
    std::int64_t narrow_size, wide_size;      // registers of the scratch arenas
    std::int64_t narrow_input, wide_input;    // registers of one narrow or wide tile of input
};

// What a thread works in.
struct Scratch {
    float *narrow, *wide;  // zero at first: borders of padded pictures are never written
    std::int64_t narrow_step;  // floats from one narrow tile of a wide one to the next; 0: they use the same memory
    float *packed;         // the columns of one linear tile, side by side
    float *partial;        // sums of a dense convolution between two panels of columns: [channels, dense_strip]
    Rows *rows;            // of each layer
};

struct Call {
    const Program &program;
    const float *narrow_input, *wide_input;   // turned input, tile after tile
    const std::int64_t *targets;              // [B, positions] of class targets, or null
    const std::uint64_t *words;               // mask of candidate p at words + p * words_step
    double *sums;                             // [P, ⌈B / sum_group⌉]: loss of each group of samples
    float *outputs;                           // Loss::outputs: [P, B, C, positions], else null
    std::int64_t P, B, words_step;
    Loss loss;
    double *seconds;                          // [steps]: time spent in each, added up on one thread; or null
};

// Samples whose losses are summed together, on every instruction set: so sums do not depend on the width of a tile.
constexpr std::int64_t sum_group = 32;

struct Kernel {
    std::int64_t lanes;
    // The kept weights of every layer under one mask.
    void (*list)(const Program &program, const std::uint64_t *words, Rows *rows);
    void (*tile)(const Call &call, std::int64_t candidate, std::int64_t tile, const Scratch &scratch);
    // [samples, features] -> [features, lanes]; absent samples become zero
    void (*turn)(const float *x, std::int64_t samples, std::int64_t features, float *turned, std::int64_t step);
};

void run(Isa isa, std::int64_t threads, const Call &call);

// x [B, features] -> tiles of [features, width, lanes], absent samples zero; `turned` has room for ⌈B / tile⌉ tiles
void turn_input(Isa isa, std::int64_t threads, const float *x, std::int64_t B, std::int64_t features,
                std::int64_t width, float *turned);

std::int64_t lanes(Isa isa);

extern const Kernel scalar, avx2, avx512;
extern const Table<Kernel> variants;

}  // namespace optprune::population

#endif
