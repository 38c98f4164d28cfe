#include "kernels/population/population.h"

#include <algorithm>
#include <vector>

#include "common/buffer.h"
#include "common/thread_pool.h"
#include "kernels/population/workplace.h"

namespace optprune::population {
namespace {

// Candidates that go over a tile one after the other: where the samples outgrow the second-level cache, a tile is read
// from beyond it once for all of them. Their lists must be small, as they share that cache with the tile.
std::int64_t candidates_together(const Program &program, std::int64_t P, std::int64_t B, double weights) {
    constexpr double cache = 1 << 20, most_bytes = 3 << 20, most = 8;
    const double sample = 4.0 * static_cast<double>(program.narrow_input + program.wide_input / program.width);
    if (sample * static_cast<double>(B) <= cache || weights == 0) return 1;
    const double bytes = weights * (sizeof(Kept) + sizeof(float));
    return std::min(P, static_cast<std::int64_t>(std::clamp(most_bytes / bytes, 1.0, most)));
}

}  // namespace

void run(Isa isa, std::int64_t threads, const Call &call) {
    if (call.P == 0 || call.B == 0) return;
    const Program &program = call.program;
    const Kernel &kernel = variants.choose(isa);
    double weights = 0;
    for (std::int64_t l = 0; l < program.layer_count; ++l) {
        weights += static_cast<double>(program.layers[l].rows * program.layers[l].columns);
    }
    // As if one weight in ten were kept, and each used once for a sample.
    threads = worth_threads(0.1 * weights * static_cast<double>(call.P) * static_cast<double>(call.B), threads);
    const std::int64_t tiles = divide_up(call.B, program.width * kernel.lanes);
    const std::int64_t together = candidates_together(program, call.P, call.B, weights);
    const std::int64_t groups = divide_up(call.P, together);
    // A candidate's lists serve all its tiles; few candidates are split, or threads would be idle.
    const std::int64_t parts = std::min(tiles, divide_up(4 * threads, groups)), part = divide_up(tiles, parts);
    std::vector<Workplace> workplaces(static_cast<std::size_t>(threads));
    parallel_for(groups * parts, threads, [&](std::int64_t task, std::int64_t slot) {
        workplaces[slot].prepare(program, kernel.lanes, false, together);
        std::vector<Scratch> own(static_cast<std::size_t>(together), workplaces[slot].scratch);
        const std::int64_t candidate = task / parts * together, first = task % parts * part;
        const std::int64_t count = std::min(together, call.P - candidate);
        for (std::int64_t i = 0; i < count; ++i) {
            own[i].rows += i * program.layer_count;
            kernel.list(program, call.words + (candidate + i) * call.words_step, own[i].rows);
        }
        for (std::int64_t tile = first; tile < std::min(tiles, first + part); ++tile) {
            for (std::int64_t i = 0; i < count; ++i) kernel.tile(call, candidate + i, tile, own[i]);
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
