#include "common/simd/avx2.h"
#include "kernels/moves/body.h"

namespace optprune::moves {

const Kernel avx2 = kernel;

}  // namespace optprune::moves
