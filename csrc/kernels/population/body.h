// The kernel, written once. An instruction set's file includes its Vec first and then this.
#ifndef OPTPRUNE_KERNELS_POPULATION_BODY_H
#define OPTPRUNE_KERNELS_POPULATION_BODY_H

#include <time.h>

#include "kernels/population/bands.h"
#include "kernels/population/conv2d.h"
#include "kernels/population/linear.h"
#include "kernels/population/list.h"
#include "kernels/population/loss.h"
#include "kernels/population/reduce.h"

namespace optprune::population {
namespace {

inline void run_step(const Tile &tile, const Step &step) {
    switch (step.op) {
        case Op::linear: return linear(tile, step);
        case Op::conv2d: return conv2d(tile, step);
        case Op::activation:
        case Op::add:
        case Op::subtract:
        case Op::multiply:
        case Op::scale: return elementwise(tile, step);
        case Op::max_pool:
        case Op::average_pool: return pool(tile, step);
        case Op::mean: return mean(tile, step);
        case Op::softmax:
        case Op::log_softmax: return softmax(tile, step);
        case Op::layer_norm: return layer_norm(tile, step);
        case Op::matmul: return matmul(tile, step);
        case Op::embedding: return embedding(tile, step);
        case Op::widen: return widen(tile, step);
        case Op::loss: return loss(tile, step, at(tile, step.a));
        case Op::halo: return halo(tile, step);
        case Op::regroup: return regroup(tile, step);
        case Op::spread: return spread(tile, step);
    }
}

// Wall time of each step, where somebody asked for it.
inline void run_timed(const Tile &tile, std::int64_t index) {
    const Step &step = tile.call.program.steps[index];
    if (tile.call.seconds == nullptr) return run_step(tile, step);
    timespec start, stop;
    clock_gettime(CLOCK_MONOTONIC, &start);
    run_step(tile, step);
    clock_gettime(CLOCK_MONOTONIC, &stop);
    tile.call.seconds[index] += static_cast<double>(stop.tv_sec - start.tv_sec) +
                                1e-9 * static_cast<double>(stop.tv_nsec - start.tv_nsec);
}

void run_tile(const Call &call, std::int64_t candidate, std::int64_t index, const Scratch &scratch) {
    const Program &program = call.program;
    const std::int64_t first = index * program.width * L;
    Tile tile{call, scratch, nullptr, wide_input(call, index), candidate, first, 0};
    for (std::int64_t r = 0; r < program.width && first + r * L < call.B; ++r) {
        tile.column = r;
        tile.narrow_input = narrow_input(call, index * program.width + r);
        for (std::int64_t i = 0; i < program.step_count; ++i) {
            if (program.steps[i].narrow != 0) run_timed(tile, i);
        }
    }
    for (std::int64_t i = 0; i < program.step_count; ++i) {
        if (program.steps[i].narrow == 0) run_timed(tile, i);
    }
}

void turn_block(const float *x, std::int64_t samples, std::int64_t features, float *turned, std::int64_t step) {
    turn(x, features, samples, features, turned, step, L);
}

void list_read(const Program &program, const std::uint64_t *words, Rows *rows) {
    list_rows(program, words, rows, false);
}

[[maybe_unused]] constexpr Kernel kernel{L, list_read, run_tile, turn_block};

}  // namespace
}  // namespace optprune::population

#endif
