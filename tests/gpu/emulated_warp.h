// What the threads of a warp tell one another, on a CPU; and counts of bits.
#ifndef OPTPRUNE_TESTS_EMULATED_WARP_H
#define OPTPRUNE_TESTS_EMULATED_WARP_H

#include <cstdlib>

#include "emulated_tensor_cores.h"

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }

// What lane `from` shows. All lanes take part: another mask is not for this emulation.
template <class T>
T __shfl_sync(unsigned mask, T own, int from) {
    static optprune::cuda::Exchange<T> exchange;
    if (mask != 0xFFFFFFFF) std::abort();
    return exchange.with_warp(own)[from % 32];
}

template <class T>
T __shfl_xor_sync(unsigned mask, T own, int turned) {
    return __shfl_sync(mask, own, static_cast<int>(threadIdx.x % 32) ^ turned);
}

// A lane that has none so far before it keeps its own.
template <class T>
T __shfl_up_sync(unsigned mask, T own, int by) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    return __shfl_sync(mask, own, lane < by ? lane : lane - by);
}

#endif
