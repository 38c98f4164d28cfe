// choose_bits's CUDA kernel on a CPU.
#include "emulation.h"

static int __ffsll(long long bits) { return __builtin_ffsll(bits); }

#include "kernels/choose_bits/cuda_body.h"

// As _cuda.choose_bits has it, without a device and a stream. `blocks` blocks share the rows, as in a launch.
extern "C" bool emulate_choose_bits(unsigned blocks, const std::uint64_t *words, const std::int64_t *counts,
                                    const std::uint64_t *seeds, std::uint64_t *out, std::int64_t P, std::int64_t W,
                                    std::int64_t words_step) {
    namespace op = optprune::choose_bits;
    const op::CudaCall call{words, counts, seeds, out, P, W, words_step};
    return emulation::run(blocks, 1, op::threads, [=] { op::kernel(call); });
}
