// What the emulation promises of itself, for test_emulation.py.
#include <string>

#include "common/cuda_fragments.h"
#include "emulated_warpgroup.h"

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

constexpr std::size_t shared_bytes = 20 * 1024;

// Two warpgroups multiply 64 × 16 ones by 16 × 128, each as its course says, step by step; thread 0 reads the sum of a
// sample that another warp has copied.
struct Products {
    float read = -1;
    bool well;

    Products(const char *first_warp, const char *others, bool at_once) {
        op::begin_launch(shared_bytes);
        op::products_at_once = at_once;
        well = emulation::run(1, 1, 256, [&] { run(threadIdx.x < 32 ? first_warp : others); });
        well = well && op::ended_well(shared_bytes);
    }

    void run(const char *course) {
        std::uint32_t a[4] = {0x3C003C00, 0x3C003C00, 0x3C003C00, 0x3C003C00};  // float16
        float sums[64] = {};
        char *x = op::shared_memory() + 1024 - op::unaligned;
        const std::uint64_t b = op::shared_address(x) / 16 | 1 << 16 | 64ull << 32 | 1ull << 62;
        for (; *course; ++course) {
            switch (*course) {
                case 'c': copy(x); break;
                case 's': op::show_to_products(); break;
                case 'b': __syncthreads(); break;
                case 'f': op::fence_registers(a); break;
                case 'm': op::multiply_async<op::Half::float16>(a, b, sums); break;
                case 'u': op::multiply_async<op::Half::float16>(a, b & ~(1ull << 62), sums); break;  // unswizzled
                case 'g': op::close_products(); break;
                case 'w': op::await_products<0>(a); break;
                case 't': a[0] = 0x40004000; break;  // two, in eight columns of 16
                case 'p': op::shared_memory()[shared_bytes] = 0; break;  // past the end
                case 'r': if (threadIdx.x == 0) read = sums[60];
            }
        }
    }

    static void copy(char *x) {
        alignas(16) static const std::uint16_t ones[8] = {0x3C00, 0x3C00, 0x3C00, 0x3C00, 0x3C00, 0x3C00, 0x3C00, 0x3C00};
        if (threadIdx.x >= 128) return;
        const int row = static_cast<int>(threadIdx.x);
        for (int c = 0; c < 2; ++c) op::copy_async<16>(x + 16 * op::place<8>(row, c), ones, 16);
        op::close_copies();
        op::await_copies<0>();
    }
};

}  // namespace

extern "C" {

float multiplied(const char *course, bool at_once) { return Products(course, course, at_once).read; }

bool multiplied_well(const char *first_warp, const char *others) { return Products(first_warp, others, false).well; }

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
