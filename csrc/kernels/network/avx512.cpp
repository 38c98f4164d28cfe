#include "common/simd/avx512.h"
#include "kernels/network/body.h"

namespace optprune::network {

const Kernel avx512 = kernel;

}  // namespace optprune::network
