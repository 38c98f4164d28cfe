#include "common/simd/scalar.h"
#include "kernels/look_up/body.h"

namespace optprune::look_up {

const Kernel scalar = kernel;

}  // namespace optprune::look_up
