#include "kernels/topk_threshold/block_avx2.h"
#include "kernels/topk_threshold/body.h"

namespace optprune::topk_threshold {

const Kernel avx2 = kernel;

}  // namespace optprune::topk_threshold
