// Every kernel: its name, the type of its arguments, and how many threads a block has at most.
#pragma once

#include "batch_norm.h"
#include "images.h"
#include "layer_norm.h"
#include "max_pool.h"

#define TE_KERNELS(kernel)                               \
  kernel(statistics, Statistics, BLOCK)                  \
  kernel(merge_statistics, MergeStatistics, LARGE_BLOCK) \
  kernel(normalize, Normalize, BLOCK)                    \
  kernel(sum_gradient, SumGradient, BLOCK)               \
  kernel(merge_gradient, MergeGradient, LARGE_BLOCK)     \
  kernel(input_gradient, InputGradient, BLOCK)           \
  kernel(sum_and_norm, SumAndNorm, BLOCK)                \
  kernel(row_gradient, RowGradient, BLOCK)               \
  kernel(column_sums, ColumnSums, BLOCK)                 \
  kernel(merge_sums, MergeSums, BLOCK)                   \
  kernel(max_pool, MaxPool, BLOCK)                       \
  kernel(max_pool_gradient, MaxPoolGradient, BLOCK)      \
  kernel(images, Images, BLOCK)

#ifdef TE_ON_GPU

// TE_ELEMENT and TE_LANES come with the options.
#define TE_ENTRY(name, Args, threads)                                                                      \
  extern "C" __global__ void __launch_bounds__(te_gpu::threads) te_##name(const te_gpu::Args args) {       \
    te_gpu::name<TE_ELEMENT, TE_LANES>(args, {});                                                          \
  }
TE_KERNELS(TE_ENTRY)

#endif
