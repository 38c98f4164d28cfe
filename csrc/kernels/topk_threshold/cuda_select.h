// The sample, and the select of a rank by histograms of one digit after the other: in the sample, a list, or all
// weights.
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_CUDA_SELECT_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_CUDA_SELECT_H

#include "common/cuda_scan.h"
#include "kernels/topk_threshold/cuda_keys.h"

namespace optprune::topk_threshold::device {
namespace {

enum Verdict : std::int64_t {
    in_list,  // rank `rest` of the list
    tied,     // `key`, which the bitmap is of
    known,    // `key`, of which there is no bitmap yet
    missed,   // rank `rest` of all weights
};

// The last tensor whose first tile, or weight, is at most `number`.
__device__ __forceinline__ std::int64_t owner_of(const CudaCall &call, Field which, std::int64_t number) {
    std::int64_t found = 0;
    for (std::int64_t step = call.plan[search_steps] - 1; step >= 0; --step) {
        const std::int64_t further = found + (std::int64_t{1} << step);
        if (further < call.plan[tensors] && field(call, which, further) <= number) found = further;
    }
    return found;
}

// 20 bits that look random; the multipliers are odd, any would do.
__device__ __forceinline__ std::int64_t scattered(std::uint32_t number) {
    std::uint32_t mixed = number * 0x9E3779B1u;
    mixed = (mixed ^ mixed >> 15) * 0x2C1B3C6Du;
    return (mixed ^ mixed >> 12) & 0xFFFFF;
}

__global__ void __launch_bounds__(threads) sample_keys(const CudaCall call) {
    const std::int64_t all = call.plan[weights];
    const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
    const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * threads;
    for (std::int64_t i = first; i < call.n; i += step) {
        call.owners[i] = static_cast<std::int32_t>(owner_of(call, first_tile, i));
    }
    for (std::int64_t i = first; i < call.samples; i += step) {
        //   stretch i of all / samples weights     i all / samples  ≤  (i + u) all / samples  <  (i + 1) all / samples
        const std::int64_t weight = (i * all + (scattered(static_cast<std::uint32_t>(i)) * all >> 20)) / call.samples;
        const std::int64_t tensor = owner_of(call, first_weight, weight);
        const std::int64_t inside = weight - field(call, first_weight, tensor), width = field(call, columns, tensor);
        const std::int64_t place = inside / width * field(call, row_step, tensor) + inside % width;
        call.sample[i] = key_at(field(call, address, tensor), field(call, kind, tensor), place, call.drop);
    }
}

// The digits are those of key + 1, of which none is negative.
__device__ __forceinline__ std::uint32_t digit_of(std::int32_t key, int step) {
    const std::uint32_t number = static_cast<std::uint32_t>(key + 1);
    return step == 0 ? number >> 21 : step == 1 ? number >> 10 & 2047 : number & 1023;
}

__device__ __forceinline__ bool has_prefix(std::int32_t key, std::int64_t prefix, int step) {
    if (key < dropped_nan) return false;
    const std::uint32_t upper = static_cast<std::uint32_t>(key + 1) >> (step == 1 ? 21 : 10);
    return step == 0 || static_cast<std::int64_t>(upper) == prefix;
}

struct Found {
    std::int64_t prefix, rest;  // upper bits of key + 1; rank among the keys that share them
};

constexpr int side = 16;
static_assert(side * side == threads);

// What `step` digits of a select say, from the last one's histogram, which is complete when a launch ends. (-1, 0)
// where there are fewer keys than its rank.
__device__ __forceinline__ Found next_digit(const Select &select, int step) {
    __shared__ Found found;
    constexpr int each = bins / threads;
    const unsigned long long *histogram = select.histogram[step - 1];
    const std::int64_t prefix = select.prefix[step - 1];
    const auto rest = static_cast<unsigned long long>(select.rest[step - 1]);
    int bin = bins - 1 - static_cast<int>(threadIdx.x) * each;  // threads take bins from the top
    unsigned long long own = 0;
    for (int i = 0; i < each; ++i) own += histogram[bin - i];
    if (threadIdx.x == 0) found = {-1, 0};
    unsigned long long before = optprune::cuda::sum_before<side>(own);
    if (before < rest && rest <= before + own) {
        while (before + histogram[bin] < rest) before += histogram[bin--];
        found = {prefix << (step == digits ? 10 : 11) | bin, static_cast<std::int64_t>(rest - before)};
    }
    __syncthreads();
    const Found out = found;
    __syncthreads();
    return out;
}

struct Histogram {
    unsigned bin[bins];
};

__device__ __forceinline__ void clear(Histogram &histogram) {
    for (int i = threadIdx.x; i < bins; i += threads) histogram.bin[i] = 0;
    __syncthreads();
}

__device__ __forceinline__ void add(const Histogram &histogram, Select &select, int step, const Found &found) {
    __syncthreads();
    for (int i = threadIdx.x; i < bins; i += threads) {
        if (histogram.bin[i]) atomicAdd(&select.histogram[step][i], histogram.bin[i]);
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        select.prefix[step] = found.prefix;
        select.rest[step] = found.rest;
    }
}

// One digit of the bounds of the brackets. Blocks [share, select].
__global__ void __launch_bounds__(threads) sample_digit(const CudaCall call, int step) {
    __shared__ Histogram histogram;
    Select &select = call.state->sampled[blockIdx.y];
    const Found found = step == 0 ? Found{0, call.plan[sample_ranks + blockIdx.y]} : next_digit(select, step);
    clear(histogram);
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x; i < call.samples;
         i += static_cast<std::int64_t>(gridDim.x) * threads) {
        const std::int32_t key = call.sample[i];
        if (has_prefix(key, found.prefix, step)) atomicAdd(&histogram.bin[digit_of(key, step)], 1u);
    }
    add(histogram, select, step, found);
}

// The brackets (lower, upper], by one block. upper + 1 and lower are keys of the sample, so that the list has what lies
// strictly between, and no dense tie can fill it. Where they are one key it is surely dense: then the bracket is it.
__global__ void __launch_bounds__(threads) bracket(const CudaCall call) {
    for (int j = 0; j < call.ranks; ++j) {
        const Found high = next_digit(call.state->sampled[2 * j], digits);
        const Found low = next_digit(call.state->sampled[2 * j + 1], digits);
        const std::int64_t rank = call.plan[sample_ranks + 2 * j];
        const bool none = call.plan[wanted + j] == 0;
        const std::int64_t above = none ? no_upper - 1 : rank >= 1 ? high.prefix - 1 : no_upper;
        // (no_upper - 1, no_upper - 1] is empty
        const std::int64_t below = none ? no_upper
                                   : call.plan[sample_ranks + 2 * j + 1] <= call.samples ? low.prefix - 1
                                                                                         : no_lower;
        const bool ties = none || above == below;
        if (threadIdx.x == 0) {
            Rank &own = call.state->ranks[j];
            own.lower = ties ? below - 1 : below;
            own.upper = ties ? above : above - 1;
            own.ties = ties;
        }
    }
}

struct Judgement {
    Verdict verdict;
    std::int64_t key, quota, rest;
};

__device__ __forceinline__ Judgement judge(const CudaCall &call, int j) {
    const Rank &own = call.state->ranks[j];
    const std::int64_t rank = call.plan[wanted + j];
    const auto count = [&](int i) { return static_cast<std::int64_t>(own.counts[i]); };
    const bool inside = count(1) < rank && rank <= count(2);
    if (rank == 0) return {call.direct ? known : tied, no_upper - 1, 0, 0};
    if (call.direct) return {missed, 0, 0, rank};
    if (own.ties) {
        if (inside) return {tied, own.upper, rank - count(1), 0};
    } else if (inside) {
        if (static_cast<std::int64_t>(own.listed) <= call.plan[capacity]) return {in_list, 0, 0, rank - count(1)};
    } else if (count(0) < rank && rank <= count(1)) {
        return {known, own.upper + 1, rank - count(0), 0};
    } else if (count(2) < rank && rank <= count(3)) {
        return {known, own.lower, rank - count(2), 0};
    }
    return {missed, 0, 0, rank};
}

__device__ __forceinline__ void count_list(const CudaCall &call, int j, const Found &found, int step,
                                           Histogram &histogram) {
    const Entry *list = reinterpret_cast<const Entry *>(call.arena + j * call.plan[capacity]);
    const std::int64_t length = static_cast<std::int64_t>(call.state->ranks[j].listed);
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x; i < length;
         i += static_cast<std::int64_t>(gridDim.x) * threads) {
        const std::int32_t key = list[i].key;
        if (has_prefix(key, found.prefix, step)) atomicAdd(&histogram.bin[digit_of(key, step)], 1u);
    }
}

