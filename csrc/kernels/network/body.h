// A step of a program, for the plain code that lists weights in between. An instruction set's file includes its Vec first.
#ifndef OPTPRUNE_KERNELS_NETWORK_BODY_H
#define OPTPRUNE_KERNELS_NETWORK_BODY_H

#include "kernels/network/network.h"
#include "kernels/population/body.h"

namespace optprune::network {
namespace {

void run_step(const population::Call &call, const population::Scratch &scratch, const float *narrow_input,
              std::int64_t tile, std::int64_t column, std::int64_t index) {
    const population::Program &program = call.program;
    const population::Tile own{call, scratch, narrow_input, population::wide_input(call, tile), 0,
                               tile * program.width * Vec::lanes, column};
    population::run_step(own, program.steps[index]);
}

constexpr Kernel kernel{Vec::lanes, run_step};

}  // namespace
}  // namespace optprune::network

#endif
