// masked_linear's CUDA kernels on a CPU.
#include "emulated_tensor_cores.h"
#include "kernels/masked_linear/cuda_launches.h"

// As _cuda.masked_linear has it, without a device and a stream. `blocks` blocks share the tiles, as in a launch: fewer
// blocks than tiles means that each takes several.
extern "C" bool emulate_masked_linear(unsigned blocks, int kind, const void *x, const void *weight,
                                      const std::uint64_t *words, void *out, std::int64_t P, std::int64_t B,
                                      std::int64_t I, std::int64_t O, std::int64_t x_p, std::int64_t x_b,
                                      std::int64_t weight_o, std::int64_t words_p, std::int64_t words_o) {
    using namespace optprune::masked_linear;
    const CudaCall call{
        static_cast<Kind>(kind), x, weight, words, out, P, B, I, O, x_p, x_b, weight_o, words_p, words_o};
    bool right = true;
    run([&](auto kernel, int threads, std::int64_t, auto... arguments) {
        right = emulation::run(blocks, 1, static_cast<unsigned>(threads), [=] { kernel(arguments...); });
    }, call);
    return right;
}

extern "C" int emulated_copy_width(const void *x, const void *weight, std::int64_t x_p, std::int64_t x_b,
                                   std::int64_t weight_o) {
    using namespace optprune::masked_linear;
    return mma::copy_width({Kind::float16, x, weight, nullptr, nullptr, 1, 1, 1, 1, x_p, x_b, weight_o, 0, 0});
}
