// The launches of a call, one after another. launch(kernel, blocks across, blocks along, arguments …) runs or enqueues
// one, with `threads` threads a block.
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_CUDA_LAUNCHES_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_CUDA_LAUNCHES_H

#include <algorithm>

#include "kernels/topk_threshold/cuda_mark.h"
#include "kernels/topk_threshold/cuda_patch.h"

namespace optprune::topk_threshold::device {
namespace {

inline unsigned shares_of(std::int64_t n, std::int64_t each, std::int64_t most) {
    return static_cast<unsigned>(std::min((n + each - 1) / each, most));
}

template <class Launch>
void run(const Launch &launch, int blocks, const CudaCall &call) {
    const auto along = static_cast<unsigned>(call.ranks);
    const unsigned shared = shares_of(call.n, 1, blocks), batches = shares_of(call.n, batch, 2147483647);
    const auto mark_tiles = call.ranks == 2 ? mark<2> : mark<1>;
    launch(sample_keys, shares_of(std::max(call.n, call.samples), threads, blocks), 1u, call);
    if (!call.direct) {
        const unsigned sampled = shares_of(call.samples, threads, blocks);
        for (int step = 0; step < digits; ++step) launch(sample_digit, sampled, 2 * along, call, step);
        launch(bracket, 1u, 1u, call);
        launch(mark_tiles, shared, 1u, call, false);
    }
    for (int step = 0; step < digits; ++step) launch(exact_digit, static_cast<unsigned>(blocks), along, call, step);
    launch(settle_keys, 1u, 1u, call);
    launch(mark_tiles, shared, 1u, call, true);
    launch(count_ties, batches, 1u, call);
    for (int j = 0; j < call.ranks; ++j) launch(patch, batches, 1u, call, j);
}

}  // namespace
}  // namespace optprune::topk_threshold::device

#endif
