// The index arithmetic of masked_linear's tensor cores, for test_fragments.py.
#include "kernels/masked_linear/cuda_fragments.h"

namespace op = optprune::masked_linear::mma;

extern "C" {

int place(int row, int c) { return op::place(row, c); }
int x_row(int lane) { return op::x_row(lane); }
int x_chunk(int lane) { return op::x_chunk(lane); }
int weight_row(int lane) { return op::weight_row(lane); }
int weight_chunk(int lane) { return op::weight_chunk(lane); }
int first_bit(int lane) { return op::first_bit(lane); }
std::uint32_t kept(std::uint32_t bits) { return op::kept(bits); }

}
