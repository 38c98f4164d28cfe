#include "common/simd/avx2.h"
#include "kernels/masked_linear/body.h"

namespace optprune::masked_linear {

const Kernel avx2 = kernel;

}  // namespace optprune::masked_linear
