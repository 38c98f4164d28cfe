// Which kernel serves a call. launch(kernel, threads, blocks, call, tiles …) runs or enqueues it; `blocks` is one for
// each tile, and fewer will do.
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_LAUNCHES_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_LAUNCHES_H

#include "kernels/masked_linear/cuda_body.h"
#include "kernels/masked_linear/cuda_mma_body.h"

namespace optprune::masked_linear {
namespace {

constexpr std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

template <optprune::cuda::Half half>
auto mma_kernel(const CudaCall &call) {
    return mma::copy_width(call) == 16 ? mma::kernel<half, true> : mma::kernel<half, false>;
}

template <class Launch>
void run(const Launch &launch, const CudaCall &call) {
    const bool single = call.kind == Kind::float32;
    const std::int64_t tiles_b = divide_up(call.B, single ? tile : mma::tile_b);
    const std::int64_t tiles_o = divide_up(call.O, single ? tile : mma::tile_o);
    const std::int64_t blocks = call.P * tiles_b * tiles_o;
    if (blocks == 0) return;
    const auto function = single                         ? kernel
                          : call.kind == Kind::bfloat16 ? mma_kernel<optprune::cuda::Half::bfloat16>(call)
                                                        : mma_kernel<optprune::cuda::Half::float16>(call);
    launch(function, single ? threads : mma::threads, blocks, call, tiles_b, tiles_o);
}

}  // namespace
}  // namespace optprune::masked_linear

#endif
