#include "common/simd/avx512.h"
#include "kernels/look_up/body.h"

namespace optprune::look_up {

const Kernel avx512 = kernel;

}  // namespace optprune::look_up
