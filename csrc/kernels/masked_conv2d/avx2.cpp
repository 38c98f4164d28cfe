#include "common/simd/avx2.h"
#include "kernels/masked_conv2d/body.h"

namespace optprune::masked_conv2d {

const Kernel avx2 = kernel;

}  // namespace optprune::masked_conv2d
