# kernel_sources: what csrc/kernels holds for this machine, each file with the flags of its name.
#
# scalar.cpp avx2.cpp avx512.cpp   one instruction set each
# variants.cpp <op>.cpp            the table, and the plain code around the kernels
set(OPTPRUNE_FLAGS_scalar "")
set(OPTPRUNE_FLAGS_avx2 -mavx2 -mfma -mf16c -mbmi -mbmi2 -mpopcnt)
set(OPTPRUNE_FLAGS_avx512 ${OPTPRUNE_FLAGS_avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC bug 105593: the compiler's own AVX-512 header draws these warnings.
  list(APPEND OPTPRUNE_FLAGS_avx512 -Wno-uninitialized -Wno-maybe-uninitialized)
endif()

# For whoever works on the package: build on an x86 machine what other processors get.
option(OPTPRUNE_SCALAR_ONLY "leave out the instruction sets of x86" OFF)
set(optprune_isas scalar)
set(OPTPRUNE_X86 0)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND NOT OPTPRUNE_SCALAR_ONLY)
  list(APPEND optprune_isas avx2 avx512)
  set(OPTPRUNE_X86 1)
endif()

set(kernel_sources "")
file(GLOB kernel_files CONFIGURE_DEPENDS csrc/kernels/*/*.cpp)
foreach(source IN LISTS kernel_files)
  cmake_path(GET source STEM stem)
  cmake_path(GET source PARENT_PATH folder)
  cmake_path(GET folder FILENAME op)
  if(stem STREQUAL "variants" OR stem STREQUAL op)
    list(APPEND kernel_sources ${source})
  elseif(NOT DEFINED OPTPRUNE_FLAGS_${stem})
    message(FATAL_ERROR "${source}: no such instruction set. Known names: scalar, avx2, avx512, variants, ${op}")
  elseif(stem IN_LIST optprune_isas)
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${OPTPRUNE_FLAGS_${stem}}")
    list(APPEND kernel_sources ${source})
  endif()
endforeach()
