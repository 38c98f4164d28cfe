// Fitness of the neighbours of one mask: for each tile of samples the parent runs once and its tile stays in memory; a
// move then recomputes only what its flips reach, and what it has overwritten is put back.
//
//   flip ─▶ its row ─▶ rows that read a changed row ─▶ … ─▶ loss
//
// A row is recomputed whole, in the order of a fresh pass, so every fitness is bit for bit that of the moved mask; there
// is no drift to clear. Rows that come out as they were change nothing downstream.
#ifndef OPTPRUNE_KERNELS_MOVES_H
#define OPTPRUNE_KERNELS_MOVES_H

#include <cstdint>

#include "common/variants.h"
#include "kernels/population/population.h"

namespace optprune::moves {

using population::Kept;

// A row with flipped bits, and what it keeps then.
struct Flipped {
    std::int64_t layer, row;
    std::int64_t start[2];  // into the pool of kept weights
};

constexpr int most_chained = 16;  // layers that chain.h has room for
constexpr std::int64_t most_slopes = 4096;  // a sample; a thread keeps those of a tile

// In a chain of linear layers: what one row adds to its sums after a move. Its terms follow one another in the pool,
// first those with what the move made of inputs, then those with the parent's inputs.
struct RowChange {
    std::int32_t layer, row;
    std::int32_t differences, inputs;
};

// Where a move begins; the next one begins where it ends.
struct Move {
    std::int64_t number;    // its place among the sums
    std::int64_t flipped;   // rows with flipped bits; of a chain, those in whole layers
    std::int64_t rows;      // of a chain
    std::int64_t terms;     // in the pool, of the rows of a chain
    std::int64_t whole;     // first layer of a chain that is computed anew; the number of layers: none
    bool chained;
    // Of a chain whose end is answered by slopes (slopes.h): how many inputs of its last two layers change, and the first
    // rows that are corrected for certain, that are corrected where they bend, and that have flips in the last layer.
    // The pool has the numbers of the inputs in front of the terms of these rows.
    std::int64_t inputs, certain, bending, last;
};

// Where a step gets an input from: entry i of its leading dimension lies in unit i / factor of the producer.
// Factor 0: any change of the producer reaches everything.
struct Link {
    std::int64_t producer, factor;
    bool weighted;  // through the weights of a layer: reaches the rows that keep a weight there
};

// How a change spreads through one step.
struct Spread {
    std::int64_t units;       // of the leading dimension that can be recomputed alone; 0: all or nothing
    const Link *links;
    std::int64_t link_count;
    // [units of the weighted producer, ⌈rows / 64⌉]: rows that keep a weight on what the unit feeds
    const std::uint64_t *readers;
};

struct Call {
    const population::Call &parent;   // P = 1; its sums are the parent's
    const Spread *spreads;            // of each step
    const Move *moves;                // [M + 1], those of the same rows behind one another
    const Flipped *flipped;           // by layer within a move
    const RowChange *rows;            // by layer within a move
    const Kept *pool;
    double *sums;                     // [M, ⌈B / sum_group⌉]
    std::int64_t M;
    // From this layer on: linear layers one after another, activations as steps of their own. The number of layers: none
    std::int64_t chained;
    // [inputs of the last layer, its rows + 1]: weights, zeros where dropped, and the largest of their sizes; null: no
    // slopes
    const float *last_weights;
};

// A row of which some samples of neighbouring registers have crossed zero.
struct Bend {
    std::uint64_t samples;
    std::int64_t place;  // row · registers of a tile + the first of these
};

struct Work {
    population::Scratch scratch;
    std::uint64_t *changed;      // a bit a unit, step after step
    const std::int64_t *first;   // [steps]: the word where a step's bits start
    std::int32_t *live;          // rows to recompute
    float *saved;                // what was overwritten, to be put back
    std::int64_t *undo;          // [step, unit] of each
    float *logits;               // of a chain: moved outputs, or how they change; `saved` has what was made of the others
    float *slopes;               // [inputs of the last two layers, outputs + 2, registers]
    float *own_classes;          // [registers]: of each sample
    float *own_weights;          // [inputs of the last layer, registers]: to the class of each sample
    float *shares;               // [outputs, registers]: softmax of the parent's
    std::int64_t *sloped;        // [inputs]: 1 + the tile whose slopes there are
    std::uint64_t *signs;        // [rows of the last layer but one, registers]: of the parent's sums, from there on
    Bend *bends;                 // [rows of the last layer but one, registers]
};

struct Kernel {
    std::int64_t lanes;
    void (*list)(const population::Program &program, const std::uint64_t *words, population::Rows *rows);
    void (*tile)(const Call &call, std::int64_t tile, const Work &work);
};

// A move as Python gives it: flat weight indices, -1 fills.
struct Request {
    const population::Call &parent;
    const Spread *spreads;             // readers not yet filled in
    const std::int64_t *first_weight;  // [layers]: flat index of the layer's first weight, -1: not pruned
    const std::int64_t *indices;       // [M, F]
    std::int64_t M, F;
    double *sums;
    std::int64_t chained;
};

void run(Isa isa, std::int64_t threads, const Request &request);

// Whether the chain ends in a linear layer, ReLU, a linear layer, and their slopes are few.
bool has_slopes(const population::Program &program, std::int64_t chained);

extern const Kernel scalar, avx2, avx512;
extern const Table<Kernel> variants;

}  // namespace optprune::moves

#endif
