#include "common/simd/avx512.h"
#include "kernels/masked_linear/body.h"

namespace optprune::masked_linear {

const Kernel avx512 = kernel;

}  // namespace optprune::masked_linear
