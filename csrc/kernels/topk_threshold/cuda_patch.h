// Which of the weights in the bracket are kept: those above the key, and of those equal to it the first.
#ifndef OPTPRUNE_KERNELS_TOPK_THRESHOLD_CUDA_PATCH_H
#define OPTPRUNE_KERNELS_TOPK_THRESHOLD_CUDA_PATCH_H

#include "kernels/topk_threshold/cuda_select.h"

namespace optprune::topk_threshold::device {
namespace {

constexpr int shares = threads / batch;  // threads that share the entries of a tile

__device__ __forceinline__ const Entry *entries_of(const CudaCall &call, int j, std::int64_t number) {
    const auto *list = reinterpret_cast<const Entry *>(call.arena + j * call.plan[capacity]);
    return list + call.segments[2 * call.n * j + number];
}

__device__ __forceinline__ std::int64_t count_of(const CudaCall &call, int j, std::int64_t number) {
    return call.segments[2 * call.n * j + call.n + number];
}

// Ties of each tile and of each batch of tiles. A block takes a batch.
__global__ void __launch_bounds__(threads) count_ties(const CudaCall call) {
    __shared__ unsigned ties[batch];
    const int slot = static_cast<int>(threadIdx.x) / shares, share = static_cast<int>(threadIdx.x) % shares;
    const std::int64_t number = static_cast<std::int64_t>(blockIdx.x) * batch + slot;
    for (int j = 0; j < call.ranks; ++j) {
        const Rank &own = call.state->ranks[j];
        if (threadIdx.x < batch) ties[threadIdx.x] = 0;
        __syncthreads();
        if (number < call.n) {
            const std::int64_t count = count_of(call, j, number);
            unsigned tied = 0;
            if (own.verdict == in_list) {
                const Entry *entries = entries_of(call, j, number);
                for (std::int64_t i = share; i < count; i += shares) tied += entries[i].key == own.key;
            } else if (share == 0) {
                tied = static_cast<unsigned>(count);
            }
            if (tied) atomicAdd(&ties[slot], tied);
        }
        __syncthreads();
        if (number < call.n && share == 0) call.ties[call.n * j + number] = ties[slot];
        if (threadIdx.x == 0) {
            std::int64_t sum = 0;
            for (int i = 0; i < batch; ++i) sum += ties[i];
            call.sums[static_cast<std::int64_t>(gridDim.x) * j + blockIdx.x] = sum;
        }
        __syncthreads();
    }
}

// What a patch writes to: words of one tile, which nobody else writes.
struct Words {
    unsigned long long *mask, *pool;  // pool is null without one
    std::int64_t words;

    __device__ __forceinline__ Words(const CudaCall &call, std::int64_t number) {
        const std::int64_t tensor = call.owners[number];
        const std::int64_t local = (number - field(call, first_tile, tensor)) * tile_words;
        words = field(call, tensor_words, tensor) - local;
        if (words > tile_words) words = tile_words;
        mask = global_memory<unsigned long long>(field(call, words_address, tensor)) + local;
        pool = call.ranks == 2 ? global_memory<unsigned long long>(field(call, pool_address, tensor)) + local : nullptr;
    }

