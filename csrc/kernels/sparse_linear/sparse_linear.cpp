// How a call is cut into tasks, and the scratch memory of each.
#include "kernels/sparse_linear/sparse_linear.h"

#include <algorithm>
#include <vector>

#include "common/buffer.h"
#include "common/thread_pool.h"
#include "kernels/sparse_linear/chunks.h"

namespace optprune::sparse_linear {
namespace {

constexpr std::int64_t block_floats = std::int64_t{1} << 15;  // sums of a task: 128 KiB of a second-level cache
constexpr std::int64_t wave_floats = std::int64_t{1} << 24;   // turned samples at a time: 64 MiB

class Work {
  public:
    Work(const Kernel &kernel, std::int64_t threads, const Call &call)
        : kernel_(kernel), call_(call), chunks_(call.weight),
          nnz_(call.weight.starts[chunks_.tiles() * chunks_.bands()]),
          threads_(worth_threads(static_cast<double>(call.B) * static_cast<double>(nnz_), threads)),
          scratch_(static_cast<std::size_t>(threads_)) {}

    // The activations as they are; a band has its sums on the stack.
    void one() {
        parallel_for(chunks_.bands(), threads_, [&](std::int64_t band, std::int64_t slot) {
            const std::int64_t first = band * band_rows, R = chunks_.rows(band);
            float sums[band_rows] = {};
            for (std::int64_t t = 0; t < chunks_.tiles(); ++t) {
                kernel_.one(chunk(band, t, slot), call_.x + t * tile_columns, sums);
            }
            for (std::int64_t r = 0; r < R; ++r) {
                call_.out[first + r] = call_.bias != nullptr ? sums[r] + call_.bias[first + r] : sums[r];
            }
        });
    }

    // The samples in tiles of equal width, turned so that they lie side by side; a task is a band and a few tiles.
    void many() {
        const std::int64_t I = call_.weight.I, vectors = divide_up(call_.B, kernel_.lanes);
        const std::int64_t all = divide_up(vectors, kernel_.registers), registers = divide_up(vectors, all);
        const std::int64_t T = registers * kernel_.lanes;
        const std::int64_t fit = std::max<std::int64_t>(1, wave_floats / std::max<std::int64_t>(1, I * T));
        const std::int64_t wave = std::min(fit, all);
        std::int64_t group = std::min(wave, block_floats / (std::min(band_rows, call_.weight.O) * T));
        if (threads_ > 1) {  // so that every thread has some
            group = std::min(group, std::max<std::int64_t>(1, wave * chunks_.bands() / (4 * threads_)));
        }
        group = std::max<std::int64_t>(1, group);
        const Buffer<float> turned = make_buffer<float>(wave * I * T);
        std::vector<Buffer<float>> sums(static_cast<std::size_t>(threads_));
        for (std::int64_t first = 0; first < all; first += wave) {
            const std::int64_t tiles = std::min(wave, all - first);
            parallel_for(tiles, threads_, [&](std::int64_t s, std::int64_t) {
                const std::int64_t b = (first + s) * T;
                kernel_.turn(call_.x + b * I, std::min(T, call_.B - b), I, registers, turned.get() + s * I * T);
            });
            const std::int64_t groups = divide_up(tiles, group);
            parallel_for(groups * chunks_.bands(), threads_, [&](std::int64_t task, std::int64_t slot) {
                Buffer<float> &own = sums[static_cast<std::size_t>(slot)];
                if (!own) own = make_buffer<float>(group * band_rows * T);
                const std::int64_t s = task % groups * group;
                tiles_of_band(task / groups, first + s, std::min(group, tiles - s), registers,
                              turned.get() + s * I * T, own.get(), slot);
            });
        }
    }

  private:
    Chunk chunk(std::int64_t band, std::int64_t tile, std::int64_t slot) {
        return chunks_.at(kernel_, band, tile, scratch_[static_cast<std::size_t>(slot)]);
    }

    void tiles_of_band(std::int64_t band, std::int64_t first, std::int64_t tiles, std::int64_t registers,
                       const float *turned, float *sums, std::int64_t slot) {
        const std::int64_t I = call_.weight.I, O = call_.weight.O, T = registers * kernel_.lanes;
        const std::int64_t R = chunks_.rows(band), row = band * band_rows;
        std::fill(sums, sums + tiles * R * T, 0.0f);
        for (std::int64_t t = 0; t < chunks_.tiles(); ++t) {
            const Chunk weights = chunk(band, t, slot);
            for (std::int64_t s = 0; s < tiles; ++s) {
                kernel_.many(weights, turned + s * I * T + t * tile_columns * T, registers, sums + s * R * T);
            }
        }
        for (std::int64_t s = 0; s < tiles; ++s) {
            const std::int64_t b = (first + s) * T;
            kernel_.finish(sums + s * R * T, R, registers, std::min(T, call_.B - b),
                           call_.bias != nullptr ? call_.bias + row : nullptr, call_.out + b * O + row, O);
        }
    }

    const Kernel &kernel_;
    const Call &call_;
    const Chunks chunks_;
    std::int64_t nnz_, threads_;
    std::vector<Chunks::Scratch> scratch_;  // one for each thread
};

}  // namespace

std::atomic<std::int64_t> narrow_calls{0};

void run(Isa isa, std::int64_t threads, const Call &call) {
    const Kernel &wide = variants.choose(isa);
    if (call.B == 0 || call.weight.O == 0) return;
    const bool few = call.B > 1 && wide.narrow != nullptr && call.B <= wide.narrow->lanes;
    if (few) narrow_calls.fetch_add(1, std::memory_order_relaxed);
    Work work(few ? *wide.narrow : wide, threads, call);
    if (call.B == 1) {
        work.one();
    } else {
        work.many();
    }
}

}  // namespace optprune::sparse_linear
