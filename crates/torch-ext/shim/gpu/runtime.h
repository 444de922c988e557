// The runtime of GPUs, CUDA's or HIP's, which libtorch has loaded where there are some. It is not linked, so that this is in every
// build.
#pragma once

#include "launch.h"

#include <string>

namespace te_gpu {

// Whether it is HIP's: a libtorch for AMD's GPUs calls them CUDA devices.
bool has_hip();

// Calls of the runtime. All throw what it refused.
struct Runtime {
  virtual ~Runtime() = default;
  // As its compiler calls it: "sm_90", "gfx942:sramecc+:xnack-".
  virtual std::string architecture(at::Device device) const = 0;
  virtual int multiprocessors(at::Device device) const = 0;
  // Compiled kernels, for the current device.
  virtual void* load(const std::string& code) const = 0;
  virtual void* kernel(void* loaded, const char* name) const = 0;
  virtual void launch(void* kernel, Grid grid, void** arguments, void* stream) const = 0;
};

const Runtime& runtime();

}  // namespace te_gpu
