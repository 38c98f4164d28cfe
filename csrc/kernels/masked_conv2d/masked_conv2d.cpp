// How a call is cut into tasks, and the scratch memory of each.
#include "kernels/masked_conv2d/masked_conv2d.h"

#include <algorithm>
#include <vector>

#include "common/buffer.h"
#include "common/thread_pool.h"

namespace optprune::masked_conv2d {
namespace {

constexpr std::int64_t wave_floats = std::int64_t{1} << 24;  // padded samples that candidates share: 64 MiB

struct Scratch {
    Buffer<float> padded, kept, sums;
    Buffer<std::int64_t> taps;
    Buffer<std::int32_t> columns;
};

// Without padding and strides a kernel of one tap sees a plane as one long row.
Call flattened(Call call) {
    Shape &s = call.shape;
    if (s.kh == 1 && s.kw == 1 && s.stride_y == 1 && s.stride_x == 1 && s.pad_y == 0 && s.pad_x == 0) {
        s.W *= s.H;
        s.H = 1;
    }
    return call;
}

// The samples of a call in tiles: one sample to a lane.
class Work {
  public:
    Work(const Kernel &kernel, std::int64_t threads, const Call &call)
        : kernel_(kernel), call_(flattened(call)), shape_(call_.shape),
          plane_(shape_.out_h() * shape_.out_w()), sample_(shape_.C * shape_.H * shape_.W),
          tile_floats_(shape_.C * shape_.padded_h() * shape_.padded_w() * kernel.lanes),
          threads_(worth_threads(static_cast<double>(call.P) * call.B * shape_.O * plane_ * shape_.I(), threads)) {
        for (std::int64_t c = 0; c < shape_.group_channels; ++c) {
            for (std::int64_t ky = 0; ky < shape_.kh; ++ky) {
                for (std::int64_t kx = 0; kx < shape_.kw; ++kx) {
                    const std::int64_t row = c * shape_.padded_h() + ky * shape_.dilation_y;
                    offsets_.push_back((row * shape_.padded_w() + kx * shape_.dilation_x) * kernel.lanes);
                }
            }
        }
        scratch_.resize(static_cast<std::size_t>(threads_));
    }

    // All candidates read the same samples: pad them once, then serve every candidate, wave by wave.
    void shared() {
        const std::int64_t lanes = kernel_.lanes;
        const std::int64_t wave = std::max(threads_, wave_floats / std::max<std::int64_t>(1, tile_floats_)) * lanes;
        const Buffer<float> padded = make_buffer<float>(divide_up(std::min(wave, call_.B), lanes) * tile_floats_);
        for (std::int64_t first = 0; first < call_.B; first += wave) {
            const std::int64_t samples = std::min(wave, call_.B - first), tiles = divide_up(samples, lanes);
            parallel_for(tiles, threads_, [&](std::int64_t tile, std::int64_t) {
                const std::int64_t b = tile * lanes;
                kernel_.pad(shape_, call_.x + (first + b) * sample_, std::min(lanes, samples - b),
                            padded.get() + tile * tile_floats_);
            });
            parallel_for(tiles * call_.P, threads_, [&](std::int64_t task, std::int64_t slot) {
                const std::int64_t tile = task / call_.P, b = tile * lanes;
                rows(task % call_.P, first + b, std::min(lanes, samples - b), padded.get() + tile * tile_floats_,
                     slot);
            });
        }
    }

    // Each candidate has samples of its own: a task pads its tile and uses it at once.
    void own() {
        const std::int64_t lanes = kernel_.lanes, tiles = divide_up(call_.B, lanes);
        parallel_for(tiles * call_.P, threads_, [&](std::int64_t task, std::int64_t slot) {
            const std::int64_t p = task / tiles, first = task % tiles * lanes;
            const std::int64_t samples = std::min(lanes, call_.B - first);
            Buffer<float> &padded = scratch_[static_cast<std::size_t>(slot)].padded;
            if (!padded) padded = make_buffer<float>(tile_floats_);
            kernel_.pad(shape_, call_.x + p * call_.x_step + first * sample_, samples, padded.get());
            rows(p, first, samples, padded.get(), slot);
        });
    }

  private:
    void rows(std::int64_t p, std::int64_t first, std::int64_t samples, const float *padded, std::int64_t slot) {
        Scratch &scratch = scratch_[static_cast<std::size_t>(slot)];
        if (!scratch.sums) {
            scratch.taps = make_buffer<std::int64_t>(shape_.I());
            scratch.kept = make_buffer<float>(shape_.I() + kernel_.list_slack);
            scratch.columns = make_buffer<std::int32_t>(64 + kernel_.list_slack);
            scratch.sums = make_buffer<float>(sum_rows(shape_) * shape_.out_w() * kernel_.lanes);
        }
        kernel_.rows({shape_, padded, call_.weight, call_.words + p * call_.words_step,
                      call_.out + (p * call_.B + first) * shape_.O * plane_, samples, offsets_.data(),
                      scratch.taps.get(), scratch.kept.get(), scratch.columns.get(), scratch.sums.get()});
    }

    const Kernel &kernel_;
    const Call call_;
    const Shape &shape_;
    const std::int64_t plane_, sample_, tile_floats_, threads_;  // numbers in an output plane, a sample, a padded tile
    std::vector<std::int64_t> offsets_;
    std::vector<Scratch> scratch_;  // one for each thread
};

}  // namespace

void run(Isa isa, std::int64_t threads, const Call &call) {
    const Kernel &kernel = variants.choose(isa);
    if (call.P == 0 || call.B == 0 || call.shape.O == 0) return;
    Work work(kernel, threads, call);
    if (call.x_step == 0) {
        work.shared();
    } else {
        work.own();
    }
}

}  // namespace optprune::masked_conv2d
