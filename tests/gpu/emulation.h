// Runs the body of a CUDA kernel on a CPU: a block at a time, its threads as fibers that switch at barriers.
//
// A warp runs until it waits for the block before the next one starts, and a thread until it waits for its warp, so a
// barrier that is missing shows as a wrong number. From one barrier of the block to the next the last warp and the first
// take turns to go first. Not shown: other orders, memory coalescing, anything about speed.
#ifndef OPTPRUNE_TESTS_EMULATION_H
#define OPTPRUNE_TESTS_EMULATION_H

#include <ucontext.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(...)
#define __shared__ static
#define __forceinline__ inline

struct Dim {
    unsigned x, y;
};
static Dim threadIdx, blockIdx, gridDim;

namespace emulation {

constexpr std::size_t stack_bytes = 64 * 1024;
static ucontext_t scheduler;
static std::vector<ucontext_t> fibers;
static std::unique_ptr<char[]> stacks;
static unsigned running;
static std::function<void()> body;

enum class State { at_block, at_warp, ended };  // what a thread waits for
static std::vector<State> states;

inline void fiber() {
    body();
    states[running] = State::ended;
}

inline void wait(State state) {
    states[running] = state;
    swapcontext(&fibers[running], &scheduler);
}

inline bool alike(unsigned first, unsigned last) {
    return std::all_of(states.begin() + first, states.begin() + last, [&](State s) { return s == states[first]; });
}

inline bool run_warp(unsigned first, unsigned last) {
    do {
        for (running = first; running < last; ++running) {
            threadIdx.x = running;
            swapcontext(&scheduler, &fibers[running]);
        }
    } while (alike(first, last) && states[first] == State::at_warp);
    return alike(first, last);
}

// False if some threads ended while others waited at a barrier, or waited for different ones, which would hang a GPU.
inline bool run_block(unsigned threads) {
    if (fibers.size() < threads) stacks.reset(new char[threads * stack_bytes]);
    fibers.assign(threads, ucontext_t{});
    states.assign(threads, State::at_block);
    for (unsigned t = 0; t < threads; ++t) {
        getcontext(&fibers[t]);
        fibers[t].uc_stack.ss_sp = &stacks[t * stack_bytes];
        fibers[t].uc_stack.ss_size = stack_bytes;
        fibers[t].uc_link = &scheduler;
        makecontext(&fibers[t], fiber, 0);
    }
    const unsigned warps = (threads + 31) / 32;
    for (unsigned phase = 0; alike(0, threads) && states[0] == State::at_block; ++phase) {
        for (unsigned turn = 0; turn < warps; ++turn) {
            const unsigned first = 32 * (phase % 2 ? warps - 1 - turn : turn);
            if (!run_warp(first, std::min(first + 32, threads))) return false;
        }
    }
    return alike(0, threads);
}

inline bool run(unsigned across, unsigned along, unsigned threads, std::function<void()> kernel) {
    body = std::move(kernel);
    gridDim = {across, along};
    for (unsigned block = 0; block < across * along; ++block) {
        blockIdx = {block % across, block / across};
        if (!run_block(threads)) return false;
    }
    return true;
}

}  // namespace emulation

// Fibers take turns at barriers alone, so that a plain sum is an atomic one.
template <class T>
T atomicAdd(T *at, T value) {
    const T before = *at;
    *at = before + value;
    return before;
}

inline void __syncthreads() { emulation::wait(emulation::State::at_block); }
inline void __syncwarp() { emulation::wait(emulation::State::at_warp); }

#endif
