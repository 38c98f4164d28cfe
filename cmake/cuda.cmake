# The module _cuda, where csrc/bindings/cuda.cpp, kernels and a CUDA compiler that works are there.
