#include "kernels/moves/moves.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/buffer.h"
#include "kernels/moves/list.h"
#include "kernels/population/workplace.h"

namespace optprune::moves {
namespace {

using population::Op;

// Rows of a layer that keep a weight on what a unit of the input's producer feeds: `factor` entries of the input's
// leading dimension, features of a linear layer or channels of a convolution.
std::vector<std::uint64_t> find_readers(const Step &step, const Layer &layer, const std::uint64_t *mask,
                                        std::int64_t units, std::int64_t factor) {
    const std::int64_t words = divide_up(layer.rows, word_bits), groups = step.op == Op::conv2d ? step.numbers[2] : 1;
    const std::int64_t entries = step.a.shape[0] / groups, taps = layer.columns / entries;
    std::vector<std::uint64_t> out(static_cast<std::size_t>(units * words), 0);
    for (std::int64_t r = 0; r < layer.rows; ++r) {
        const std::int64_t group = r / (layer.rows / groups);
        for (std::int64_t i = 0; i < layer.columns; ++i) {
            if (layer.first_word >= 0 && !bit(mask + layer.first_word + r * layer.words(), i)) continue;
            const std::int64_t unit = (group * entries + i / taps) / factor;
            out[unit * words + r / word_bits] |= std::uint64_t{1} << (r % word_bits);
        }
    }
    return out;
}

std::int64_t registers_of(const population::Tensor &tensor) {
    std::int64_t n = 1;
    for (std::int64_t d = 0; d < tensor.rank; ++d) n *= tensor.shape[d];
    return n;
}

// Of the last layer, as the parent keeps them: the weights on one input side by side, then the largest of their sizes.
std::vector<float> turned_weights(const Layer &layer, const std::uint64_t *mask) {
    const std::int64_t numbers = layer.rows + 1;
    std::vector<float> out(static_cast<std::size_t>(layer.columns * numbers), 0.0f);
    for (std::int64_t r = 0; r < layer.rows; ++r) {
        for (std::int64_t i = 0; i < layer.columns; ++i) {
            if (layer.first_word >= 0 && !bit(mask + layer.first_word + r * layer.words(), i)) continue;
            float *weights = out.data() + i * numbers, weight = layer.weight[r * layer.columns + i];
            weights[r] = weight;
            weights[layer.rows] = std::max(weights[layer.rows], std::abs(weight));
        }
    }
    return out;
}

// The memory of a thread.
struct Workplace {
    population::Workplace program;
    Buffer<std::uint64_t> changed;
    Buffer<std::int32_t> live;
    Buffer<float> saved, logits, slopes, own_classes, own_weights, shares;
    Buffer<std::int64_t> undo;
    std::vector<std::int64_t> sloped;
    std::vector<std::uint64_t> signs;
    std::vector<Bend> bends;
    Work work{};

    void prepare(const Program &network, const std::vector<std::int64_t> &first, std::int64_t lanes, bool sloping) {
        if (work.changed != nullptr) return;
        program.prepare(network, lanes, true);
        std::int64_t floats = 0, entries = 0, rows = 1;
        for (std::int64_t i = 0; i < network.step_count; ++i) {
            const Step &step = network.steps[i];
            floats += registers_of(step.out) * (step.narrow != 0 ? network.width : 1) * lanes;
            entries += step.out.rank > 0 ? step.out.shape[0] + 1 : 1;
            rows = std::max(rows, step.out.rank > 0 ? step.out.shape[0] : 1);
        }
        changed = make_buffer<std::uint64_t>(first.back());
        live = make_buffer<std::int32_t>(rows);
        saved = make_buffer<float>(floats);
        const std::int64_t registers = network.width * lanes;
        logits = make_buffer<float>(registers_of(network.steps[network.step_count - 1].a) * lanes + 2 * registers);
        undo = make_buffer<std::int64_t>(2 * entries);
        work = {program.scratch, changed.get(), first.data(), live.get(), saved.get(), undo.get(),
                logits.get(), nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
        if (!sloping) return;
        const Layer &bent = network.layers[network.layer_count - 2], &end = network.layers[network.layer_count - 1];
        slopes = make_buffer<float>(bent.columns * (end.rows + 2) * registers);
        own_classes = make_buffer<float>(registers);
        own_weights = make_buffer<float>(bent.rows * registers);
        shares = make_buffer<float>(end.rows * registers);
        sloped.assign(static_cast<std::size_t>(bent.columns), 0);
        signs.resize(static_cast<std::size_t>(bent.rows * network.width));
        bends.resize(static_cast<std::size_t>(bent.rows * network.width + 1));
        work.slopes = slopes.get(), work.own_classes = own_classes.get(), work.own_weights = own_weights.get();
        work.shares = shares.get(), work.sloped = sloped.data(), work.signs = signs.data(), work.bends = bends.data();
    }
};

}  // namespace

bool has_slopes(const Program &program, std::int64_t chained) {
    const std::int64_t last = program.step_count - 1, layers = program.layer_count;
    if (chained + 3 > layers || last < 3) return false;  // they start from differences of a layer in front
    const Step *end = program.steps + last;  // the loss
    return end[-1].layer == layers - 1 && end[-1].activation == population::Activation::none &&
           end[-2].activation == population::Activation::relu && end[-3].layer == layers - 2 &&
           end[-3].activation == population::Activation::none &&
           program.layers[layers - 2].columns * program.layers[layers - 1].rows <= most_slopes;
}

void run(Isa isa, std::int64_t threads, const Request &request) {
    const population::Call &parent = request.parent;
    const Program &program = parent.program;
    if (request.M == 0 || parent.B == 0) return;
    const Kernel &kernel = variants.choose(isa);
    std::vector<Spread> spreads(request.spreads, request.spreads + program.step_count);
    std::vector<std::vector<std::uint64_t>> readers;
    std::vector<std::int64_t> first{0};
    for (std::int64_t i = 0; i < program.step_count; ++i) {
        Spread &spread = spreads[i];
        const Step &step = program.steps[i];
        for (std::int64_t l = 0; l < spread.link_count; ++l) {
            const Link &link = spread.links[l];
            if (!link.weighted || link.factor == 0) continue;
            readers.push_back(find_readers(step, program.layers[step.layer], parent.words,
                                           request.spreads[link.producer].units, link.factor));
            spread.readers = readers.back().data();
        }
        first.push_back(first.back() + std::max<std::int64_t>(1, divide_up(spread.units, word_bits)));
    }
    const bool sloped = has_slopes(program, request.chained);
    List list(request, spreads.data(), kernel.lanes, sloped);
    list.add_all();
    const std::vector<float> last_weights =
        sloped ? turned_weights(program.layers[program.layer_count - 1], parent.words) : std::vector<float>{};
    const Call call{parent, spreads.data(), list.moves.data(), list.flipped.data(), list.rows.data(), list.pool.data(),
                    request.sums, request.M, request.chained, sloped ? last_weights.data() : nullptr};
    std::vector<Workplace> workplaces(static_cast<std::size_t>(threads));
    parallel_for(divide_up(parent.B, program.width * kernel.lanes), threads, [&](std::int64_t tile, std::int64_t slot) {
        Workplace &own = workplaces[slot];
        if (own.work.changed == nullptr) {
            own.prepare(program, first, kernel.lanes, sloped);
            kernel.list(program, parent.words, own.program.scratch.rows);
        }
        kernel.tile(call, tile, own.work);
    });
}

}  // namespace optprune::moves
