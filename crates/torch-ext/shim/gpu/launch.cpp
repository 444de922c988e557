#include "launch.h"

#include <algorithm>
#include <cstdint>

namespace te_gpu {

bool has_kernels(at::ScalarType element) {
  return element == at::kFloat || element == at::kBFloat16 || element == at::kHalf;
}

int lanes_of(int64_t channels, std::initializer_list<at::Tensor> tensors) {
  int64_t smallest = 16;
  for (const auto& tensor : tensors) smallest = tensor.defined() ? std::min(smallest, int64_t(tensor.element_size())) : smallest;
  for (int64_t lanes = 16 / smallest; lanes > 1; lanes /= 2) {
    bool fits = channels % lanes == 0;
    for (const auto& tensor : tensors) {
      if (!tensor.defined()) continue;
      fits &= reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % (lanes * tensor.element_size()) == 0;
    }
    if (fits) return int(lanes);
  }
  return 1;
}

unsigned blocks_wanted(at::Device device, unsigned each) {
  // In host memory there are several so that tests see what becomes of several.
  return device.is_cuda() ? each * multiprocessors(device) : 6;
}

void launch(Kernel kernel, at::Device device, Variant variant, Grid grid, const void* args) {
  if (device.is_cuda()) return run_on_gpu(kernel, device, variant, grid, args);
  run_on_host(kernel, variant, grid, args);
}

}  // namespace te_gpu
