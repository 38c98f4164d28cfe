#include "common/simd/scalar.h"
#include "kernels/population/body.h"

namespace optprune::population {

const Kernel scalar = kernel;

}  // namespace optprune::population
