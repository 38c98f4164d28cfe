// Programs of the population kernel, built once from plain numbers and run often.
#ifndef OPTPRUNE_BINDINGS_PLAN_H
#define OPTPRUNE_BINDINGS_PLAN_H

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>
#include <vector>

#include "bindings/isa.h"
#include "kernels/moves/moves.h"
#include "kernels/population/population.h"

namespace optprune::bindings {

using namespace optprune::population;
using Numbers = std::vector<std::int64_t>;

// [space, offset, rank, shape …, stride …]
inline Tensor read_tensor(const Numbers &from) {
    if (from.size() < 3 || from[2] > most_dims || from.size() != static_cast<std::size_t>(3 + 2 * from[2])) {
        throw std::invalid_argument("population: a tensor is [space, offset, rank, shape, stride]");
    }
    Tensor out{static_cast<Space>(from[0]), from[1], from[2], {}, {}};
    std::copy_n(from.begin() + 3, out.rank, out.shape);
    std::copy_n(from.begin() + 3 + out.rank, out.rank, out.stride);
    return out;
}

class Plan {
  public:
    Plan(std::int64_t width, std::int64_t narrow_size, std::int64_t wide_size, std::int64_t narrow_input,
         std::int64_t wide_input)
        : sizes_{nullptr, nullptr, 0, 0, width, narrow_size, wide_size, narrow_input, wide_input} {}

    void add_layer(Address weight, std::int64_t rows, std::int64_t columns, std::int64_t first_word, Address offset,
                   const std::vector<std::pair<std::int64_t, std::int64_t>> &consumers, std::int64_t registers,
                   double dense_from) {
        std::vector<Consumer> readers;
        for (const auto &[layer, taken] : consumers) readers.push_back({layer, taken});
        consumers_.push_back(std::move(readers));  // a moved vector keeps its memory
        layers_.push_back({at<const float>(weight), rows, columns, first_word, at<const std::int64_t>(offset),
                           consumers_.back().data(), static_cast<std::int64_t>(consumers.size()), registers,
                           dense_from});
    }

    void add_step(std::int64_t op, bool narrow, std::int64_t layer, std::int64_t activation,
                  std::array<float, 2> parameters, Address bias, Address extra, const Numbers &numbers,
                  const Numbers &out, const Numbers &a, const Numbers &b) {
        if (numbers.size() > most_numbers) throw std::invalid_argument("population: too many numbers");
        Step step{static_cast<Op>(op), narrow, layer, static_cast<Activation>(activation),
                  {parameters[0], parameters[1]}, at<const float>(bias), at<const float>(extra), {},
                  read_tensor(out), read_tensor(a), read_tensor(b)};
        std::copy(numbers.begin(), numbers.end(), step.numbers);
        steps_.push_back(step);
    }

    Program program() const {
        Program out = sizes_;
        out.steps = steps_.data(), out.step_count = static_cast<std::int64_t>(steps_.size());
        out.layers = layers_.data(), out.layer_count = static_cast<std::int64_t>(layers_.size());
        return out;
    }

    // links: [producer, factor, weighted] each; of one step, in the order of the steps
    void add_spread(std::int64_t units, const std::vector<std::array<std::int64_t, 3>> &links) {
        std::vector<optprune::moves::Link> own;
        for (const auto &[producer, factor, weighted] : links) own.push_back({producer, factor, weighted != 0});
        links_.push_back(std::move(own));
        spreads_.push_back({units, links_.back().data(), static_cast<std::int64_t>(links.size()), nullptr});
    }

    const optprune::moves::Spread *spreads() const { return spreads_.data(); }

  private:
    Program sizes_;
    std::vector<Step> steps_;
    std::vector<Layer> layers_;
    std::vector<std::vector<Consumer>> consumers_;
    std::vector<optprune::moves::Spread> spreads_;
    std::vector<std::vector<optprune::moves::Link>> links_;
};

}  // namespace optprune::bindings

#endif
