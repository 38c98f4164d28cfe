// Instructions of compute capability 9.0a alone: products of a warpgroup, four warps whose first is a multiple of four.
// They run beside the threads, which begin them, close them in groups and wait for groups, as they do for copies. NVIDIA's
// PTX manual has them under "Asynchronous Warpgroup Level Matrix Instructions".
#ifndef OPTPRUNE_COMMON_CUDA_WARPGROUP_H
#define OPTPRUNE_COMMON_CUDA_WARPGROUP_H

#include <cstdint>

#include "common/cuda_tensor_cores.h"

namespace optprune::cuda {

// What is launched with shared memory of its own size finds it here, aligned to 16 bytes.
__device__ __forceinline__ char *shared_memory() {
    extern __shared__ uint4 memory[];
    return reinterpret_cast<char *>(memory);
}

// What this thread has written to shared memory is there for products, too, once the threads have met at a barrier.
__device__ __forceinline__ void show_to_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// The thread is done with writing to `a`, and to any sums: a product may read them.
__device__ __forceinline__ void fence_registers(std::uint32_t (&a)[4]) {
    asm volatile("wgmma.fence.sync.aligned;" : "+r"(a[0]), "+r"(a[1]), "+r"(a[2]), "+r"(a[3])::"memory");
}

// Close a group: what this warpgroup has begun to multiply since the last one.
__device__ __forceinline__ void close_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Until all groups but the last `but` are done. Registers that one of them has named are the thread's own from here on.
template <int but>
__device__ __forceinline__ void await_products(std::uint32_t (&a)[4]) {
    asm volatile("wgmma.wait_group.sync.aligned %4;" : "+r"(a[0]), "+r"(a[1]), "+r"(a[2]), "+r"(a[3]) : "n"(but) : "memory");
}

template <int but>
__device__ __forceinline__ void await_products(float (&sums)[64]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(but) : "memory");
    for (float &sum : sums) asm volatile("" : "+f"(sum)::"memory");  // not read before
}

#define OPTPRUNE_SUMS(i) "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3])
#define OPTPRUNE_16_SUMS(i) OPTPRUNE_SUMS(i), OPTPRUNE_SUMS(i + 4), OPTPRUNE_SUMS(i + 8), OPTPRUNE_SUMS(i + 12)
#define OPTPRUNE_WGMMA(type)                                                                                        \
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " "                                  \
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
                 "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, "  \
                 "%40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, "  \
                 "%59, %60, %61, %62, %63}, {%64, %65, %66, %67}, %68, 1, 1, 1, 0;"                                 \
                 : OPTPRUNE_16_SUMS(0), OPTPRUNE_16_SUMS(16), OPTPRUNE_16_SUMS(32), OPTPRUNE_16_SUMS(48)            \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

// Begin sums += a · b of 64 × 16 numbers, a quarter of the rows in each warp's registers, and 16 × 128 in shared memory,
// where the descriptor b says that they lie.
template <Half half>
__device__ __forceinline__ void multiply_async(const std::uint32_t (&a)[4], std::uint64_t b, float (&sums)[64]) {
    if constexpr (half == Half::float16) {
        OPTPRUNE_WGMMA("f16");
    } else {
        OPTPRUNE_WGMMA("bf16");
    }
}

#undef OPTPRUNE_WGMMA
#undef OPTPRUNE_16_SUMS
#undef OPTPRUNE_SUMS

// The way back of load_matrices, turned: column 2 (l % 4) of each matrix, and the next, of row l / 4, are in lane l's
// register, and lane l names where column l % 8 of matrix l / 8 goes, 16 bytes in shared memory.
__device__ __forceinline__ void store_turned(void *column, const std::uint32_t (&matrices)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(column)),
                 "r"(matrices[0]), "r"(matrices[1]), "r"(matrices[2]), "r"(matrices[3])
                 : "memory");
}

}  // namespace optprune::cuda

#endif
