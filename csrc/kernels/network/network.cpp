#include "kernels/network/network.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "common/thread_pool.h"
#include "kernels/network/listed.h"
#include "kernels/population/workplace.h"

namespace optprune::network {

// What a call works in, for registers of so many lanes.
struct Memory {
    std::int64_t lanes;
    std::vector<population::Workplace> workplaces;  // one for each thread
    std::vector<Listed> listed;
    std::vector<Buffer<float>> pictures;  // one tile of each thread; zero at first: a border stays
};

struct Memories::Idle {
    std::mutex mutex;
    std::vector<std::unique_ptr<Memory>> all;

    std::unique_ptr<Memory> take(std::int64_t lanes) {
        const std::lock_guard<std::mutex> lock(mutex);
        for (std::unique_ptr<Memory> &memory : all) {
            if (memory->lanes != lanes) continue;
            std::unique_ptr<Memory> out = std::move(memory);
            std::swap(memory, all.back());
            all.pop_back();
            return out;
        }
        return std::unique_ptr<Memory>(new Memory{lanes, {}, {}, {}});
    }

    void give_back(std::unique_ptr<Memory> memory) {
        const std::lock_guard<std::mutex> lock(mutex);
        all.push_back(std::move(memory));
    }
};

namespace {

class Work {
  public:
    Work(const Kernel &kernel, const sparse_linear::Kernel &chunks, const Call &call, Memory &memory)
        : kernel_(kernel), chunks_(chunks), call_(call), memory_(memory), program_(call.program),
          population_{program_, call.narrow_input, call.wide_input, nullptr, nullptr, nullptr, call.outputs, 1, call.B, 0,
                      population::Loss::outputs, nullptr} {}

    void tile(std::int64_t index, std::size_t slot) {
        population::Workplace &own = memory_.workplaces[slot];
        own.prepare(program_, kernel_.lanes, false, 0);
        const std::int64_t first = index * program_.width * kernel_.lanes;
        for (std::int64_t r = 0; r < program_.width && first + r * kernel_.lanes < call_.B; ++r) {
            run(index, r, true, narrow_input(index * program_.width + r, slot), slot);
        }
        run(index, 0, false, nullptr, slot);
    }

  private:
    // The samples of one register.
    const float *narrow_input(std::int64_t number, std::size_t slot) {
        if (call_.narrow_input == nullptr) return nullptr;
        if (call_.picture == nullptr) return call_.narrow_input + number * program_.narrow_input * kernel_.lanes;
        const Picture &picture = *call_.picture;
        Buffer<float> &tile = memory_.pictures[slot];
        if (!tile) tile = population::zeros(program_.narrow_input * kernel_.lanes);
        for (std::int64_t lane = 0; lane < kernel_.lanes; ++lane) {
            const std::int64_t entry = number * kernel_.lanes + lane;
            turn(picture, entry / picture.bands, entry % picture.bands, tile.get() + lane);
        }
        return tile.get();
    }

    // One band of one sample into a lane; zeros where there is none.
    void turn(const Picture &picture, std::int64_t sample, std::int64_t band, float *to) {
        const std::int64_t L = kernel_.lanes;
        for (std::int64_t c = 0; c < picture.C; ++c) {
            for (std::int64_t y = 0; y < picture.h; ++y) {
                const std::int64_t row = band * picture.h + y;
                float *out = to + ((c * picture.rows() + picture.pad_y + y) * picture.columns() + picture.pad_x) * L;
                const float *in = call_.narrow_input + ((sample * picture.C + c) * picture.H + row) * picture.W;
                const bool there = sample < call_.B && row < picture.H;
                for (std::int64_t x = 0; x < picture.W; ++x) out[x * L] = there ? in[x] : 0.0f;
            }
        }
    }

    void run(std::int64_t index, std::int64_t column, bool narrow, const float *input, std::size_t slot) {
        const population::Scratch &scratch = memory_.workplaces[slot].scratch;
        for (std::int64_t i = 0; i < program_.step_count; ++i) {
            const population::Step &step = program_.steps[i];
            if ((step.narrow != 0) != narrow) continue;
            if (step.layer >= 0) {
                memory_.listed[slot].list(chunks_, call_.weights[step.layer], program_.layers[step.layer], kernel_.lanes,
                                          scratch.rows[step.layer]);
            }
            kernel_.step(population_, scratch, input, index, column, i);
        }
    }

    const Kernel &kernel_;
    const sparse_linear::Kernel &chunks_;
    const Call &call_;
    Memory &memory_;
    const population::Program &program_;
    const population::Call population_;
};

}  // namespace

Memories::Memories() : idle_(new Idle) {}
Memories::~Memories() { delete idle_; }

void Memories::run(Isa isa, std::int64_t threads, const Call &call) {
    if (call.B == 0) return;
    const Kernel &kernel = variants.choose(isa);
    const population::Program &program = call.program;
    double weights = 0;
    for (std::int64_t l = 0; l < program.layer_count; ++l) {
        weights += static_cast<double>(call.weights[l].nnz);
    }
    threads = worth_threads(weights * static_cast<double>(call.B), threads);
    std::unique_ptr<Memory> memory = idle_->take(kernel.lanes);
    if (memory->workplaces.size() < static_cast<std::size_t>(threads)) {
        memory->workplaces.resize(static_cast<std::size_t>(threads));
        memory->listed.resize(static_cast<std::size_t>(threads));
        memory->pictures.resize(static_cast<std::size_t>(threads));
    }
    Work work(kernel, sparse_linear::variants.choose(isa), call, *memory);
    parallel_for(divide_up(call.B, program.width * kernel.lanes), threads,
                 [&](std::int64_t tile, std::int64_t slot) { work.tile(tile, static_cast<std::size_t>(slot)); });
    idle_->give_back(std::move(memory));
}

}  // namespace optprune::network
