#include "common/simd/avx512.h"
#include "kernels/sparse_linear/eight_avx2.h"
#include "kernels/sparse_linear/turns_avx512.h"
#include "kernels/sparse_linear/body.h"

namespace optprune::sparse_linear {

const Kernel avx512 = kernel;

}  // namespace optprune::sparse_linear
