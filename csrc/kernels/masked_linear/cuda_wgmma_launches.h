// The launch of the kernel that compute capability 9.0a alone has, as in cuda_launches.h.
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_WGMMA_LAUNCHES_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_WGMMA_LAUNCHES_H

#include "kernels/masked_linear/cuda_tiles.h"
#include "kernels/masked_linear/cuda_wgmma_body.h"

namespace optprune::masked_linear {
namespace {

template <int products, class Launch>
void run_wgmma(const Launch &launch, const CudaCall &call) {
    const Tiles tiles(call, products * wgmma::samples, wgmma::tile_o);
    const auto function = call.kind == Kind::bfloat16 ? wgmma::kernel<Half::bfloat16, products>
                                                      : wgmma::kernel<Half::float16, products>;
    launch(function, wgmma::threads, wgmma::shared_bytes<products>, tiles.all, call, tiles.b, tiles.o);
}

// Twice the samples a block, where that leaves no more of its columns idle.
template <class Launch>
void run_wgmma(const Launch &launch, const CudaCall &call) {
    const bool even = Tiles(call, wgmma::samples, wgmma::tile_o).b % 2 == 0;
    even ? run_wgmma<2>(launch, call) : run_wgmma<1>(launch, call);
}

}  // namespace
}  // namespace optprune::masked_linear

#endif
