// A whole network whose weights stay compressed: the program of kernels/population, for one mask.
//
//   tile of samples ─▶ [weights of the layer, listed] ─▶ step ─▶ … ─▶ outputs      tile after tile, spread over threads
//
// A layer's kept weights are listed just before its step and forgotten after it, so that beside the compressed weights a
// thread holds one layer. Sums are those of the population, bit for bit.
#ifndef OPTPRUNE_KERNELS_NETWORK_H
#define OPTPRUNE_KERNELS_NETWORK_H

#include <cstdint>

#include "common/variants.h"
#include "kernels/population/population.h"
#include "kernels/sparse_linear/sparse_linear.h"

namespace optprune::network {

// How a layer of the program holds its weight.
struct Weight {
    sparse_linear::Planes planes;  // float32, in bands of all rows; not looked at where `dense` is given
    const float *dense;            // [rows, columns], or null
    const std::int32_t *counts;    // [rows]: kept weights of each row; null where dense
    const std::int32_t *live;      // rows that somebody reads, ascending; null: all
    std::int64_t live_count, nnz;
};

// The one input of a program, where it is a picture: it is turned tile by tile. Samples are cut into `bands` of `h` rows.
struct Picture {
    std::int64_t C, H, W, pad_y, pad_x, bands, h;

    std::int64_t rows() const { return h + 2 * pad_y; }
    std::int64_t columns() const { return W + 2 * pad_x; }
};

struct Call {
    const population::Program &program;  // its layers have no weights of their own
    const Weight *weights;               // of each layer
    const Picture *picture;              // or null
    const float *narrow_input;           // turned; of a picture [B, C, H, W] as it is
    const float *wide_input;             // turned
    float *outputs;                      // [B, C, positions]
    std::int64_t B;                      // samples
};

// What threads work in, kept from call to call; calls from several threads at once each have their own.
class Memories {
  public:
    Memories();
    ~Memories();
    void run(Isa isa, std::int64_t threads, const Call &call);

  private:
    struct Idle;
    Idle *idle_;
};

struct Kernel {
    std::int64_t lanes;
    // One step of a program, for one register `column` of a wide tile; narrow_input: its samples
    void (*step)(const population::Call &call, const population::Scratch &scratch, const float *narrow_input,
                 std::int64_t tile, std::int64_t column, std::int64_t index);
};

extern const Kernel scalar, avx2, avx512;
extern const Table<Kernel> variants;

}  // namespace optprune::network

#endif
