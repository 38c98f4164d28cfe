// Programs of the population kernel: built once from plain numbers, run often.
#include "bindings/population.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <stdexcept>

#include "bindings/isa.h"
#include "kernels/moves/moves.h"
#include "kernels/population/population.h"

namespace py = pybind11;

namespace {

using namespace optprune::population;
using Numbers = std::vector<std::int64_t>;

// [space, offset, rank, shape …, stride …]
Tensor read_tensor(const Numbers &from) {
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

void run_plan(const std::string &isa, std::int64_t threads, const Plan &plan, Address narrow_input, Address wide_input,
              Address targets, Address words, std::int64_t words_step, Address sums, Address outputs, std::int64_t P,
              std::int64_t B, std::int64_t loss, Address seconds) {
    const Program program = plan.program();
    const Call call{program, at<const float>(narrow_input), at<const float>(wide_input),
                    at<const std::int64_t>(targets), at<const std::uint64_t>(words), at<double>(sums),
                    at<float>(outputs), P, B, words_step, static_cast<Loss>(loss),
                    at<double>(seconds)};
    const optprune::Isa wanted = isa_named(isa);
    const py::gil_scoped_release released;
    optprune::population::run(wanted, threads, call);
}

void run_moves(const std::string &isa, std::int64_t threads, const Plan &plan, Address narrow_input, Address wide_input,
               Address targets, Address words, Address parent_sums, Address first_weight, Address indices,
               std::int64_t M, std::int64_t F, Address sums, std::int64_t B, std::int64_t loss, std::int64_t chained) {
    const Program program = plan.program();
    const Call parent{program, at<const float>(narrow_input), at<const float>(wide_input),
                      at<const std::int64_t>(targets), at<const std::uint64_t>(words), at<double>(parent_sums),
                      nullptr, 1, B, 0, static_cast<Loss>(loss), nullptr};
    const optprune::moves::Request request{parent, plan.spreads(), at<const std::int64_t>(first_weight),
                                           at<const std::int64_t>(indices), M, F, at<double>(sums), chained};
    const optprune::Isa wanted = isa_named(isa);
    const py::gil_scoped_release released;
    optprune::moves::run(wanted, threads, request);
}

void turn(const std::string &isa, std::int64_t threads, Address x, std::int64_t B, std::int64_t features,
          std::int64_t width, Address turned) {
    const optprune::Isa wanted = isa_named(isa);
    const py::gil_scoped_release released;
    turn_input(wanted, threads, at<const float>(x), B, features, width, at<float>(turned));
}

}  // namespace

void bind_population(py::module_ &m) {
    py::class_<Plan>(m, "Plan")
        .def(py::init<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t>())
        .def("add_layer", &Plan::add_layer)
        .def("add_step", &Plan::add_step)
        .def("add_spread", &Plan::add_spread);
    m.def("moves", &run_moves);
    m.def("moves_have_slopes", [](const Plan &plan, std::int64_t chained) {
        return optprune::moves::has_slopes(plan.program(), chained);
    });
    m.def("population", &run_plan);
    m.def("population_turn", &turn);
    m.def("population_lanes", [](const std::string &isa) { return lanes(isa_named(isa)); });
}
