// What the emulation promises of itself, for test_emulation.py.
#include <string>

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

// 64 threads that wait for the block, or for their warp, as `waits` says of each.
template <class Waits>
bool ends(const Waits &waits) {
    return emulation::run(1, 1, 64, [&] {
        for (char c : waits(threadIdx.x)) c == 'b' ? __syncthreads() : __syncwarp();
    });
}

}  // namespace

extern "C" {

bool all_wait_alike() {
    return ends([](unsigned) { return std::string("bwwb"); });
}

bool warps_wait_for_themselves_as_they_like() {
    return ends([](unsigned thread) { return std::string(thread < 32 ? "bb" : "bwwwb"); });
}

bool a_warp_ends_while_another_waits() {
    return ends([](unsigned thread) { return std::string(thread < 32 ? "b" : "bb"); });
}

bool a_lane_ends_while_others_wait() {
    return ends([](unsigned thread) { return std::string(thread == 5 ? "bw" : "bww"); });
}

bool a_lane_waits_for_the_block_and_others_for_it() {
    return ends([](unsigned thread) { return std::string(thread == 5 ? "b" : "w"); });
}

// What the warp that goes second in a phase finds where the first one has written with no barrier in between.
int written_without_a_barrier(int phase) {
    static int shared;
    shared = 0;
    int found = -1;
    emulation::run(1, 1, 64, [&] {
        for (int i = 0; i < phase; ++i) __syncthreads();
        if (threadIdx.x == (phase % 2 ? 63u : 0u)) shared = 1;
        if (threadIdx.x == (phase % 2 ? 0u : 63u)) found = shared;
    });
    return found;
}

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