    // To the mask, and then they leave the pool; or, once the mask is finished, to the pool.
    __device__ __forceinline__ void set(int j, int word, unsigned long long bits) const {
        if (j == 1) {
            atomicOr(&pool[word], bits & ~mask[word]);
            return;
        }
        atomicOr(&mask[word], bits);
        if (pool) atomicAnd(&pool[word], ~bits);
    }
};

struct Batch {
    std::int64_t room[batch], ties[batch];  // ties of each tile that are kept, and that there are
    unsigned long long before;              // ties of earlier batches
    int part;                               // the tile that keeps some and drops some, or -1
};

//   ties of earlier tiles │ of this tile         the first `quota` of all are kept
__device__ __forceinline__ void make_room(const CudaCall &call, int j, Batch &own) {
    if (threadIdx.x == 0) own.before = 0;
    __syncthreads();
    unsigned long long sum = 0;
    const std::int64_t *sums = call.sums + static_cast<std::int64_t>(gridDim.x) * j;
    for (unsigned i = threadIdx.x; i < blockIdx.x; i += threads) sum += static_cast<unsigned long long>(sums[i]);
    if (sum) atomicAdd(&own.before, sum);
    if (threadIdx.x < batch) {
        const std::int64_t number = static_cast<std::int64_t>(blockIdx.x) * batch + threadIdx.x;
        own.ties[threadIdx.x] = number < call.n ? call.ties[call.n * j + number] : 0;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        std::int64_t left = call.state->ranks[j].quota - static_cast<std::int64_t>(own.before);
        own.part = -1;
        for (int i = 0; i < batch; ++i) {
            own.room[i] = left < 0 ? 0 : left < own.ties[i] ? left : own.ties[i];
            left -= own.ties[i];
            if (own.room[i] > 0 && own.room[i] < own.ties[i]) own.part = i;
        }
    }
    __syncthreads();
}

// Of the ties of a tile, which are in the bitmap, the first `room`.
__device__ __forceinline__ void set_first(const Words &words, int j, const unsigned long long (&bitmap)[tile_words],
                                          std::int64_t room) {
    const int word = static_cast<int>(threadIdx.x);
    if (word >= words.words) return;
    std::int64_t before = 0;
    for (int i = 0; i < word; ++i) before += __popcll(bitmap[i]);
    unsigned long long kept = 0;
    for (unsigned long long bits = bitmap[word]; bits && before < room; bits &= bits - 1, ++before) {
        kept |= bits & (~bits + 1);
    }
    if (kept) words.set(j, word, kept);
}

// Finish the mask (j 0) or, after that, the pool (j 1). A block takes a batch of tiles. Two blocks on a multiprocessor
// are asked for because the compiler aims at more without being asked, and spills.
__global__ void __launch_bounds__(threads, 2) patch(const CudaCall call, int j) {
    __shared__ Batch own;
    __shared__ unsigned long long bitmap[tile_words];
    const Rank &rank = call.state->ranks[j];
    const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * batch;
    const std::int64_t key = rank.key;
    const bool listed = rank.verdict == in_list;
    make_room(call, j, own);
    if (threadIdx.x < tile_words) bitmap[threadIdx.x] = 0;
    __syncthreads();
    if (listed) {
        const int slot = static_cast<int>(threadIdx.x) / shares, share = static_cast<int>(threadIdx.x) % shares;
        if (first + slot < call.n) {
            const Words words(call, first + slot);
            const Entry *entries = entries_of(call, j, first + slot);
            const std::int64_t count = count_of(call, j, first + slot);
            const bool whole = own.room[slot] == own.ties[slot];
            for (std::int64_t i = share; i < count; i += shares) {
                const Entry entry = entries[i];
                const unsigned long long bit = 1ull << (entry.place % 64);
                if (entry.key > key || (entry.key == key && whole)) words.set(j, entry.place / 64, bit);
                if (entry.key == key && slot == own.part) atomicOr(&bitmap[entry.place / 64], bit);
            }
        }
    } else {
        for (int i = static_cast<int>(threadIdx.x); i < batch * tile_words; i += threads) {
            const int slot = i / tile_words, word = i % tile_words;
            if (own.room[slot] == 0 || first + slot >= call.n) continue;
            const std::int64_t tensor = call.owners[first + slot];
            const std::int64_t local = (first + slot - field(call, first_tile, tensor)) * tile_words;
            if (local + word >= field(call, tensor_words, tensor)) continue;
            const std::int64_t at = field(call, first_word, tensor) + local + word;
            const std::uint64_t bits = call.arena[j * call.plan[capacity] + at];
            if (slot == own.part) {
                bitmap[word] = bits;
            } else if (bits) {
                Words(call, first + slot).set(j, word, bits);
            }
        }
    }
    __syncthreads();
    if (own.part >= 0) set_first(Words(call, first + own.part), j, bitmap, own.room[own.part]);
}

}  // namespace
}  // namespace optprune::topk_threshold::device

#endif
