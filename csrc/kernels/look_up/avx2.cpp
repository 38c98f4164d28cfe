#include "common/simd/avx2.h"
#include "kernels/look_up/body.h"

namespace optprune::look_up {

const Kernel avx2 = kernel;

}  // namespace optprune::look_up
