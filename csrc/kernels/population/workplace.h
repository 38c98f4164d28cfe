// The memory of a thread that runs a program. For plain code only: its templates must not be compiled with the flags of
// one instruction set.
#ifndef OPTPRUNE_KERNELS_POPULATION_WORKPLACE_H
#define OPTPRUNE_KERNELS_POPULATION_WORKPLACE_H

#include <algorithm>
#include <cstring>
#include <vector>

#include "common/buffer.h"
#include "kernels/population/population.h"

namespace optprune::population {

inline Buffer<float> zeros(std::int64_t count) {
    Buffer<float> out = make_buffer<float>(std::max<std::int64_t>(1, count));
    std::memset(out.get(), 0, static_cast<std::size_t>(count) * sizeof(float));
    return out;
}

// The memory of a thread, allocated when it gets its first task.
class Workplace {
  public:
    Scratch scratch{};

    // keep: every narrow tile of a wide one has memory of its own
    // lists: of so many candidates there is room for the weights of all layers; 0: whoever runs a step says where they are
    void prepare(const Program &program, std::int64_t lanes, bool keep = false, std::int64_t lists = 1) {
        if (scratch.rows != nullptr) return;
        const std::int64_t narrow_step = keep ? program.narrow_size * lanes : 0;
        narrow_ = zeros(keep ? narrow_step * program.width : program.narrow_size * lanes);
        wide_ = zeros(program.wide_size * lanes);
        std::int64_t columns = 1;
        for (std::int64_t i = 0; i < program.step_count; ++i) {
            const Step &step = program.steps[i];
            if (step.op == Op::linear) columns = std::max(columns, step.a.shape[0]);
        }
        packed_ = make_buffer<float>(std::max(columns * 8, dense_columns * dense_registers) * lanes);
        std::int64_t channels = 0;
        for (std::int64_t l = 0; l < program.layer_count; ++l) {
            const Layer &layer = program.layers[l];
            if (layer.registers == 0) channels = std::max(channels, layer.rows);
        }
        for (std::int64_t i = 0; i < lists * program.layer_count; ++i) add_rows(program.layers[i % program.layer_count]);
        if (lists == 0) rows_.resize(static_cast<std::size_t>(program.layer_count));
        partial_ = make_buffer<float>(channels * dense_strip * lanes);
        scratch = {narrow_.get(), wide_.get(), narrow_step, packed_.get(), partial_.get(), rows_.data()};
    }

  private:
    void add_rows(const Layer &layer) {
        live_.push_back(make_buffer<std::int32_t>(layer.rows));
        start_.push_back(make_buffer<std::int64_t>(layer.rows + 1));
        kept_.push_back(make_buffer<Kept>(layer.rows * layer.columns + kept_slack));
        used_.push_back(make_buffer<std::uint64_t>(layer.words()));
        const bool is_linear = layer.registers > 0;
        visits_.push_back(make_buffer<Visit>(is_linear ? layer.rows * layer.words() : 1));
        places_.push_back(make_buffer<std::int32_t>(layer.words() * place_count));
        weights_.push_back(make_buffer<float>(is_linear || layer.dense_from <= 1 ? layer.rows * layer.columns : 1));
        rows_.push_back({live_.back().get(), 0, Way::list, Way::list, start_.back().get(), kept_.back().get(),
                         visits_.back().get(), places_.back().get(), weights_.back().get(), nullptr,
                         used_.back().get()});
    }

    Buffer<float> narrow_, wide_, packed_, partial_;
    std::vector<Buffer<std::int32_t>> live_, places_;
    std::vector<Buffer<std::int64_t>> start_;
    std::vector<Buffer<Kept>> kept_;
    std::vector<Buffer<Visit>> visits_;
    std::vector<Buffer<float>> weights_;
    std::vector<Buffer<std::uint64_t>> used_;
    std::vector<Rows> rows_;
};

}  // namespace optprune::population

#endif
