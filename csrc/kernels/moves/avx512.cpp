#include "common/simd/avx512.h"
#include "kernels/moves/body.h"

namespace optprune::moves {

const Kernel avx512 = kernel;

}  // namespace optprune::moves
