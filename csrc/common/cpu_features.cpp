#include "common/cpu_features.h"

#if OPTPRUNE_X86
#include <cpuid.h>

#include <cstdint>
#endif

namespace optprune {

#if OPTPRUNE_X86

namespace {

constexpr bool has_all(std::uint64_t value, std::uint64_t bits) { return (value & bits) == bits; }

constexpr std::uint64_t bit(int n) { return std::uint64_t{1} << n; }

// Register state that the operating system saves on a switch (XCR0). Inline assembly, because the intrinsic wants a
// compiler flag that this file must not have.
std::uint64_t saved_state() {
    std::uint32_t low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (std::uint64_t{high} << 32) | low;
}

// Bit numbers: Intel SDM volume 2, CPUID leaves 1 and 7; volume 1, section 13.3, for XCR0.
Isa detect() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return Isa::scalar;
    const std::uint64_t fma_popcnt_osxsave_avx_f16c = bit(12) | bit(23) | bit(27) | bit(28) | bit(29);
    if (!has_all(c, fma_popcnt_osxsave_avx_f16c)) return Isa::scalar;
    const std::uint64_t saved = saved_state();
    const std::uint64_t xmm_ymm = bit(1) | bit(2);
    if (!has_all(saved, xmm_ymm) || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return Isa::scalar;
    const std::uint64_t bmi1_avx2_bmi2 = bit(3) | bit(5) | bit(8);
    if (!has_all(b, bmi1_avx2_bmi2)) return Isa::scalar;
    const std::uint64_t f_dq_bw_vl = bit(16) | bit(17) | bit(30) | bit(31);
    const std::uint64_t opmask_zmm = bit(5) | bit(6) | bit(7);
    return has_all(b, f_dq_bw_vl) && has_all(saved, opmask_zmm) ? Isa::avx512 : Isa::avx2;
}

}  // namespace

Isa best_isa() {
    static const Isa best = detect();
    return best;
}

#else

Isa best_isa() { return Isa::scalar; }

#endif

}  // namespace optprune
