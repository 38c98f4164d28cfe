// Runs the body of a CUDA kernel on a CPU: a block at a time, its threads as fibers that switch at __syncthreads().
//
// A fiber runs until the barrier before the next one starts, so a barrier that is missing shows as a wrong number.
// Not shown: races within one phase, memory coalescing, anything about speed.
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(threads)
#define __shared__ static

struct Dim {
    unsigned x;
};
static Dim threadIdx, blockIdx, gridDim;

namespace {

constexpr std::size_t stack_bytes = 64 * 1024;
ucontext_t scheduler;
std::vector<ucontext_t> fibers;
unsigned running;

void __syncthreads() { swapcontext(&fibers[running], &scheduler); }

}  // namespace

#include "kernels/masked_linear/cuda_body.h"

namespace {

const optprune::masked_linear::CudaCall *the_call;
std::int64_t the_tiles_b, the_tiles_o;
unsigned finished;

void fiber() {
    optprune::masked_linear::kernel(*the_call, the_tiles_b, the_tiles_o);
    ++finished;
}

// False if some threads ended while others waited at a barrier, which would hang a GPU.
bool run_block(unsigned block, unsigned threads) {
    std::vector<char> stacks(threads * stack_bytes);
    fibers.assign(threads, ucontext_t{});
    blockIdx.x = block;
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

}  // namespace

// As _cuda.masked_linear has it, without a device and a stream. `blocks` blocks share the tiles, as in a launch: fewer
// blocks than tiles means that each takes several.
extern "C" bool emulate_masked_linear(unsigned blocks, const float *x, const float *weight, const std::uint64_t *words,
                                      float *out, std::int64_t P, std::int64_t B, std::int64_t I, std::int64_t O,
                                      std::int64_t x_p, std::int64_t x_b, std::int64_t weight_o, std::int64_t words_p,
                                      std::int64_t words_o) {
    using namespace optprune::masked_linear;
    const CudaCall call{x, weight, words, out, P, B, I, O, x_p, x_b, weight_o, words_p, words_o};
    the_call = &call;
    the_tiles_b = (call.B + tile - 1) / tile;
    the_tiles_o = (call.O + tile - 1) / tile;
    gridDim.x = blocks;
    for (unsigned block = 0; block < blocks; ++block) {
        if (!run_block(block, threads)) return false;
    }
    return true;
}
