// How the kernels of kernels/ are run: on a GPU, compiled when the first one of its kind is wanted; on a tensor in host memory
// all the same, block after block, by what a host compiler made of them. That is slow, and for tests.
#pragma once

#include "kernels/all.h"

#include <ATen/ATen.h>

namespace te_gpu {

#define TE_NUMBER(name, Args, threads) KERNEL_##name,
enum Kernel { TE_KERNELS(TE_NUMBER) KERNELS };
#undef TE_NUMBER

// For each type of a kernel's arguments, its number.
template <class Args>
constexpr Kernel kernel_of();
#define TE_NUMBER_OF(name, Args, threads) \
  template <>                             \
  constexpr Kernel kernel_of<Args>() {    \
    return KERNEL_##name;                 \
  }
TE_KERNELS(TE_NUMBER_OF)
#undef TE_NUMBER_OF

// What a module of kernels is compiled for: the type of elements in memory, and how many of them travel in one.
struct Variant {
  at::ScalarType element;
  int lanes;
};

struct Grid {
  unsigned x, y;              // blocks
  unsigned wide, high;        // threads of each
};

// Whether there are kernels for such elements.
bool has_kernels(at::ScalarType element);

// How many neighbours of `channels` can travel in one, of each of these tensors; undefined ones do not count.
int lanes_of(int64_t channels, std::initializer_list<at::Tensor> tensors);

// Blocks that keep all of a device busy, so many on each of its multiprocessors.
unsigned blocks_wanted(at::Device device, unsigned each);

void launch(Kernel kernel, at::Device device, Variant variant, Grid grid, const void* args);

template <class Args>
void launch(at::Device device, Variant variant, Grid grid, const Args& args) {
  if (grid.x > 0 && grid.y > 0) launch(kernel_of<Args>(), device, variant, grid, static_cast<const void*>(&args));
}

// Of host.cpp: one block after the other.
void run_on_host(Kernel kernel, Variant variant, Grid grid, const void* args);

// Of device.cpp: compiled for the device when the first one of its kind is wanted.
void run_on_gpu(Kernel kernel, at::Device device, Variant variant, Grid grid, const void* args);
unsigned multiprocessors(at::Device device);

}  // namespace te_gpu
