#include "kernels/look_up/look_up.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "common/buffer.h"
#include "common/thread_pool.h"
#include "kernels/population/workplace.h"

namespace optprune::look_up {
namespace {

using population::Layer;
using population::Step;

// A row's picks serve several tiles at once, as many as fit: their inputs into the second-level cache, what the layer
// gives into so many bytes a thread, which malloc still keeps from call to call.
constexpr std::int64_t input_bytes = 1 << 20, given_bytes = 24 << 20;
constexpr std::int64_t few_candidates = 16;  // fewer do not pay for their tables

// Of one row.
std::int64_t tile_bytes(const Program &program, std::int64_t lanes) {
    return program.width * lanes * static_cast<std::int64_t>(sizeof(float));
}

const Layer &first_layer(const Program &program) { return program.layers[program.steps[0].layer]; }

// The steps after the first, whose layer has no rows to list any more.
struct Rest {
    std::vector<Layer> layers;
    Program program;

    explicit Rest(const Program &whole) : layers(whole.layers, whole.layers + whole.layer_count), program(whole) {
        Layer &first = layers[whole.steps[0].layer];
        first.rows = first.columns = 0;
        program.layers = layers.data();
        ++program.steps, --program.step_count;
    }
};

// The memory of a thread, allocated when it gets its first task.
struct Workplace {
    population::Workplace rest;
    Work work{};

    void prepare(const Call &call, const Program &others, std::int64_t lanes, std::int64_t candidates,
                 std::int64_t tiles) {
        if (work.given != nullptr) return;
        rest.prepare(others, lanes);
        const Layer &layer = first_layer(call.program);
        const std::int64_t floats = call.program.width * lanes;
        const std::int64_t together = divide_up(layer.columns, group_inputs * groups_together);
        const std::int64_t columns = together * group_inputs * groups_together;
        inputs_ = make_buffer<float>(tiles * floats * columns);
        weights_ = make_buffer<float>(columns);
        picks_ = make_buffer<std::uint32_t>(together * most_candidates + 1);  // the last are read from a byte on
        std::fill_n(picks_.get(), together * most_candidates + 1, 0u);  // lanes without a candidate
        sums_ = make_buffer<float>(lanes * most_candidates);
        // A cache line apart: candidates whose rows lay a power of two apart would fight for the same sets of a cache.
        const std::int64_t step = tiles * layer.rows * floats + static_cast<std::int64_t>(cache_line / sizeof(float));
        given_ = make_buffer<float>(candidates * step);
        work = {inputs_.get(), weights_.get(), picks_.get(), sums_.get(), given_.get(), step};
    }

  private:
    Buffer<float> inputs_, weights_, sums_, given_;
    Buffer<std::uint32_t> picks_;
};

// What the look-up gave one candidate on one tile, to where the first step would have written it.
void take(const Program &program, std::int64_t lanes, const float *given, float *wide) {
    const Step &step = program.steps[0];
    const std::int64_t rows = step.out.shape[0], floats = program.width * lanes;
    for (std::int64_t r = 0; r < rows; ++r, given += floats) {
        std::memcpy(wide + (step.out.offset + r * step.out.stride[0]) * lanes, given, floats * sizeof(float));
    }
}

// How a call is cut into tasks: so many candidates on so many tiles, of which a few are looked up at once.
struct Cut {
    std::int64_t candidates, blocks, tiles, parts, part_tiles, at_once;

    Cut(const Call &call, std::int64_t lanes, std::int64_t threads, std::int64_t together)
        : candidates(std::min(call.P, together)), blocks(divide_up(call.P, candidates)),
          tiles(divide_up(call.B, call.program.width * lanes)),
          parts(threads > 1 ? std::min(tiles, divide_up(4 * threads, blocks)) : 1),
          part_tiles(divide_up(tiles, parts)) {
        const Layer &layer = first_layer(call.program);
        const std::int64_t bytes = tile_bytes(call.program, lanes);
        const std::int64_t fit = std::min(input_bytes / (layer.columns * bytes),
                                          given_bytes / (candidates * layer.rows * bytes));
        at_once = std::clamp<std::int64_t>(fit, 1, part_tiles);
    }

    std::int64_t tasks() const { return blocks * parts; }
};

// The first layer by look-up, then the rest of the network, one candidate after the other.
void evaluate(const Kernel &kernel, const population::Kernel &population, const Call &call, const Call &rest,
              const Part &part, const Workplace &own) {
    const auto start = std::chrono::steady_clock::now();
    kernel.look_up(call, part, own.work);
    if (call.seconds != nullptr) {
        call.seconds[0] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    const population::Scratch &scratch = own.rest.scratch;
    const std::int64_t tile_floats = first_layer(call.program).rows * call.program.width * kernel.lanes;
    for (std::int64_t p = 0; p < part.candidates; ++p) {
        const std::int64_t candidate = part.candidate + p;
        population.list(rest.program, call.words + candidate * call.words_step, scratch.rows);
        const float *given = own.work.given + p * own.work.step;
        for (std::int64_t t = 0; t < part.tiles; ++t, given += tile_floats) {
            take(call.program, kernel.lanes, given, scratch.wide);
            population.tile(rest, candidate, part.tile + t, scratch);
        }
    }
}

}  // namespace

std::int64_t candidates_together(Isa isa, const Program &program) {
    const Step &step = program.steps[0];
    if (step.op != population::Op::linear || step.a.space != population::Space::wide_input) return 0;
    const Layer &layer = first_layer(program);
    if (step.a.shape[1] != program.width || layer.first_word < 0 || layer.rows * layer.columns == 0) return 0;
    const std::int64_t fit = given_bytes / (layer.rows * tile_bytes(program, population::lanes(isa)));
    return std::min(most_candidates, fit / few_candidates * few_candidates);
}

void run(Isa isa, std::int64_t threads, const Call &call) {
    if (call.P == 0 || call.B == 0) return;
    const Kernel &kernel = variants.choose(isa);
    const population::Kernel &population = population::variants.choose(isa);
    const Rest others(call.program);
    const Call rest{others.program, call.narrow_input, call.wide_input, call.targets, call.words, call.sums,
                    call.outputs, call.P, call.B, call.words_step, call.loss,
                    call.seconds == nullptr ? nullptr : call.seconds + 1};
    const Layer &layer = first_layer(call.program);
    // Five weights take two instructions.
    threads = worth_threads(0.4 * static_cast<double>(layer.rows * layer.columns) * static_cast<double>(call.P) *
                            static_cast<double>(call.B), threads);
    const Cut cut(call, kernel.lanes, threads, candidates_together(isa, call.program));
    std::vector<Workplace> workplaces(static_cast<std::size_t>(threads));
    parallel_for(cut.tasks(), threads, [&](std::int64_t task, std::int64_t slot) {
        Workplace &own = workplaces[slot];
        own.prepare(call, others.program, kernel.lanes, cut.candidates, cut.at_once);
        const std::int64_t candidate = task / cut.parts * cut.candidates, first = task % cut.parts * cut.part_tiles;
        const std::int64_t end = std::min(cut.tiles, first + cut.part_tiles);
        for (std::int64_t tile = first; tile < end; tile += cut.at_once) {
            const Part part{candidate, std::min(cut.candidates, call.P - candidate), tile,
                            std::min(cut.at_once, end - tile)};
            evaluate(kernel, population, call, rest, part, own);
        }
    });
}

}  // namespace optprune::look_up
