// The module optprune_fast._cuda: device addresses, sizes and a stream in, nothing but kernels behind. It imports without
// a driver. Python has checked every argument (optprune_fast/ops/<op>/cuda_impl.py).
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>

#include "common/cuda_device.h"
#include "kernels/choose_bits/cuda.h"
#include "kernels/masked_linear/cuda.h"
#include "kernels/rows_linear/cuda.h"
#include "kernels/topk_threshold/cuda.h"

namespace py = pybind11;

namespace {

using Address = std::uintptr_t;

template <class T>
T *at(Address address) {
    return reinterpret_cast<T *>(address);
}

void choose_bits(int device, Address stream, Address words, Address counts, Address seeds, Address out, std::int64_t P,
                 std::int64_t W, std::int64_t words_step) {
    const optprune::choose_bits::CudaCall call{
        at<const std::uint64_t>(words), at<const std::int64_t>(counts), at<const std::uint64_t>(seeds),
        at<std::uint64_t>(out), P, W, words_step};
    const py::gil_scoped_release released;
    optprune::choose_bits::cuda(device, stream, call);
}

void masked_linear(int device, Address stream, int way, int kind, Address x, Address weight, Address words, Address out,
                   std::int64_t P, std::int64_t B, std::int64_t I, std::int64_t O, std::int64_t x_p, std::int64_t x_b,
                   std::int64_t weight_o, std::int64_t words_p, std::int64_t words_o) {
    namespace op = optprune::masked_linear;
    const op::CudaCall call{static_cast<op::Way>(way), static_cast<op::Kind>(kind), at<const void>(x),
                            at<const void>(weight), at<const std::uint64_t>(words), at<void>(out), P, B, I, O, x_p, x_b,
                            weight_o, words_p, words_o};
    const py::gil_scoped_release released;
    op::cuda(device, stream, call);
}

void rows_linear(int device, Address stream, int kind, Address x, Address values, Address places, Address counts,
                 Address starts, Address bias, Address out, std::int64_t B, std::int64_t I, std::int64_t O,
                 std::int64_t x_b, bool listed, bool wide_starts) {
    const optprune::rows_linear::CudaCall call{
        static_cast<optprune::rows_linear::Kind>(kind), at<const void>(x), at<const void>(values),
        at<const void>(places), at<const std::int16_t>(counts), at<const void>(starts), at<const void>(bias),
        at<void>(out), B, I, O, x_b, listed, wide_starts};
    const py::gil_scoped_release released;
    optprune::rows_linear::cuda(device, stream, call);
}

// What a call is given to work in: addresses of `n` tiles' owners and so on, as in CudaCall.
void topk_threshold(int device, Address stream, int blocks, Address plan, Address state, Address owners, Address sample,
                    Address arena, Address segments, Address ties, Address sums, std::int64_t n, std::int64_t samples,
                    int ranks, bool direct, bool drop) {
    namespace op = optprune::topk_threshold::device;
    const op::CudaCall call{at<const std::int64_t>(plan), at<op::State>(state), at<std::int32_t>(owners),
                            at<std::int32_t>(sample), at<std::uint64_t>(arena), at<std::int64_t>(segments),
                            at<std::int64_t>(ties), at<std::int64_t>(sums), n, samples, ranks, direct, drop};
    const py::gil_scoped_release released;
    op::cuda(device, stream, blocks, call);
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
    m.attr("version") = OPTPRUNE_VERSION;
    m.attr("operations") = py::make_tuple("choose_bits", "masked_linear", "rows_linear", "topk_threshold");
    m.def("device_count", &optprune::cuda::device_count);
    m.def("device_error", &optprune::cuda::device_error);
    m.def("runtime_version", &optprune::cuda::runtime_version);
    m.def("driver_version", &optprune::cuda::driver_version);
    m.def("architectures", &optprune::cuda::architectures);
    m.def("choose_bits", &choose_bits);
    m.def("masked_linear", &masked_linear);
    m.def("rows_linear", &rows_linear);
    m.attr("has_sm90a") = static_cast<bool>(OPTPRUNE_SM90A);
    m.def("topk_threshold", &topk_threshold);
    m.attr("topk_threshold_state") = sizeof(optprune::topk_threshold::device::State) / sizeof(std::int64_t);
}
