#include "common/simd/avx512.h"
#include "kernels/masked_conv2d/body.h"

namespace optprune::masked_conv2d {

const Kernel avx512 = kernel;

}  // namespace optprune::masked_conv2d
