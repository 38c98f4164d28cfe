#include <iterator>

#include "kernels/look_up/look_up.h"

namespace optprune::look_up {
namespace {

Variant<Kernel> rows[] = {
#if OPTPRUNE_X86
    {Isa::avx512, &avx512},
    {Isa::avx2, &avx2},
#endif
    {Isa::scalar, &scalar},
};

}  // namespace

const Table<Kernel> variants{rows, std::size(rows)};

}  // namespace optprune::look_up
