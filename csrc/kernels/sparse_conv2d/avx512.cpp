#include "common/simd/avx512.h"
#include "kernels/sparse_conv2d/body.h"

namespace optprune::sparse_conv2d {

const Kernel avx512{&sparse_linear::avx512, many<>};

}  // namespace optprune::sparse_conv2d
