// The population kernel, its first layer by look-up, and its moves.
#include "bindings/population.h"

#include <pybind11/stl.h>

#include "bindings/plan.h"
#include "kernels/look_up/look_up.h"

namespace py = pybind11;

namespace {

using namespace optprune::population;
using optprune::bindings::Plan;
void run_plan(const std::string &isa, std::int64_t threads, const Plan &plan, Address narrow_input, Address wide_input,
              Address targets, Address words, std::int64_t words_step, Address sums, Address outputs, std::int64_t P,
              std::int64_t B, std::int64_t loss, Address seconds, bool looks_up) {
    const Program program = plan.program();
    const Call call{program, at<const float>(narrow_input), at<const float>(wide_input),
                    at<const std::int64_t>(targets), at<const std::uint64_t>(words), at<double>(sums),
                    at<float>(outputs), P, B, words_step, static_cast<Loss>(loss),
                    at<double>(seconds)};
    const optprune::Isa wanted = isa_named(isa);
    const py::gil_scoped_release released;
    (looks_up ? optprune::look_up::run : optprune::population::run)(wanted, threads, call);
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
    m.def("look_up_together", [](const std::string &isa, const Plan &plan) {
        return optprune::look_up::candidates_together(isa_named(isa), plan.program());
    });
    m.def("population_turn", &turn);
    m.def("population_lanes", [](const std::string &isa) { return lanes(isa_named(isa)); });
}
