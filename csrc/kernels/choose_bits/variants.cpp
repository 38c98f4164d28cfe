#include <iterator>

#include "kernels/choose_bits/choose_bits.h"

namespace optprune::choose_bits {
namespace {

Variant<Kernel> rows[] = {
    {Isa::scalar, &scalar},
};

}  // namespace

const Table<Kernel> variants{rows, std::size(rows)};

}  // namespace optprune::choose_bits
