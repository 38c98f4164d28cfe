#include "common/simd/avx2.h"
#include "kernels/network/body.h"

namespace optprune::network {

const Kernel avx2 = kernel;

}  // namespace optprune::network
