// The index arithmetic of tensor cores, for test_fragments.py.
#include "kernels/masked_linear/cuda_fragments.h"

namespace common = optprune::cuda;
namespace op = optprune::masked_linear::mma;

extern "C" {

int place(int chunks, int row, int c) { return chunks == 4 ? common::place<4>(row, c) : common::place<8>(row, c); }
int tall_row(int lane) { return common::tall_row(lane); }
int tall_chunk(int lane) { return common::tall_chunk(lane); }
int low_row(int lane) { return common::low_row(lane); }
int low_chunk(int lane) { return common::low_chunk(lane); }
int deep_row(int lane) { return common::deep_row(lane); }
int deep_chunk(int lane) { return common::deep_chunk(lane); }
int first_bit(int lane) { return op::first_bit(lane); }
std::uint32_t kept(std::uint32_t bits) { return op::kept(bits); }

}
