// How a call is cut into tasks, and the scratch memory of each.
#include "kernels/masked_linear/masked_linear.h"

#include <algorithm>
#include <vector>

#include "common/buffer.h"
#include "common/thread_pool.h"

namespace optprune::masked_linear {
namespace {

constexpr std::int64_t block_floats = std::int64_t{1} << 18;  // turned samples of a task: 1 MiB, a second-level cache
constexpr std::int64_t wave_floats = std::int64_t{1} << 24;   // turned samples that candidates share: 64 MiB

struct Scratch {
    Buffer<float> turned, sums, kept;
    Buffer<std::int32_t> columns;
};

// The samples of a call in tiles of equal width, a few tiles a block.
class Work {
  public:
    Work(const Kernel &kernel, std::int64_t threads, const Call &call)
        : kernel_(kernel), call_(call),
          threads_(worth_threads(static_cast<double>(call.P) * call.B * call.I * call.O, threads)) {
        const std::int64_t vectors = divide_up(call.B, kernel.lanes);
        const std::int64_t tiles = divide_up(vectors, kernel.registers);
        registers_ = divide_up(vectors, tiles);
        width_ = registers_ * kernel.lanes;
        const std::int64_t fit = std::max<std::int64_t>(1, block_floats / std::max<std::int64_t>(1, call.I * width_));
        // Few candidates: smaller blocks, so that every thread has some.
        const std::int64_t blocks = threads_ == 1 ? 1 : divide_up(4 * threads_, call.P);
        tiles_ = std::min({tiles, fit, std::max<std::int64_t>(1, tiles / blocks)});
        scratch_.resize(static_cast<std::size_t>(threads_));
    }

    // All candidates read the same samples: turn them once, then serve every candidate, wave by wave.
    void shared() {
        const std::int64_t tile_floats = std::max<std::int64_t>(1, call_.I * width_);
        const std::int64_t wave = std::max(tiles_, wave_floats / tile_floats / tiles_ * tiles_) * width_;
        const Buffer<float> turned = make_buffer<float>(call_.I * divide_up(std::min(wave, call_.B), width_) * width_);
        for (std::int64_t first = 0; first < call_.B; first += wave) {
            const std::int64_t samples = std::min(wave, call_.B - first);
            parallel_for(divide_up(samples, width_), threads_, [&](std::int64_t tile, std::int64_t) {
                const std::int64_t b = tile * width_;
                turn(call_.x, first + b, std::min(width_, samples - b), turned.get() + b * call_.I);
            });
            const std::int64_t step = tiles_ * width_, blocks = divide_up(samples, step);
            parallel_for(blocks * call_.P, threads_, [&](std::int64_t task, std::int64_t slot) {
                const std::int64_t b = task / call_.P * step;
                rows(task % call_.P, first + b, std::min(step, samples - b), turned.get() + b * call_.I, slot);
            });
        }
    }

    // Each candidate has samples of its own: a task turns its block and uses it at once.
    void own() {
        const std::int64_t step = tiles_ * width_, blocks = divide_up(call_.B, step);
        parallel_for(blocks * call_.P, threads_, [&](std::int64_t task, std::int64_t slot) {
            const std::int64_t p = task / blocks, first = task % blocks * step;
            const std::int64_t samples = std::min(step, call_.B - first);
            Buffer<float> &turned = scratch_[static_cast<std::size_t>(slot)].turned;
            if (!turned) turned = make_buffer<float>(step * call_.I);
            for (std::int64_t b = 0; b < samples; b += width_) {
                turn(call_.x + p * call_.x_step, first + b, std::min(width_, samples - b), turned.get() + b * call_.I);
            }
            rows(p, first, samples, turned.get(), slot);
        });
    }

  private:
    void turn(const float *x, std::int64_t first, std::int64_t samples, float *turned) const {
        kernel_.turn(x + first * call_.I, samples, call_.I, registers_, turned);
    }

    void rows(std::int64_t p, std::int64_t first, std::int64_t samples, const float *turned, std::int64_t slot) {
        Scratch &scratch = scratch_[static_cast<std::size_t>(slot)];
        if (!scratch.sums) {
            scratch.sums = make_buffer<float>(tiles_ * width_ * kernel_.lanes);
            scratch.kept = make_buffer<float>(kernel_.list_room);
            scratch.columns = make_buffer<std::int32_t>(kernel_.list_room);
        }
        kernel_.rows({turned, call_.weight, call_.words + p * call_.words_step,
                      call_.out + (p * call_.B + first) * call_.O, samples, call_.I, call_.O, registers_,
                      scratch.sums.get(), scratch.columns.get(), scratch.kept.get()});
    }

    const Kernel &kernel_;
    const Call &call_;
    std::int64_t threads_, registers_, width_, tiles_;  // width_: samples of a tile; tiles_: tiles of a block
    std::vector<Scratch> scratch_;                      // one for each thread
};

}  // namespace

void run(Isa isa, std::int64_t threads, const Call &call) {
    const Kernel &kernel = variants.choose(isa);
    if (call.P == 0 || call.B == 0 || call.O == 0) return;
    Work work(kernel, threads, call);
    if (call.x_step == 0) {
        work.shared();
    } else {
        work.own();
    }
}

}  // namespace optprune::masked_linear
