// Which kernel serves a call, of those that any architecture has (cuda_wgmma_launches.h: the one that 9.0a alone has).
// launch(kernel, threads, bytes of shared memory beyond the kernel's own, blocks, call, tiles …) runs or enqueues it;
// `blocks` is one for each tile, and fewer will do.
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_LAUNCHES_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_LAUNCHES_H

#include "kernels/masked_linear/cuda_body.h"
#include "kernels/masked_linear/cuda_mma_body.h"
#include "kernels/masked_linear/cuda_tiles.h"

namespace optprune::masked_linear {
namespace {

template <Half half>
auto mma_kernel(const CudaCall &call) {
    return copy_width(call) == 16 ? mma::kernel<half, true> : mma::kernel<half, false>;
}

template <class Launch>
void run(const Launch &launch, const CudaCall &call) {
    if (call.way == Way::fma) {
        const Tiles tiles(call, tile, tile);
        launch(kernel, threads, 0, tiles.all, call, tiles.b, tiles.o);
    } else {
        const Tiles tiles(call, mma::tile_b, mma::tile_o);
        const auto function =
            call.kind == Kind::bfloat16 ? mma_kernel<Half::bfloat16>(call) : mma_kernel<Half::float16>(call);
        launch(function, mma::threads, 0, tiles.all, call, tiles.b, tiles.o);
    }
}

}  // namespace
}  // namespace optprune::masked_linear

#endif
