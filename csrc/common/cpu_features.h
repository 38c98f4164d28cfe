// Instruction sets that kernels are written for, and which of them this build has and this machine can run.
// The build defines OPTPRUNE_X86: 1 where the kernels for x86 are compiled, else 0.
#ifndef OPTPRUNE_COMMON_CPU_FEATURES_H
#define OPTPRUNE_COMMON_CPU_FEATURES_H

#include <cstddef>

namespace optprune {

// Ascending: a machine that can run one can run all before it.
enum class Isa { scalar, avx2, avx512 };

constexpr const char *isa_names[] = {"scalar", "avx2", "avx512"};
constexpr std::size_t isa_count = sizeof(isa_names) / sizeof(isa_names[0]);

// The widest instruction set that is compiled, that the processor has and the operating system saves the registers of.
Isa best_isa();

}  // namespace optprune

#endif
