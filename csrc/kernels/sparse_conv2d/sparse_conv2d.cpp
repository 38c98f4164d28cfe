// How a call is cut into tasks, and the scratch memory of each.
#include "kernels/sparse_conv2d/sparse_conv2d.h"

#include <algorithm>
#include <vector>

#include "common/buffer.h"
#include "common/thread_pool.h"
#include "kernels/sparse_conv2d/planes.h"
#include "kernels/sparse_linear/chunks.h"

namespace optprune::sparse_conv2d {
namespace {

using sparse_linear::band_rows;
using sparse_linear::Chunks;
using sparse_linear::tile_columns;

constexpr std::int64_t block_floats = std::int64_t{1} << 15;  // sums of a task: 128 KiB of a second-level cache

// Neighbouring pixels of one row of outputs.
struct Run {
    std::int64_t from, to, count;  // among the sums of a row; from the first pixel of an output channel of sample 0
};

class Work {
  public:
    Work(const Kernel &kernel, std::int64_t threads, const Call &call)
        : kernel_(kernel), call_(call), s_(call.shape),
          registers_(kernel.linear->registers), T_(registers_ * kernel.linear->lanes), planes_(s_, T_),
          shifts_(planes_.shifts()), O_(s_.O / s_.groups), I_(static_cast<std::int64_t>(shifts_.size())),
          bands_(divide_up(O_, band_rows)), tiles_(divide_up(I_, tile_columns)),
          nnz_(call.weight.starts[s_.groups * bands_ * tiles_]),
          threads_(worth_threads(static_cast<double>(planes_.pixels()) * static_cast<double>(nnz_), threads)),
          scratch_(static_cast<std::size_t>(threads_)), sums_(static_cast<std::size_t>(threads_)) {}

    void run() {
        const Buffer<float> x = planes_.fill(call_.x, threads_);
        const std::int64_t across = planes_.pixels() / T_, bands = s_.groups * bands_;
        std::int64_t group = std::min(across, block_floats / (std::min(band_rows, O_) * T_));
        if (threads_ > 1) group = std::min(group, across * bands / (4 * threads_));
        group = std::max<std::int64_t>(1, group);
        const std::int64_t groups = divide_up(across, group);
        parallel_for(bands * groups, threads_, [&](std::int64_t task, std::int64_t slot) {
            const std::int64_t first = task / bands * group, band = task % bands;
            pixels_of_band(band / bands_, band % bands_, first, std::min(group, across - first), group, x.get(),
                           static_cast<std::size_t>(slot));
        });
    }

  private:
    Planes planes_of(std::int64_t g) const {
        Planes own = call_.weight;
        own.O = O_;
        own.I = I_;
        own.rows += g * O_ * tiles_;
        if (own.words == nullptr) own.counts += g * O_ * tiles_;
        if (own.words != nullptr) own.words += g * O_ * divide_up(I_, 64);
        own.starts += g * bands_ * tiles_;
        return own;
    }

    void pixels_of_band(std::int64_t g, std::int64_t band, std::int64_t first, std::int64_t tiles, std::int64_t most,
                        const float *x, std::size_t slot) {
        const Planes own = planes_of(g);
        const Chunks chunks(own);
        const std::int64_t R = chunks.rows(band), step = tiles * T_;
        if (!sums_[slot]) sums_[slot] = make_buffer<float>(std::min(band_rows, O_) * most * T_);
        float *sums = sums_[slot].get();
        std::fill(sums, sums + R * step, 0.0f);
        const float *planes = x + g * (s_.C / s_.groups) * planes_.per_channel() + first * T_;
        for (std::int64_t t = 0; t < tiles_; ++t) {
            const Chunk chunk = chunks.at(*kernel_.linear, band, t, scratch_[slot]);
            for (std::int64_t i = 0; i < tiles; ++i) {
                kernel_.many(chunk, planes + i * T_, shifts_.data() + t * tile_columns, registers_, sums + i * T_, step);
            }
        }
        store(g * O_ + band * band_rows, R, runs(first * T_, step), sums, step);
    }

    // The outputs among `count` positions from `first` on.
    std::vector<Run> runs(std::int64_t first, std::int64_t count) const {
        const std::int64_t rows = planes_.high().pitch(), pitch = planes_.wide().pitch();
        const std::int64_t high = planes_.high().outputs(), wide = planes_.wide().outputs();
        std::vector<Run> out;
        for (std::int64_t line = first / pitch; line * pitch < first + count; ++line) {
            const std::int64_t b = line / rows, y = line % rows;
            if (y >= high || b >= s_.B) continue;
            const std::int64_t from = std::max(first, line * pitch), to = std::min(first + count, line * pitch + wide);
            if (from >= to) continue;
            out.push_back({from - first, (b * s_.O * high + y) * wide + from - line * pitch, to - from});
        }
        return out;
    }

    void store(std::int64_t o, std::int64_t R, const std::vector<Run> &runs, const float *sums, std::int64_t step) const {
        const std::int64_t area = planes_.high().outputs() * planes_.wide().outputs();
        for (std::int64_t r = 0; r < R; ++r) {
            const float bias = call_.bias != nullptr ? call_.bias[o + r] : 0.0f;
            for (const Run &run : runs) {
                const float *from = sums + r * step + run.from;
                float *to = call_.out + (o + r) * area + run.to;
                for (std::int64_t i = 0; i < run.count; ++i) to[i] = from[i] + bias;
            }
        }
    }

    const Kernel &kernel_;
    const Call &call_;
    const Shape s_;
    std::int64_t registers_, T_;
    PaddedPlanes planes_;
    std::vector<std::int64_t> shifts_;
    std::int64_t O_, I_, bands_, tiles_, nnz_, threads_;  // O_, I_, bands_, tiles_: of one group
    std::vector<Chunks::Scratch> scratch_;                // one for each thread
    std::vector<Buffer<float>> sums_;
};

}  // namespace

void run(Isa isa, std::int64_t threads, const Call &call) {
    const Kernel &kernel = variants.choose(isa);
    if (call.shape.B == 0 || call.shape.O == 0) return;
    Work(kernel, threads, call).run();
}

}  // namespace optprune::sparse_conv2d
