#include "common/simd/avx2.h"
#include "kernels/sparse_conv2d/body.h"

namespace optprune::sparse_conv2d {

const Kernel avx2{&sparse_linear::avx2, many<>};

}  // namespace optprune::sparse_conv2d
