// The index arithmetic of tensor cores, for test_fragments.py.
#include "emulated_tensor_cores.h"
#include "kernels/masked_linear/cuda_kept.h"
#include "kernels/masked_linear/cuda_wgmma_tile.h"

namespace common = optprune::cuda;
namespace op = optprune::masked_linear;

extern "C" {

int place(int chunks, int row, int c) { return chunks == 4 ? common::place<4>(row, c) : common::place<8>(row, c); }
int tall_row(int lane) { return common::tall_row(lane); }
int tall_chunk(int lane) { return common::tall_chunk(lane); }
int low_row(int lane) { return common::low_row(lane); }
int low_chunk(int lane) { return common::low_chunk(lane); }
int deep_row(int lane) { return common::deep_row(lane); }
int deep_chunk(int lane) { return common::deep_chunk(lane); }
std::uint32_t kept_pair(std::uint32_t bits, int lane, int j) { return op::Kept(bits, lane).pair(j); }
std::uint64_t descriptor(std::uint32_t rows, int k) { return op::wgmma::descriptor(rows, k); }
int result_place(int sample, int c) { return op::wgmma::result_place(sample, c); }
int result_sample(int lane) { return op::wgmma::result_sample(lane); }
int result_chunk(int lane) { return op::wgmma::result_chunk(lane); }

}
