#ifndef OPTPRUNE_BINDINGS_POPULATION_H
#define OPTPRUNE_BINDINGS_POPULATION_H

#include <pybind11/pybind11.h>

void bind_population(pybind11::module_ &m);

#endif
