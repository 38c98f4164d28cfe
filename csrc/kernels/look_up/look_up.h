// The first linear layer of a network under many masks, by tables. All candidates read the same inputs through the same
// weights, and differ in what they keep:
//
//   one row, one sample, five inputs    table:  0   w₀x₀   w₁x₁   w₀x₀+w₁x₁   …   w₀x₀+w₁x₁+w₂x₂+w₃x₃+w₄x₄
//   lanes are candidates                sum  =  sum + table[the five bits of each one's mask]
//
// Sixteen candidates pick their sums out of two AVX-512 registers with one instruction: five products, kept or not, for
// one look-up and one addition. What the layer gives is turned, so that samples fill the lanes, and handed to the rest
// of the network, which runs as in `population`.
//
// A sum is the bias, and to it, group by group, five products added among themselves in ascending order: the same on
// every instruction set, and whoever is evaluated beside a candidate, but not the order of `population`.
#ifndef OPTPRUNE_KERNELS_LOOK_UP_H
#define OPTPRUNE_KERNELS_LOOK_UP_H

#include <cstdint>

#include "kernels/population/population.h"

namespace optprune::look_up {

using population::Call;
using population::Program;

constexpr std::int64_t group_inputs = 5, table_size = 1 << group_inputs;
constexpr std::int64_t groups_together = 4;  // whose picks share 32 bits, a byte each
constexpr std::int64_t most_candidates = 64;  // that share a table
constexpr std::int64_t samples_together = 4;  // which share a candidate's picks

// What a thread works in.
struct Work {
    float *inputs;         // of a tile after the other: [width * lanes / samples_together][columns][samples_together]
    float *weights;        // of one row; columns are filled up with zeros to whole groups
    std::uint32_t *picks;  // of one row: [columns / (group_inputs * groups_together)][most_candidates]
    float *sums;           // of one row: [lanes of samples][most_candidates]
    float *given;          // what the layer gives, of each candidate: [tiles][rows][width * lanes]
    std::int64_t step;     // floats from one candidate's to the next
};

// Some candidates on some tiles.
struct Part {
    std::int64_t candidate, candidates, tile, tiles;
};

struct Kernel {
    std::int64_t lanes;
    // All that the first step gives, in work.given.
    void (*look_up)(const Call &call, const Part &part, const Work &work);
};

// How many candidates share a table; 0 where the first step is no linear layer whose inputs all candidates share, or
// one of so many rows that what it gives a few candidates takes too much memory.
std::int64_t candidates_together(Isa isa, const Program &program);

// What population::run gives, within rounding, where candidates_together() is not 0.
void run(Isa isa, std::int64_t threads, const Call &call);

extern const Kernel scalar, avx2, avx512;
extern const Table<Kernel> variants;

}  // namespace optprune::look_up

#endif
