// Instructions of compute capability 8.0 and newer: copies into shared memory that nobody waits for yet, fragments out
// of it, and the tensor cores' product of 16-bit numbers. Where fragments lie is in NVIDIA's PTX manual, "mma.m16n8k16".
#ifndef OPTPRUNE_COMMON_CUDA_TENSOR_CORES_H
#define OPTPRUNE_COMMON_CUDA_TENSOR_CORES_H

#include <cstdint>

namespace optprune::cuda {

enum class Half { bfloat16, float16 };

__device__ __forceinline__ std::uint32_t shared_address(const void *at) {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(at));
}

// Begin to copy `bytes` bytes from global to shared memory: the first `there` of them; the rest become zeros, and are
// not read. Both addresses are multiples of `bytes`, 4, 8 or 16.
template <int bytes>
__device__ __forceinline__ void copy_async(void *to, const void *from, int there) {
    static_assert(bytes == 4 || bytes == 8 || bytes == 16);
    if constexpr (bytes == 16) {  // .cg: by way of the second-level cache alone
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(there)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)), "l"(from), "n"(bytes),
                     "r"(there)
                     : "memory");
    }
}

// Close a group: what this thread has begun to copy since the last one.
__device__ __forceinline__ void close_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until all groups of this thread but the last `but` are copied.
template <int but>
__device__ __forceinline__ void await_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(but) : "memory");
}

// Four matrices of 8 × 8 numbers of 16 bits: lane l names row l % 8 of matrix l / 8, 16 bytes in shared memory, and gets
// of each matrix numbers 2 (l % 4) and the next in row l / 4.
__device__ __forceinline__ void load_matrices(const void *row, std::uint32_t (&out)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// sums += a · b of 16 × 16 and 16 × 8 numbers.
template <Half half>
__device__ __forceinline__ void multiply(const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], float (&sums)[4]) {
    if constexpr (half == Half::float16) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                     "{%0, %1, %2, %3};"
                     : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    } else {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                     "{%0, %1, %2, %3};"
                     : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
}

// A number of 16 bits as it is.
template <Half half>
__device__ __forceinline__ float widened(std::uint16_t number) {
    float out;
    if constexpr (half == Half::float16) {
        asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(number));
    } else {
        out = __uint_as_float(static_cast<std::uint32_t>(number) << 16);
    }
    return out;
}

// Four bytes of the eight of `low` and, after them, `high`: digit i of the hexadecimal `places` names byte i, and 8 more
// means that all eight bits become its highest one.
__device__ __forceinline__ std::uint32_t choose_bytes(std::uint32_t low, std::uint32_t high, std::uint32_t places) {
    std::uint32_t bytes;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(low), "r"(high), "r"(places));
    return bytes;
}

// Two numbers, each rounded once; the first in the lower half.
template <Half half>
__device__ __forceinline__ std::uint32_t rounded(float first, float second) {
    std::uint32_t pair;
    if constexpr (half == Half::float16) {
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    } else {
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    }
    return pair;
}

}  // namespace optprune::cuda

#endif
