#include "common/simd/scalar.h"
#include "kernels/network/body.h"

namespace optprune::network {

const Kernel scalar = kernel;

}  // namespace optprune::network
