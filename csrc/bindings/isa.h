// What every binding needs: addresses as Python holds them, and instruction sets by name.
#ifndef OPTPRUNE_BINDINGS_ISA_H
#define OPTPRUNE_BINDINGS_ISA_H

#include <cstdint>
#include <stdexcept>
#include <string>

#include "common/cpu_features.h"

using Address = std::uintptr_t;

template <class T>
T *at(Address address) {
    return reinterpret_cast<T *>(address);
}

inline optprune::Isa isa_named(const std::string &name) {
    using optprune::Isa;
    for (std::size_t i = 0; i < optprune::isa_count; ++i) {
        if (name == optprune::isa_names[i] && static_cast<Isa>(i) <= optprune::best_isa()) return static_cast<Isa>(i);
    }
    throw std::invalid_argument("this CPU has no instruction set " + name);
}

#endif
