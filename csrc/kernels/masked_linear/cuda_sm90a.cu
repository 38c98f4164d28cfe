#include "common/cuda_tensor_cores.h"
#include "common/cuda_warpgroup.h"
#include "kernels/masked_linear/cuda_enqueue.h"
#include "kernels/masked_linear/cuda_wgmma_launches.h"

namespace optprune::masked_linear {

void cuda_sm90a(int device, std::uintptr_t stream, const CudaCall &call) { run_wgmma(enqueue_on(device, stream), call); }

}  // namespace optprune::masked_linear
