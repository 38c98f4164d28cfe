// masked_linear's CUDA kernel on a CPU.
#include <cmath>

#include "emulation.h"
#include "kernels/masked_linear/cuda_body.h"

// As _cuda.masked_linear has it, without a device and a stream. `blocks` blocks share the tiles, as in a launch: fewer
// blocks than tiles means that each takes several.
extern "C" bool emulate_masked_linear(unsigned blocks, const float *x, const float *weight, const std::uint64_t *words,
                                      float *out, std::int64_t P, std::int64_t B, std::int64_t I, std::int64_t O,
                                      std::int64_t x_p, std::int64_t x_b, std::int64_t weight_o, std::int64_t words_p,
                                      std::int64_t words_o) {
    using namespace optprune::masked_linear;
    const CudaCall call{x, weight, words, out, P, B, I, O, x_p, x_b, weight_o, words_p, words_o};
    const std::int64_t tiles_b = (B + tile - 1) / tile, tiles_o = (O + tile - 1) / tile;
    return emulation::run(blocks, 1, threads, [=] { kernel(call, tiles_b, tiles_o); });
}
