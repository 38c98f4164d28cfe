// topk_threshold's CUDA kernels on a CPU, in the launches of a GPU.
#include <cstring>

#include "emulation.h"

#define __builtin_assume(claim)

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

template <class T>
T __ldg(const T *at) {
    return *at;
}

static unsigned long long atomicAdd(unsigned long long *at, unsigned value) {
    return atomicAdd(at, static_cast<unsigned long long>(value));
}

static void atomicMax(unsigned long long *at, unsigned long long value) { *at = *at < value ? value : *at; }
static void atomicOr(unsigned long long *at, unsigned long long value) { *at |= value; }
static void atomicAnd(unsigned long long *at, unsigned long long value) { *at &= value; }
static int __popc(unsigned bits) { return __builtin_popcount(bits); }
static int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
static int __ffs(int bits) { return __builtin_ffs(bits); }

static unsigned short __ushort_as_half(unsigned short bits) { return bits; }

static int __float_as_int(float value) {
    int bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

// Of a float16 without its sign.
static float __half2float(unsigned short half) {
    const unsigned exponent = half >> 10, fraction = half & 0x3FF;
    if (exponent == 0) return static_cast<float>(fraction) / 16777216.0f;  // 2^24
    const unsigned bits = exponent == 31 ? 0x7F800000u | fraction << 13 : (exponent + 112) << 23 | fraction << 13;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

#include "kernels/topk_threshold/cuda_launches.h"

namespace op = optprune::topk_threshold::device;

extern "C" const std::int64_t emulated_state = sizeof(op::State) / sizeof(std::int64_t);

// As _cuda.topk_threshold has it, without a device and a stream.
extern "C" bool emulate_topk_threshold(int blocks, const std::int64_t *plan, op::State *state, std::int32_t *owners,
                                       std::int32_t *sample, std::uint64_t *arena, std::int64_t *segments,
                                       std::int64_t *ties, std::int64_t *sums, std::int64_t n, std::int64_t samples,
                                       int ranks, bool direct, bool drop) {
    const op::CudaCall call{plan, state, owners, sample, arena, segments, ties, sums, n, samples, ranks, direct, drop};
    bool right = true;
    op::run([&](auto kernel, unsigned across, unsigned along, auto... arguments) {
        right = right && emulation::run(across, along, op::threads, [=] { kernel(arguments...); });
    }, blocks, call);
    return right;
}
