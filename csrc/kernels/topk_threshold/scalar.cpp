#include "kernels/topk_threshold/block_scalar.h"
#include "kernels/topk_threshold/body.h"

namespace optprune::topk_threshold {

const Kernel scalar = kernel;

}  // namespace optprune::topk_threshold
