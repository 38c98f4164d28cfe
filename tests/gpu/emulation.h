// Runs the body of a CUDA kernel on a CPU: a block at a time, its threads as fibers that switch at __syncthreads().
//
// A fiber runs until the barrier before the next one starts, so a barrier that is missing shows as a wrong number.
// Not shown: races within one phase, memory coalescing, anything about speed.
#ifndef OPTPRUNE_TESTS_EMULATION_H
#define OPTPRUNE_TESTS_EMULATION_H

#include <ucontext.h>

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
static unsigned running, finished;
static std::function<void()> body;

inline void fiber() {
    body();
    ++finished;
}

// False if some threads ended while others waited at a barrier, which would hang a GPU.
inline bool run_block(unsigned threads) {
    if (fibers.size() < threads) stacks.reset(new char[threads * stack_bytes]);
    fibers.assign(threads, ucontext_t{});
    finished = 0;
    for (unsigned t = 0; t < threads; ++t) {
        getcontext(&fibers[t]);
        fibers[t].uc_stack.ss_sp = &stacks[t * stack_bytes];
        fibers[t].uc_stack.ss_size = stack_bytes;
        fibers[t].uc_link = &scheduler;
        makecontext(&fibers[t], fiber, 0);
    }
    while (finished == 0) {
        for (running = 0; running < threads; ++running) {
            threadIdx.x = running;
            swapcontext(&scheduler, &fibers[running]);
        }
    }
    return finished == threads;
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

inline void __syncthreads() { swapcontext(&emulation::fibers[emulation::running], &emulation::scheduler); }

#endif
