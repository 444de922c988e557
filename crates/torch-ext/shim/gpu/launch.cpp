#include "launch.h"

#include <cstdint>

namespace te_gpu {

bool has_kernels(at::ScalarType element) {
  return element == at::kFloat || element == at::kBFloat16 || element == at::kHalf;
}

int lanes_of(at::ScalarType element, int64_t channels, std::initializer_list<const void*> from) {
  const int64_t size = int64_t(c10::elementSize(element));
  for (int64_t lanes = 16 / size; lanes > 1; lanes /= 2) {
    bool fits = channels % lanes == 0;
    for (const void* address : from) fits &= reinterpret_cast<uintptr_t>(address) % (lanes * size) == 0;
    if (fits) return int(lanes);
  }
  return 1;
}

unsigned blocks_wanted(at::Device device) {
  // In host memory there are several so that tests see what becomes of several.
  return device.is_cuda() ? 4 * multiprocessors(device) : 6;
}

void launch(Kernel kernel, at::Device device, Variant variant, Grid grid, const void* args) {
  if (device.is_cuda()) return run_on_gpu(kernel, device, variant, grid, args);
  run_on_host(kernel, variant, grid, args);
}

}  // namespace te_gpu
