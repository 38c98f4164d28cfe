// rows_linear's CUDA kernels on a CPU.
#include <algorithm>

#include "emulated_warp.h"
#include "kernels/rows_linear/cuda_launches.h"

namespace op = optprune::rows_linear;

static std::vector<const void *> seen;  // the kernels that have run, in the order of their first call
static int last = -1;

extern "C" {

// As _cuda.rows_linear has it, without a device and a stream. `blocks` blocks share the work, as in a launch: fewer than
// there are shares means that each takes several.
bool emulate_rows_linear(unsigned blocks, int kind, const void *x, const void *values, const void *places,
                         const std::int16_t *counts, const void *starts, const void *bias, void *out, std::int64_t B,
                         std::int64_t I, std::int64_t O, std::int64_t x_b, bool listed, bool wide_starts) {
    const op::CudaCall call{
        static_cast<op::Kind>(kind), x, values, places, counts, starts, bias, out, B, I, O, x_b, listed, wide_starts};
    bool right = true;
    op::run([&](auto kernel, int threads, std::int64_t, auto... arguments) {
        right = emulation::run(blocks, 1, static_cast<unsigned>(threads), [=] { kernel(arguments...); });
        const auto found = std::find(seen.begin(), seen.end(), reinterpret_cast<const void *>(kernel));
        last = static_cast<int>(found - seen.begin());
        if (found == seen.end()) seen.push_back(reinterpret_cast<const void *>(kernel));
    }, call);
    return right;
}

// A number that each kernel has: that of the one that ran last.
int emulated_kernel() { return last; }

bool emulated_alignment(const void *x, std::int64_t x_b, int number_bytes, int bytes) {
    return op::aligned({op::Kind::float32, x, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, 1, 1, 1, x_b, false,
                        false}, number_bytes, bytes);
}

}
