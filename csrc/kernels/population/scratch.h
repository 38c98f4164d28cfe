// What a thread needs to run a program: the arenas of its tensors, and small change.
#ifndef OPTPRUNE_KERNELS_POPULATION_SCRATCH_H
#define OPTPRUNE_KERNELS_POPULATION_SCRATCH_H

#include <algorithm>
#include <cstring>
#include <vector>

#include "common/buffer.h"
#include "kernels/population/population.h"

namespace optprune::population {

struct Scratch {
    Buffer<float> narrow, wide;  // zero at first: borders of padded pictures are never written
    Buffer<float> packed;        // the columns of one linear tile, side by side
    Buffer<float> strip;         // rows of a convolution before they are pooled
    std::vector<Rows> rows;

    // Allocated on first use, by the thread that uses it.
    void prepare(const Program &program, std::int64_t lanes) {
        if (narrow) return;
        narrow = zeros(program.narrow_size * lanes);
        wide = zeros(program.wide_size * lanes);
        std::int64_t columns = 1, strip_size = 1;
        for (const Step &step : program.steps) {
            if (step.op == Op::linear) columns = std::max(columns, step.a.shape[0]);
            if (step.op == Op::conv2d) strip_size = std::max(strip_size, 2 * step.numbers[4]);
        }
        packed = make_buffer<float>(columns * 8 * lanes);
        strip = make_buffer<float>(strip_size * lanes);
    }

  private:
    static Buffer<float> zeros(std::int64_t count) {
        Buffer<float> out = make_buffer<float>(std::max<std::int64_t>(1, count));
        std::memset(out.get(), 0, static_cast<std::size_t>(count) * sizeof(float));
        return out;
    }
};

}  // namespace optprune::population

#endif
