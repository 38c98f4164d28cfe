// Which kernel serves a call. launch(kernel, threads, blocks, call, tiles …) runs or enqueues it; `blocks` is one for
// each share of the work, and fewer will do.
#ifndef OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_LAUNCHES_H
#define OPTPRUNE_KERNELS_ROWS_LINEAR_CUDA_LAUNCHES_H

#include "kernels/rows_linear/cuda_few_columns.h"
#include "kernels/rows_linear/cuda_few_words.h"
#include "kernels/rows_linear/cuda_mma_body.h"
#include "kernels/rows_linear/cuda_single_body.h"

namespace optprune::rows_linear {
namespace {

// Samples up to which the kernels for few serve. By words every position costs instructions for each sample, kept or not,
// and tensor cores multiply it for nearly nothing; by columns only what is kept does. Nobody has measured it.
constexpr int most_few = 16, most_few_of_words = 4;

constexpr std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// The kernel for the fewest samples, a power of two, that holds all of the call's.
template <Kind kind, bool listed, int samples, class Launch>
void run_few(const Launch &launch, const CudaCall &call) {
    if constexpr (samples > 1) {
        if (call.B <= samples / 2) return run_few<kind, listed, samples / 2>(launch, call);
    }
    if constexpr (listed) {
        constexpr int rows = few::warps * few::Cut<kind, samples>::rows;
        launch(few::by_columns<kind, samples>, few::threads, divide_up(call.O, rows), call);
    } else {
        constexpr int rows = few::warps * few::rows_by_words;
        launch(few::by_words<kind, samples>, few::threads, divide_up(call.O, rows), call);
    }
}

template <Kind kind, template <Kind, int> class Rows, class Launch>
void run_many(const Launch &launch, const CudaCall &call) {
    const auto tiles = [&](auto kernel, int threads, int tile_b, int tile_o) {
        const std::int64_t tiles_b = divide_up(call.B, tile_b), tiles_o = divide_up(call.O, tile_o);
        launch(kernel, threads, tiles_b * tiles_o, call, tiles_b, tiles_o);
    };
    if constexpr (kind == Kind::float32) {
        namespace square = optprune::cuda::square;
        tiles(many::by_fused_sums<Rows>, square::threads, square::edge, square::edge);
    } else if (call.B <= 16) {
        tiles(many::by_tensor_cores<kind, Rows, 16>, many::threads, 16, many::tile_o);
    } else if (call.B <= 32) {
        tiles(many::by_tensor_cores<kind, Rows, 32>, many::threads, 32, many::tile_o);
    } else {
        tiles(many::by_tensor_cores<kind, Rows, 64>, many::threads, 64, many::tile_o);
    }
}

template <Kind kind, class Launch>
void run_kind(const Launch &launch, const CudaCall &call) {
    constexpr int most_by_words = kind == Kind::float32 ? most_few : most_few_of_words;
    if (call.listed) {
        if (call.B <= most_few) return run_few<kind, true, most_few>(launch, call);
        run_many<kind, many::Columns>(launch, call);
    } else {
        if (call.B <= most_by_words) return run_few<kind, false, most_by_words>(launch, call);
        run_many<kind, many::Words>(launch, call);
    }
}

template <class Launch>
void run(const Launch &launch, const CudaCall &call) {
    if (call.B == 0 || call.O == 0) return;
    if (call.kind == Kind::float32) return run_kind<Kind::float32>(launch, call);
    if (call.kind == Kind::bfloat16) return run_kind<Kind::bfloat16>(launch, call);
    run_kind<Kind::float16>(launch, call);
}

}  // namespace
}  // namespace optprune::rows_linear

#endif
