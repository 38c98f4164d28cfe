#include "kernels/topk_threshold/block_avx512.h"
#include "kernels/topk_threshold/body.h"

namespace optprune::topk_threshold {

const Kernel avx512 = kernel;

}  // namespace optprune::topk_threshold
