#include "common/cuda_tensor_cores.h"
#include "kernels/masked_linear/cuda_enqueue.h"
#include "kernels/masked_linear/cuda_launches.h"

namespace optprune::masked_linear {

void cuda(int device, std::uintptr_t stream, const CudaCall &call) {
#if OPTPRUNE_SM90A
    if (call.way == Way::wgmma) return cuda_sm90a(device, stream, call);
#else
    if (call.way == Way::wgmma) throw std::runtime_error("masked_linear: this module has no code for 9.0a");
#endif
    run(enqueue_on(device, stream), call);
}

}  // namespace optprune::masked_linear
