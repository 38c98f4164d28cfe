#include "common/simd/avx512.h"
#include "kernels/population/body.h"

namespace optprune::population {

const Kernel avx512 = kernel;

}  // namespace optprune::population
