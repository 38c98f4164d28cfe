// What the emulation of tensor cores promises of itself, for test_cuda_kernel.py.
#include "emulated_tensor_cores.h"

namespace op = optprune::cuda;

namespace {

template <class Between>
int read_after(const Between &between) {
    alignas(16) static const int from[8] = {7, 7, 7, 7, 7, 7, 7, 7};
    alignas(16) static int to[8];
    std::memset(to, -1, sizeof to);
    int read = 0;
    emulation::run(1, 1, 1, [&] {
        op::copy_async<16>(to + 4, from, 16);
        op::close_copies();
        op::copy_async<16>(to, from, 16);
        op::close_copies();
        between();
        read = to[0];
        op::await_copies<0>();
    });
    return read;
}

}  // namespace

extern "C" {

int read_without_a_wait() {
    return read_after([] {});
}

int read_after_a_wait_for_the_group_before() {
    return read_after([] { op::await_copies<1>(); });
}

int read_after_a_wait() {
    return read_after([] { op::await_copies<0>(); });
}

void round_all(int kind, const float *numbers, std::uint16_t *out, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
        out[i] = kind == 1 ? op::rounded<op::Half::bfloat16>(numbers[i]) : op::rounded<op::Half::float16>(numbers[i]);
    }
}

}