// Neighbours are often equal where it hurts: equal digits in a row are added at once.
__device__ __forceinline__ void count_keys(const std::int32_t (&keys)[per_load], const Found &found, int step,
                                           Histogram &histogram) {
    std::uint32_t digit = 0;
    unsigned times = 0;
    for (int i = 0; i < per_load; ++i) {
        if (!has_prefix(keys[i], found.prefix, step)) continue;
        const std::uint32_t next = digit_of(keys[i], step);
        if (times && next != digit) {
            atomicAdd(&histogram.bin[digit], times);
            times = 0;
        }
        digit = next;
        ++times;
    }
    if (times) atomicAdd(&histogram.bin[digit], times);
}

__device__ __forceinline__ void count_weights(const CudaCall &call, const Found &found, int step,
                                              Histogram &histogram) {
    for (std::int64_t number = blockIdx.x; number < call.n; number += gridDim.x) {
        const Tile tile(call, number);
        each_load(tile, call.drop, [&](int, const std::int32_t(&keys)[per_load]) {
            count_keys(keys, found, step, histogram);
        });
    }
}

// One digit of the keys that are wanted, in the lists or, where a bracket missed, in all weights. Blocks [share, rank].
__global__ void __launch_bounds__(threads) exact_digit(const CudaCall call, int step) {
    __shared__ Histogram histogram;
    const int j = static_cast<int>(blockIdx.y);
    Rank &own = call.state->ranks[j];
    Select &select = call.state->exact[j];
    std::int64_t verdict = own.verdict;
    Found found{0, 0};
    if (step == 0) {
        const Judgement judgement = judge(call, j);
        verdict = judgement.verdict;
        found.rest = judgement.rest;
        if (blockIdx.x == 0 && threadIdx.x == 0) {
            own.verdict = verdict;
            own.key = judgement.key;
            own.quota = judgement.quota;
        }
    }
    if (verdict != in_list && verdict != missed) return;
    if (step > 0) found = next_digit(select, step);
    clear(histogram);
    if (verdict == in_list) {
        count_list(call, j, found, step, histogram);
    } else {
        count_weights(call, found, step, histogram);
    }
    add(histogram, select, step, found);
}

// The keys that are wanted, and how many of the weights equal to each are kept, by one block. Where the key is not that
// of the list or of the bitmap, the next pass makes a bitmap for it.
__global__ void __launch_bounds__(threads) settle_keys(const CudaCall call) {
    for (int j = 0; j < call.ranks; ++j) {
        Rank &own = call.state->ranks[j];
        const std::int64_t verdict = own.verdict;
        const bool selected = verdict == in_list || verdict == missed;
        const Found found = selected ? next_digit(call.state->exact[j], digits) : Found{own.key + 1, own.quota};
        if (threadIdx.x == 0) {
            own.key = found.prefix - 1;
            own.quota = found.rest;
            if (verdict != in_list) {
                own.lower = own.key - 1;
                own.upper = own.key;
                own.ties = 1;
            }
            if (j == 0) call.state->key = own.key;
        }
        __syncthreads();
    }
}

}  // namespace
}  // namespace optprune::topk_threshold::device

#endif
