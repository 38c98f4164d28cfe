// The module optprune_fast._native: addresses and sizes in, nothing but kernels behind. Python has checked every
// argument (optprune_fast/ops/<op>/native_impl.py); while a kernel runs, other Python threads run too.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "bindings/isa.h"
#include "bindings/network.h"
#include "bindings/population.h"
#include "common/variants.h"
#include "kernels/choose_bits/choose_bits.h"
#include "kernels/look_up/look_up.h"
#include "kernels/masked_conv2d/masked_conv2d.h"
#include "kernels/masked_linear/masked_linear.h"
#include "kernels/moves/moves.h"
#include "kernels/network/network.h"
#include "kernels/population/population.h"
#include "kernels/sparse_conv2d/sparse_conv2d.h"
#include "kernels/sparse_linear/sparse_linear.h"
#include "kernels/topk_threshold/topk_threshold.h"

namespace py = pybind11;

namespace {

using optprune::Isa;
using Pair = std::array<std::int64_t, 2>;
using Sizes = std::array<std::int64_t, 4>;

std::vector<std::string> isas() {
    std::vector<std::string> names;
    for (int i = 0; i <= static_cast<int>(optprune::best_isa()); ++i) names.emplace_back(optprune::isa_names[i]);
    return names;
}

// {instruction set: calls served}, fastest first
template <class Kernel>
py::dict rows(const optprune::Table<Kernel> &table) {
    py::dict out;
    for (std::size_t i = 0; i < table.count; ++i) {
        out[optprune::isa_names[static_cast<int>(table.rows[i].isa)]] = table.rows[i].calls.load();
    }
    return out;
}

py::dict variants() {
    py::dict out;
    out["masked_linear"] = rows(optprune::masked_linear::variants);
    out["masked_conv2d"] = rows(optprune::masked_conv2d::variants);
    out["choose_bits"] = rows(optprune::choose_bits::variants);
    out["topk_threshold"] = rows(optprune::topk_threshold::variants);
    out["population"] = rows(optprune::population::variants);
    out["look_up"] = rows(optprune::look_up::variants);
    out["moves"] = rows(optprune::moves::variants);
    out["network"] = rows(optprune::network::variants);
    out["sparse_linear"] = rows(optprune::sparse_linear::variants);
    out["sparse_conv2d"] = rows(optprune::sparse_conv2d::variants);
    return out;
}

void masked_linear(const std::string &isa, std::int64_t threads, Address x, Address weight, Address words, Address out,
                   std::int64_t P, std::int64_t B, std::int64_t I, std::int64_t O, std::int64_t x_step,
                   std::int64_t words_step) {
    const optprune::masked_linear::Call call{
        at<const float>(x), at<const float>(weight), at<const std::uint64_t>(words), at<float>(out), P, B, I, O,
        x_step, words_step};
    const Isa wanted = isa_named(isa);
    const py::gil_scoped_release released;
    optprune::masked_linear::run(wanted, threads, call);
}

void masked_conv2d(const std::string &isa, std::int64_t threads, Address x, Address weight, Address words, Address out,
                   std::int64_t P, Sizes x_shape, Sizes weight_shape, Pair stride, Pair padding, Pair dilation,
                   std::int64_t groups, std::int64_t x_step, std::int64_t words_step) {
    const optprune::masked_conv2d::Shape shape{
        x_shape[1], x_shape[2], x_shape[3], weight_shape[0], weight_shape[1], weight_shape[2], weight_shape[3],
        stride[0], stride[1], padding[0], padding[1], dilation[0], dilation[1], groups};
    const optprune::masked_conv2d::Call call{
        at<const float>(x), at<const float>(weight), at<const std::uint64_t>(words), at<float>(out), P, x_shape[0],
        x_step, words_step, shape};
    const Isa wanted = isa_named(isa);
    const py::gil_scoped_release released;
    optprune::masked_conv2d::run(wanted, threads, call);
}

void choose_bits(const std::string &isa, std::int64_t threads, Address words, Address counts, Address seeds,
                 Address out, std::int64_t P, std::int64_t W, std::int64_t words_step) {
    const optprune::choose_bits::Call call{
        at<const std::uint64_t>(words), at<const std::int64_t>(counts), at<const std::uint64_t>(seeds),
        at<std::uint64_t>(out), P, W, words_step};
    const Isa wanted = isa_named(isa);
    const py::gil_scoped_release released;
    optprune::choose_bits::run(wanted, threads, call);
}

// table: [count, 6], a row for each tensor: address of weights, rows, columns, type, addresses of words and pool or 0.
// Returns the key of the last weight kept, the first tensor with NaN or -1, and how often all weights were read.
std::array<std::int64_t, 3> topk_threshold(const std::string &isa, std::int64_t threads, Address table,
                                           std::int64_t count, std::int64_t k, std::int64_t pool, std::int32_t hint,
                                           std::int64_t nan) {
    namespace op = optprune::topk_threshold;
    static_assert(sizeof(op::Tensor) == 6 * sizeof(std::int64_t), "a row of the table");
    const op::Call call{at<const op::Tensor>(table), count, k, pool, hint, static_cast<op::NaN>(nan)};
    const Isa wanted = isa_named(isa);
    const py::gil_scoped_release released;
    const op::Result found = op::run(wanted, threads, call);
    return {found.key, found.first_nan, found.reads};
}

optprune::sparse_linear::Planes planes_at(Address values, int type, Address columns, Address words, Address counts,
                                          Address rows, Address starts, std::int64_t O, std::int64_t I) {
    return {at<const void>(values), static_cast<optprune::sparse_linear::Type>(type), at<const std::uint8_t>(columns),
            at<const std::uint64_t>(words), at<const std::int16_t>(counts), at<const std::uint8_t>(rows),
            at<const std::int64_t>(starts), O, I};
}

void sparse_linear(const std::string &isa, std::int64_t threads, Address x, Address values, int type, Address columns,
                   Address words, Address counts, Address rows, Address starts, Address bias, Address out,
                   std::int64_t B, std::int64_t I, std::int64_t O) {
    const optprune::sparse_linear::Call call{
        at<const float>(x), planes_at(values, type, columns, words, counts, rows, starts, O, I), at<const float>(bias),
        at<float>(out), B};
    const Isa wanted = isa_named(isa);
    const py::gil_scoped_release released;
    optprune::sparse_linear::run(wanted, threads, call);
}

void sparse_conv2d(const std::string &isa, std::int64_t threads, Address x, Address values, int type, Address columns,
                   Address words, Address counts, Address rows, Address starts, Address bias, Address out,
                   Sizes x_shape, Sizes weight_shape, Pair stride, Pair padding, Pair dilation, std::int64_t groups) {
    const auto [O, C, kh, kw] = weight_shape;
    const optprune::sparse_conv2d::Call call{
        at<const float>(x), planes_at(values, type, columns, words, counts, rows, starts, O, C * kh * kw),
        at<const float>(bias), at<float>(out),
        {x_shape[0], x_shape[1], x_shape[2], x_shape[3], O, kh, kw, stride[0], stride[1], padding[0], padding[1],
         dilation[0], dilation[1], groups}};
    const Isa wanted = isa_named(isa);
    const py::gil_scoped_release released;
    optprune::sparse_conv2d::run(wanted, threads, call);
}

}  // namespace

PYBIND11_MODULE(_native, m) {
    m.attr("version") = OPTPRUNE_VERSION;
    m.def("isas", [names = py::tuple(py::cast(isas()))] { return names; });
    m.def("variable", [](const char *name) { return std::getenv(name); });
    m.def("variants", &variants);
    m.def("masked_linear", &masked_linear);
    m.def("masked_conv2d", &masked_conv2d);
    m.def("choose_bits", &choose_bits);
    m.def("topk_threshold", &topk_threshold);
    m.def("sparse_linear", &sparse_linear);
    m.def("sparse_linear_narrow_calls", [] { return optprune::sparse_linear::narrow_calls.load(); });
    m.def("sparse_conv2d", &sparse_conv2d);
    bind_population(m);
    bind_network(m);
}
