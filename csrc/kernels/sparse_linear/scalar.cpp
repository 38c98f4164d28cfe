#include "common/simd/scalar.h"
#include "kernels/sparse_linear/eight_scalar.h"
#include "kernels/sparse_linear/turns.h"
#include "kernels/sparse_linear/body.h"

namespace optprune::sparse_linear {

const Kernel scalar = kernel;

}  // namespace optprune::sparse_linear
