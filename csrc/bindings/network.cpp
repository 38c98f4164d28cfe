// A whole network with compressed weights: programs share the weights, each has what it works in.
#include "bindings/network.h"

#include <pybind11/stl.h>

#include "bindings/plan.h"
#include "kernels/network/network.h"

namespace py = pybind11;

namespace {

using optprune::bindings::Plan;
namespace network = optprune::network;

class Network {
  public:
    explicit Network(const Plan &plan) : plan_(plan) {}

    void add_dense(Address weight, Address live, std::int64_t live_count, std::int64_t nnz) {
        weights_.push_back({{}, at<const float>(weight), nullptr, at<const std::int32_t>(live), live_count, nnz});
    }

    void add_sparse(Address values, int type, Address columns, Address words, Address counts, Address rows,
                    Address starts, std::int64_t O, std::int64_t I, Address kept, Address live,
                    std::int64_t live_count, std::int64_t nnz) {
        weights_.push_back({{at<const void>(values), static_cast<optprune::sparse_linear::Type>(type),
                             at<const std::uint8_t>(columns), at<const std::uint64_t>(words),
                             at<const std::int16_t>(counts), at<const std::uint8_t>(rows),
                             at<const std::int64_t>(starts), O, I},
                            nullptr, at<const std::int32_t>(kept), at<const std::int32_t>(live), live_count, nnz});
    }

    // The program's input is this picture, [B, C, H, W] as it is.
    void take_picture(std::int64_t C, std::int64_t H, std::int64_t W, std::int64_t pad_y, std::int64_t pad_x,
                      std::int64_t bands, std::int64_t h) {
        picture_ = {C, H, W, pad_y, pad_x, bands, h};
        takes_picture_ = true;
    }

    void run(const std::string &isa, std::int64_t threads, Address narrow_input, Address wide_input, Address outputs,
             std::int64_t B) {
        const optprune::population::Program program = plan_.program();
        const network::Call call{program, weights_.data(), takes_picture_ ? &picture_ : nullptr,
                                 at<const float>(narrow_input), at<const float>(wide_input), at<float>(outputs), B};
        const optprune::Isa wanted = isa_named(isa);
        const py::gil_scoped_release released;
        memories_.run(wanted, threads, call);
    }

  private:
    const Plan &plan_;  // Python keeps it alive
    std::vector<network::Weight> weights_;
    network::Picture picture_{};
    bool takes_picture_ = false;
    network::Memories memories_;
};

}  // namespace

void bind_network(py::module_ &m) {
    py::class_<Network>(m, "Network")
        .def(py::init<const Plan &>(), py::keep_alive<1, 2>())
        .def("add_dense", &Network::add_dense)
        .def("add_sparse", &Network::add_sparse)
        .def("take_picture", &Network::take_picture)
        .def("run", &Network::run);
}
