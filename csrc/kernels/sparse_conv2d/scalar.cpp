#include "common/simd/scalar.h"
#include "kernels/sparse_conv2d/body.h"

namespace optprune::sparse_conv2d {

const Kernel scalar{&sparse_linear::scalar, many<>};

}  // namespace optprune::sparse_conv2d
