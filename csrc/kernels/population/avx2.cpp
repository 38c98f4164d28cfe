#include "common/simd/avx2.h"
#include "kernels/population/body.h"

namespace optprune::population {

const Kernel avx2 = kernel;

}  // namespace optprune::population
