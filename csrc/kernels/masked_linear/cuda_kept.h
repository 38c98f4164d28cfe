// A mask as what is ANDed with pairs of neighbouring 16-bit weights, in the registers of a tensor core's product.
#ifndef OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_KEPT_H
#define OPTPRUNE_KERNELS_MASKED_LINEAR_CUDA_KEPT_H

#include <cstdint>

namespace optprune::masked_linear {
namespace {

// A lane's bits of 32 columns of a row. Its pairs are columns 8 j + 2 (lane % 4) and the next, j from 0 to 3: bits that
// lie 8 apart, here moved to the top of the four bytes. One instruction spreads the tops of two bytes over a pair.
struct Kept {
    std::uint32_t first, second;

    __device__ Kept(std::uint32_t bits, int lane)
        : first(bits << (7 - lane % 4 * 2)), second(bits << (6 - lane % 4 * 2)) {}

    // All ones for each of the two that is kept.
    __device__ std::uint32_t pair(int j) const {
        return optprune::cuda::choose_bytes(first, second, 0xCC88u + 0x1111u * static_cast<unsigned>(j));
    }
};

}  // namespace
}  // namespace optprune::masked_linear

#endif
