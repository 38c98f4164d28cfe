// The kernel of cuda.cu, in a header of its own: the tests run it on a CPU too, thread by thread, where no GPU is at hand
// (tests/gpu/emulated_choose_bits.cpp).
//
// A block takes a row. Keys are computed anew in each pass, for they cost less than to keep them:
//
//   digit of 11 bits   histogram of the keys that share the digits so far ──▶ the bin where the last bit to stay is
//   …                  another digit, until all of a bin stays: two digits, mostly, in a row of 10⁵ bits
//   write              bits whose digits are at most those found
#ifndef OPTPRUNE_KERNELS_CHOOSE_BITS_CUDA_BODY_H
#define OPTPRUNE_KERNELS_CHOOSE_BITS_CUDA_BODY_H

#include "common/cuda_scan.h"
#include "kernels/choose_bits/cuda.h"
#include "kernels/choose_bits/key.h"

namespace optprune::choose_bits {
namespace {

constexpr int side = 16, threads = side * side;
constexpr int digit_bits = 11, bins = 1 << digit_bits, bins_of_a_thread = bins / threads;

struct Row {
    const std::uint64_t *words;
    std::int64_t W;
    std::uint64_t seed;
};

// The keys that stay: those whose upper bits, all but the lower `open`, are at most `prefix`.
struct Bound {
    std::uint64_t prefix;
    int open;
};

// A bin, and the rank of the last key to stay among its members.
struct Found {
    std::uint64_t bin;
    unsigned long long rank, members;
};

// visit(bit, key) for each bit of a word.
template <class Visit>
__device__ __forceinline__ void each_bit(const Row &row, std::int64_t w, const Visit &visit) {
    for (std::uint64_t rest = row.words[w]; rest != 0; rest &= rest - 1) {
        const int bit = __ffsll(static_cast<long long>(rest)) - 1;
        visit(bit, key(row.seed, static_cast<std::uint64_t>(64 * w + bit)));
    }
}

// The bin of the key of some rank; all of the last bin where there are fewer keys.
__device__ __forceinline__ Found bin_of(const unsigned (&histogram)[bins], unsigned long long rank) {
    __shared__ Found found;
    const int first = static_cast<int>(threadIdx.x) * bins_of_a_thread;
    unsigned long long own = 0;
    for (int i = 0; i < bins_of_a_thread; ++i) own += histogram[first + i];
    if (threadIdx.x == 0) found = {bins - 1, 0, 0};
    unsigned long long before = optprune::cuda::sum_before<side>(own);
    if (before < rank && rank <= before + own) {
        int bin = first;
        while (before + histogram[bin] < rank) before += histogram[bin++];
        found = {static_cast<std::uint64_t>(bin), rank - before, histogram[bin]};
    }
    __syncthreads();
    return found;
}

__device__ __forceinline__ Bound bound_of(const Row &row, std::int64_t count) {
    __shared__ unsigned histogram[bins];
    Bound bound{0, 64};
    Found found{0, static_cast<unsigned long long>(count), 0};
    do {
        const int open = bound.open > digit_bits ? bound.open - digit_bits : 0;
        const std::uint64_t width = std::uint64_t{1} << (bound.open - open), base = bound.prefix * width;
        for (int i = static_cast<int>(threadIdx.x); i < bins; i += threads) histogram[i] = 0;
        __syncthreads();
        for (std::int64_t w = threadIdx.x; w < row.W; w += threads) {
            each_bit(row, w, [&](int, std::uint64_t key) {
                const std::uint64_t bin = (key >> open) - base;  // huge for a key of another prefix
                if (bin < width) atomicAdd(&histogram[bin], 1u);
            });
        }
        __syncthreads();
        found = bin_of(histogram, found.rank);
        bound = {base + found.bin, open};
    } while (found.rank != found.members);  // keys differ: the last digit leaves one
    return bound;
}

// Blocks take rows until none is left.
__global__ void __launch_bounds__(threads) kernel(const CudaCall call) {
    for (std::int64_t p = blockIdx.x; p < call.P; p += gridDim.x) {
        const Row row{call.words + p * call.words_step, call.W, call.seeds[p]};
        const std::int64_t count = call.counts[p];
        const Bound bound = count > 0 ? bound_of(row, count) : Bound{0, 0};
        for (std::int64_t w = threadIdx.x; w < call.W; w += threads) {
            std::uint64_t kept = 0;
            if (count > 0) {
                each_bit(row, w, [&](int bit, std::uint64_t key) {
                    kept |= static_cast<std::uint64_t>(key >> bound.open <= bound.prefix) << bit;
                });
            }
            call.out[p * call.W + w] = kept;
        }
    }
}

}  // namespace
}  // namespace optprune::choose_bits

#endif
