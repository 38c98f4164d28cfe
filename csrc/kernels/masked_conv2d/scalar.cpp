#include "common/simd/scalar.h"
#include "kernels/masked_conv2d/body.h"

namespace optprune::masked_conv2d {

const Kernel scalar = kernel;

}  // namespace optprune::masked_conv2d
