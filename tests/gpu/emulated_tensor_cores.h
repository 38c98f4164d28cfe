// common/cuda_tensor_cores.h on a CPU, as NVIDIA's manual describes the instructions ("cp.async", "ldmatrix",
// "mma.m16n8k16"). What a whole warp does takes a barrier of the warp.
//
// A copy is made as late as allowed, when its thread waits for it: what is read without a wait is not there yet. Or, if
// `copies_at_once`, as early as that may be: what others still read is no longer there.
#ifndef OPTPRUNE_TESTS_EMULATED_TENSOR_CORES_H
#define OPTPRUNE_TESTS_EMULATED_TENSOR_CORES_H

#define OPTPRUNE_COMMON_CUDA_TENSOR_CORES_H

#include <cmath>
#include <cstring>
#include <limits>

#include "emulation.h"

namespace optprune::cuda {

enum class Half { bfloat16, float16 };

constexpr unsigned most_threads = 1024;

struct Copy {
    char *to;
    const char *from;
    int bytes, there;
};

static bool copies_at_once = false;
static std::vector<std::vector<Copy>> groups[most_threads];  // closed ones of a thread, and last the one that is open

// What a thread has written to shared memory by copies, since it last showed that to others (emulated_warpgroup.h).
struct Written {
    char *at;
    int bytes;
};
static std::vector<Written> written[most_threads];

inline std::vector<std::vector<Copy>> &own_groups() {
    auto &own = groups[threadIdx.x];
    if (own.empty()) own.emplace_back();
    return own;
}

inline void make(const Copy &copy) {
    std::memset(copy.to, 0, static_cast<std::size_t>(copy.bytes));
    std::memcpy(copy.to, copy.from, static_cast<std::size_t>(copy.there));
    written[threadIdx.x].push_back({copy.to, copy.bytes});
}

template <int bytes>
void copy_async(void *to, const void *from, int there) {
    const auto addresses = reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from);
    if (addresses % bytes || there > bytes || there < 0) std::abort();  // as a GPU would
    const Copy copy{static_cast<char *>(to), static_cast<const char *>(from), bytes, there};
    copies_at_once ? make(copy) : own_groups().back().push_back(copy);
}

inline void close_copies() { own_groups().emplace_back(); }

template <int but>
void await_copies() {
    auto &own = own_groups();
    while (own.size() > but + 1) {
        for (const Copy &copy : own.front()) make(copy);
        own.erase(own.begin());
    }
}

// What threads show one another: every second exchange takes the same memory, which by then all have read.
template <class T>
struct Exchange {
    T shown[2][most_threads];
    unsigned turns[most_threads];

    // What the threads of this one's warp show.
    const T *with_warp(const T &own) {
        T *all = shown[turns[threadIdx.x]++ % 2];
        all[threadIdx.x] = own;
        __syncwarp();
        return all + threadIdx.x / 32 * 32;
    }
};

inline void load_matrices(const void *row, std::uint32_t (&out)[4]) {
    static Exchange<const char *> exchange;
    const char *const *rows = exchange.with_warp(static_cast<const char *>(row));
    const unsigned lane = threadIdx.x % 32;
    for (unsigned matrix = 0; matrix < 4; ++matrix) {
        std::memcpy(&out[matrix], rows[8 * matrix + lane / 4] + 4 * (lane % 4), 4);
    }
}

// As the manual's "prmt".
inline std::uint32_t choose_bytes(std::uint32_t low, std::uint32_t high, std::uint32_t places) {
    const std::uint64_t both = static_cast<std::uint64_t>(high) << 32 | low;
    std::uint32_t out = 0;
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned place = places >> 4 * i & 15;
        std::uint32_t byte = static_cast<std::uint32_t>(both >> place % 8 * 8) & 0xFF;
        if (place >= 8) byte = byte >> 7 ? 0xFF : 0;
        out |= byte << 8 * i;
    }
    return out;
}

inline float power(int exponent) { return std::ldexp(1.0f, exponent); }

template <Half half>
float value(std::uint32_t pair, int which) {
    const std::uint32_t bits = which ? pair >> 16 : pair & 0xFFFF;
    if (half == Half::bfloat16) {
        const std::uint32_t wide = bits << 16;
        float out;
        std::memcpy(&out, &wide, sizeof out);
        return out;
    }
    const int exponent = static_cast<int>(bits >> 10 & 31), fraction = static_cast<int>(bits & 1023);
    float size = static_cast<float>(exponent ? fraction + 1024 : fraction) * power((exponent ? exponent : 1) - 25);
    if (exponent == 31) {
        size = fraction ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
    }
    return bits >> 15 ? -size : size;
}

template <Half half>
float widened(std::uint16_t number) {
    return value<half>(number, 0);
}

template <Half half>
void multiply(const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], float (&sums)[4]) {
    struct Registers {
        std::uint32_t a[4], b[2];
    };
    static Exchange<Registers> exchange;
    const Registers *lanes = exchange.with_warp({{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
    const unsigned lane = threadIdx.x % 32;
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        double sum = 0;
        for (unsigned k = 0; k < 16; ++k) {
            const unsigned beside = k % 8 / 2;
            sum += static_cast<double>(value<half>(lanes[row % 8 * 4 + beside].a[row / 8 + k / 8 * 2], k % 2)) *
                   value<half>(lanes[column * 4 + beside].b[k / 8], k % 2);
        }
        sums[i] = static_cast<float>(sums[i] + sum);
    }
}

// To the nearest, ties to even, as the FPU rounds.
template <Half half>
std::uint16_t rounded(float number) {
    if (half == Half::bfloat16) {
        std::uint32_t bits;
        std::memcpy(&bits, &number, sizeof bits);
        return static_cast<std::uint16_t>(std::isnan(number) ? 0x7FC0 : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
    }
    const unsigned sign = std::signbit(number) ? 0x8000 : 0;
    const float size = std::fabs(number);
    if (std::isnan(number)) return 0x7E00;
    if (size >= 65520.0f) return static_cast<std::uint16_t>(sign | 0x7C00);
    const int exponent = size < power(-14) ? -14 : std::ilogb(size);
    const int scaled = static_cast<int>(std::nearbyint(std::ldexp(size, 10 - exponent)));
    return static_cast<std::uint16_t>(sign | static_cast<unsigned>(scaled + (exponent + 14) * 1024));
}

template <Half half>
std::uint32_t rounded(float first, float second) {
    return rounded<half>(first) | static_cast<std::uint32_t>(rounded<half>(second)) << 16;
}

}  // namespace optprune::cuda

#endif
