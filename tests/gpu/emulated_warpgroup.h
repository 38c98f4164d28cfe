// common/cuda_warpgroup.h on a CPU, as NVIDIA's manual describes the instructions ("wgmma", "stmatrix", "fence.proxy").
//
// A product is made as late as allowed, when its warpgroup waits for it: registers that are read or written before, and
// memory that is written before, show. Or, if `products_at_once`, as early as that may be: what is multiplied before it
// is there shows. Products see what they were shown of shared memory, and registers as they were at a fence.
#ifndef OPTPRUNE_TESTS_EMULATED_WARPGROUP_H
#define OPTPRUNE_TESTS_EMULATED_WARPGROUP_H

#define OPTPRUNE_COMMON_CUDA_WARPGROUP_H

#include <array>
#include <map>

#include "emulated_tensor_cores.h"

namespace optprune::cuda {

constexpr std::size_t most_shared = 227 * 1024, unaligned = 16;

// Shared memory as threads see it, and as products do. It begins where no more is aligned than what CUDA promises.
static char window[1024 + most_shared] __attribute__((aligned(1024)));
static char shown[sizeof window];

inline char *shared_memory() { return window + unaligned; }

inline std::uint32_t shared_address(const void *at) {
    return static_cast<std::uint32_t>(static_cast<const char *>(at) - window);
}

inline void show_to_products() {
    for (const Written &part : written[threadIdx.x]) {
        std::memcpy(shown + (part.at - window), part.at, static_cast<std::size_t>(part.bytes));
    }
    written[threadIdx.x].clear();
}

struct Product {
    void (*make)(const Product &);
    const std::uint32_t (*a)[4];
    std::uint64_t b;
    float *sums;
};

using Registers = std::array<std::uint32_t, 4>;

static bool products_at_once = false;
static std::vector<std::vector<Product>> products[most_threads];  // closed groups of a thread, and last the open one
static std::map<const void *, Registers> fenced[most_threads];
static std::vector<std::uint64_t> begun[most_threads / 32];  // second factors of a warp's products

// Before a launch with so many bytes of shared memory: nothing is in it, nothing is on its way.
inline void begin_launch(std::size_t bytes) {
    if (bytes > most_shared) std::abort();
    std::memset(window, 0xFF, sizeof window);
    std::memset(shown, 0xFF, sizeof shown);
    for (unsigned t = 0; t < most_threads; ++t) {
        groups[t].clear();
        written[t].clear();
        products[t].clear();
        fenced[t].clear();
        begun[t / 32].clear();
    }
}

// After it: nothing was written past those bytes, no product is on its way, and the four warps of each warpgroup have
// begun the same ones.
inline bool ended_well(std::size_t bytes) {
    const auto untouched = [](char c) { return c == '\xFF'; };
    bool well = std::all_of(window, window + unaligned, untouched) &&
                std::all_of(window + unaligned + bytes, window + sizeof window, untouched);
    for (unsigned t = 0; t < most_threads; ++t) {
        for (const auto &group : products[t]) well = well && group.empty();
        well = well && begun[t / 32] == begun[t / 128 * 4];
    }
    return well;
}

inline Registers copy_of(const std::uint32_t (&a)[4]) { return {a[0], a[1], a[2], a[3]}; }

inline void fence_registers(const std::uint32_t (&a)[4]) { fenced[threadIdx.x][&a] = copy_of(a); }

// Where the manual's "Matrix Descriptor Format" and "Canonical Layouts" say that a number of the second factor lies:
// K-major, 128-byte swizzle. Another kind of descriptor, or a number out of memory, is no number.
inline std::size_t place_of(std::uint64_t b, unsigned column, unsigned k) {
    const auto field = [b](int first, int bits) { return static_cast<std::size_t>(b >> first & ((1u << bits) - 1)); };
    const std::size_t start = field(0, 14) << 4, eight_columns = field(32, 14) << 4;
    const bool pattern_at_1024 = start % 1024 < 128 && eight_columns % 1024 == 0 && field(49, 3) == 0;
    const std::size_t plain = start + column / 8 * eight_columns + column % 8 * 128 + k * 2;
    const std::size_t place = plain ^ (plain >> 7 & 7) << 4;
    return field(62, 2) == 1 && pattern_at_1024 && place + 2 <= sizeof shown ? place : sizeof shown;
}

template <Half half>
void make_product(const Product &product) {
    static Exchange<Registers> exchange;
    const Registers *lanes = exchange.with_warp(copy_of(*product.a));
    const unsigned lane = threadIdx.x % 32;
    float rows[2][16];
    for (unsigned row = 0; row < 2; ++row) {
        for (unsigned k = 0; k < 16; ++k) {
            rows[row][k] = value<half>(lanes[lane / 4 * 4 + k % 8 / 2][row + k / 8 * 2], k % 2);
        }
    }
    for (unsigned column = 0; column < 128; ++column) {
        if (column % 8 / 2 != lane % 4) continue;
        double sums[2] = {};
        for (unsigned k = 0; k < 16; ++k) {
            std::uint16_t bits = 0x7FFF;
            const std::size_t place = place_of(product.b, column, k);
            if (place < sizeof shown) std::memcpy(&bits, shown + place, sizeof bits);
            const double number = value<half>(bits, 0);
            for (unsigned row = 0; row < 2; ++row) sums[row] += number * rows[row][k];
        }
        for (unsigned row = 0; row < 2; ++row) {
            float &sum = product.sums[column / 8 * 4 + row * 2 + column % 2];
            sum = static_cast<float>(sum + sums[row]);
        }
    }
}

inline std::vector<std::vector<Product>> &own_products() {
    auto &own = products[threadIdx.x];
    if (own.empty()) own.emplace_back();
    return own;
}

template <Half half>
void multiply_async(const std::uint32_t (&a)[4], std::uint64_t b, float (&sums)[64]) {
    const auto fence = fenced[threadIdx.x].find(&a);
    if (fence == fenced[threadIdx.x].end() || fence->second != copy_of(a)) {
        std::fill(sums, sums + 64, std::numeric_limits<float>::quiet_NaN());  // what it makes of these is not defined
    }
    if (threadIdx.x % 32 == 0) begun[threadIdx.x / 32].push_back(b);
    const Product product{make_product<half>, &a, b, sums};
    products_at_once ? product.make(product) : own_products().back().push_back(product);
}

inline void close_products() { own_products().emplace_back(); }

template <int but, class Registers>
void await_products(Registers &) {
    auto &own = own_products();
    while (own.size() > but + 1) {
        for (const Product &product : own.front()) product.make(product);
        own.erase(own.begin());
    }
}

inline void store_turned(void *column, const std::uint32_t (&matrices)[4]) {
    static Exchange<Registers> exchange;
    const Registers *lanes = exchange.with_warp(copy_of(matrices));
    const unsigned lane = threadIdx.x % 32, own = lane % 8;
    for (unsigned row = 0; row < 8; ++row) {
        const std::uint32_t pair = lanes[4 * row + own / 2][lane / 8];
        const auto number = static_cast<std::uint16_t>(own % 2 ? pair >> 16 : pair);
        std::memcpy(static_cast<char *>(column) + 2 * row, &number, sizeof number);
    }
}

}  // namespace optprune::cuda

#endif
