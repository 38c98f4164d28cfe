#include <iterator>

#include "kernels/sparse_linear/sparse_linear.h"

namespace optprune::sparse_linear {
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

}  // namespace optprune::sparse_linear
