// masked_linear's CUDA kernels on a CPU.
#include "emulated_warpgroup.h"
#include "kernels/masked_linear/cuda_launches.h"
#include "kernels/masked_linear/cuda_wgmma_launches.h"

// As _cuda.masked_linear has it, without a device and a stream. `blocks` blocks share the tiles, as in a launch: fewer
// blocks than tiles means that each takes several. Copies run ahead of products as far as they may, or products of copies.
extern "C" bool emulate_masked_linear(unsigned blocks, bool copies_ahead, int way, int kind, const void *x,
                                      const void *weight, const std::uint64_t *words, void *out, std::int64_t P,
                                      std::int64_t B, std::int64_t I, std::int64_t O, std::int64_t x_p, std::int64_t x_b,
                                      std::int64_t weight_o, std::int64_t words_p, std::int64_t words_o) {
    using namespace optprune::masked_linear;
    namespace device = optprune::cuda;
    const CudaCall call{static_cast<Way>(way), static_cast<Kind>(kind), x, weight, words, out, P, B, I, O, x_p, x_b,
                        weight_o, words_p, words_o};
    device::copies_at_once = copies_ahead;
    device::products_at_once = !copies_ahead;
    bool right = true;
    const auto launch = [&](auto kernel, int threads, int shared, std::int64_t tiles, auto... arguments) {
        if (tiles == 0) return;
        device::begin_launch(static_cast<std::size_t>(shared));
        right = emulation::run(blocks, 1, static_cast<unsigned>(threads), [=] { kernel(arguments...); }) &&
                device::ended_well(static_cast<std::size_t>(shared));
    };
    call.way == Way::wgmma ? run_wgmma(launch, call) : run(launch, call);
    return right;
}

extern "C" int emulated_copy_width(const void *x, const void *weight, std::int64_t x_p, std::int64_t x_b,
                                   std::int64_t weight_o) {
    using namespace optprune::masked_linear;
    return copy_width({Way::mma, Kind::float16, x, weight, nullptr, nullptr, 1, 1, 1, 1, x_p, x_b, weight_o, 0, 0});
}
