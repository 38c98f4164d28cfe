#include "common/simd/avx2.h"
#include "kernels/sparse_linear/eight_avx2.h"
#include "kernels/sparse_linear/turns.h"
#include "kernels/sparse_linear/body.h"

namespace optprune::sparse_linear {

const Kernel avx2 = kernel;

}  // namespace optprune::sparse_linear
