// The module optprune_fast._native: addresses and sizes in, nothing but kernels behind.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "common/cpu_features.h"

namespace py = pybind11;

PYBIND11_MODULE(_native, m) {
    m.attr("version") = OPTPRUNE_VERSION;
    m.def("isas", [] {
        std::vector<std::string> names;
        for (int i = 0; i <= static_cast<int>(optprune::best_isa()); ++i) names.emplace_back(optprune::isa_names[i]);
        return names;
    });
    m.def("variants", [] { return py::dict(); });
}
