// The table of one operation: its kernel for each instruction set, and how often each was asked to run.
#ifndef OPTPRUNE_COMMON_VARIANTS_H
#define OPTPRUNE_COMMON_VARIANTS_H

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "common/cpu_features.h"

namespace optprune {

template <class Kernel>
struct Variant {
    Isa isa;
    const Kernel *kernel;
    std::atomic<std::int64_t> calls{0};
};

// Rows stand fastest first; the last is scalar, which every machine runs.
template <class Kernel>
struct Table {
    Variant<Kernel> *rows;
    std::size_t count;

    // The fastest row that needs no more than `isa`; the call is counted.
    const Kernel &choose(Isa isa) const {
        std::size_t row = 0;
        while (rows[row].isa > isa) ++row;
        rows[row].calls.fetch_add(1, std::memory_order_relaxed);
        return *rows[row].kernel;
    }
};

}  // namespace optprune

#endif
