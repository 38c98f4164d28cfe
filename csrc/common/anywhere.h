// OPTPRUNE_ANYWHERE: a function for the CPU and, where nvcc compiles it, for CUDA devices as well.
#ifndef OPTPRUNE_COMMON_ANYWHERE_H
#define OPTPRUNE_COMMON_ANYWHERE_H

#ifdef __CUDACC__
#define OPTPRUNE_ANYWHERE __host__ __device__
#else
#define OPTPRUNE_ANYWHERE
#endif

#endif
