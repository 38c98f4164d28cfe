#ifndef OPTPRUNE_BINDINGS_NETWORK_H
#define OPTPRUNE_BINDINGS_NETWORK_H

#include <pybind11/pybind11.h>

void bind_network(pybind11::module_ &m);

#endif
