#include "common/simd/scalar.h"
#include "kernels/moves/body.h"

namespace optprune::moves {

const Kernel scalar = kernel;

}  // namespace optprune::moves
