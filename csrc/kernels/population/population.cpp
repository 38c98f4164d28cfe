#include "kernels/population/population.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "common/buffer.h"
#include "common/thread_pool.h"

namespace optprune::population {
namespace {

Buffer<float> zeros(std::int64_t count) {
    Buffer<float> out = make_buffer<float>(std::max<std::int64_t>(1, count));
    std::memset(out.get(), 0, static_cast<std::size_t>(count) * sizeof(float));
    return out;
}

// The memory of a thread, allocated when it gets its first task.
class Workplace {
  public:
    Scratch scratch{};

    void prepare(const Program &program, std::int64_t lanes) {
        if (scratch.rows != nullptr) return;
        narrow_ = zeros(program.narrow_size * lanes);
        wide_ = zeros(program.wide_size * lanes);
        std::int64_t columns = 1, outputs = 1;
        for (std::int64_t i = 0; i < program.step_count; ++i) {
            const Step &step = program.steps[i];
            if (step.op == Op::linear) columns = std::max(columns, step.a.shape[0]);
            if (step.op == Op::conv2d) outputs = std::max(outputs, 2 * step.numbers[4]);
        }
        packed_ = make_buffer<float>(columns * 8 * lanes);
        strip_ = make_buffer<float>(outputs * lanes);
        for (std::int64_t l = 0; l < program.layer_count; ++l) add_rows(program.layers[l]);
        scratch = {narrow_.get(), wide_.get(), packed_.get(), strip_.get(), rows_.data()};
    }

  private:
    void add_rows(const Layer &layer) {
        live_.push_back(make_buffer<std::int32_t>(layer.rows));
        start_.push_back(make_buffer<std::int64_t>(layer.rows * layer.words() + 1));
        kept_.push_back(make_buffer<Kept>(layer.rows * layer.columns + kept_slack));
        used_.push_back(make_buffer<std::uint64_t>(layer.words()));
        rows_.push_back({live_.back().get(), 0, 1, start_.back().get(), kept_.back().get(), used_.back().get()});
    }

    Buffer<float> narrow_, wide_, packed_, strip_;
    std::vector<Buffer<std::int32_t>> live_;
    std::vector<Buffer<std::int64_t>> start_;
    std::vector<Buffer<Kept>> kept_;
    std::vector<Buffer<std::uint64_t>> used_;
    std::vector<Rows> rows_;
};

}  // namespace
void run(Isa isa, std::int64_t threads, const Call &call) {
    if (call.P == 0 || call.B == 0) return;
    const Program &program = call.program;
    const Kernel &kernel = variants.choose(isa);
    const std::int64_t tiles = divide_up(call.B, program.width * kernel.lanes);
    // A candidate's lists serve all its tiles; few candidates are split, or threads would be idle.
    const std::int64_t parts = std::min(tiles, divide_up(4 * threads, call.P)), part = divide_up(tiles, parts);
    std::vector<Workplace> workplaces(static_cast<std::size_t>(threads));
    parallel_for(call.P * parts, threads, [&](std::int64_t task, std::int64_t slot) {
        workplaces[slot].prepare(program, kernel.lanes);
        const Scratch &own = workplaces[slot].scratch;
        const std::int64_t candidate = task / parts, first = task % parts * part;
        kernel.list(program, call.words + candidate * call.words_step, own.rows);
        for (std::int64_t tile = first; tile < std::min(tiles, first + part); ++tile) {
            kernel.tile(call, candidate, tile, own);
        }
    });
}

void turn_input(Isa isa, std::int64_t threads, const float *x, std::int64_t B, std::int64_t features,
                std::int64_t width, float *turned) {
    const Kernel &kernel = variants.choose(isa);
    const std::int64_t L = kernel.lanes, tiles = divide_up(B, width * L);
    parallel_for(tiles * width, threads, [&](std::int64_t task, std::int64_t) {
        const std::int64_t tile = task / width, column = task % width;
        const std::int64_t samples = std::max<std::int64_t>(0, std::min(L, B - task * L));
        kernel.turn(x + (samples > 0 ? task * L * features : 0), samples, features,
                    turned + (tile * features * width + column) * L, width * L);
    });
}

std::int64_t lanes(Isa isa) { return variants.choose(isa).lanes; }

}  // namespace optprune::population
