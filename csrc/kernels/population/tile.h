// Where the numbers of a step lie, and loops over them.
#ifndef OPTPRUNE_KERNELS_POPULATION_TILE_H
#define OPTPRUNE_KERNELS_POPULATION_TILE_H

#include "common/simd/math.h"
#include "kernels/population/population.h"

namespace optprune::population {
namespace {

constexpr std::int64_t L = Vec::lanes;

// The memory of one tile; `column` is the register of the wide tile that narrow steps work on.
struct Tile {
    const Call &call;
    const Scratch &scratch;
    const float *narrow_input, *wide_input;
    std::int64_t candidate, first_sample, column;
};

// The turned samples of a narrow and of a wide tile; nullptr where the program has no such input.
inline const float *narrow_input(const Call &call, std::int64_t tile) {
    return call.narrow_input == nullptr ? nullptr : call.narrow_input + tile * call.program.narrow_input * L;
}

inline const float *wide_input(const Call &call, std::int64_t tile) {
    return call.wide_input == nullptr ? nullptr : call.wide_input + tile * call.program.wide_input * L;
}

// First float of a tensor in registers.
inline float *at(const Tile &tile, const Tensor &tensor) {
    switch (tensor.space) {
        case Space::narrow_input: return const_cast<float *>(tile.narrow_input) + tensor.offset * L;
        case Space::wide_input: return const_cast<float *>(tile.wide_input) + tensor.offset * L;
        case Space::narrow:
            return tile.scratch.narrow + tile.column * tile.scratch.narrow_step + tensor.offset * L;
        default: return tile.scratch.wide + tensor.offset * L;
    }
}

// A tensor to read: registers, or the same float for all samples.
struct Source {
    const float *base;
    bool constant;

    Vec get(std::int64_t i) const { return constant ? Vec::spread(base[i]) : Vec::load(base + i * L); }
};

inline Source source(const Tile &tile, const Tensor &tensor, const float *constants) {
    if (tensor.space == Space::constant) return {constants + tensor.offset, true};
    return {at(tile, tensor), false};
}

// visit(o, a, b): positions of every element of the leading `dims` dimensions of out in each of three tensors.
template <class F>
void each(const Tensor &out, const Tensor &a, const Tensor &b, std::int64_t dims, F visit) {
    std::int64_t index[most_dims] = {}, o = 0, i = 0, j = 0;
    for (std::int64_t d = 0; d < dims; ++d) {
        if (out.shape[d] == 0) return;
    }
    for (;;) {
        visit(o, i, j);
        std::int64_t d = dims - 1;
        for (; d >= 0; --d) {
            o += out.stride[d], i += a.stride[d], j += b.stride[d];
            if (++index[d] < out.shape[d]) break;
            o -= out.stride[d] * out.shape[d], i -= a.stride[d] * out.shape[d], j -= b.stride[d] * out.shape[d];
            index[d] = 0;
        }
        if (d < 0) return;
    }
}

}  // namespace
}  // namespace optprune::population

#endif
