#include "common/simd/scalar.h"
#include "kernels/masked_linear/body.h"

namespace optprune::masked_linear {

const Kernel scalar = kernel;

}  // namespace optprune::masked_linear
