// The kernels as functions of the host.

#include "launch.h"

namespace te_gpu {
namespace {

template <class Args>
using Body = void (*)(const Args&, Place);

template <class Args>
void run(Body<Args> body, Grid grid, const void* args) {
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x) {
      body(*static_cast<const Args*>(args), {x, y, grid.y, grid.wide, grid.high});
    }
  }
}

template <class T, int N>
void run_all(Kernel kernel, Grid grid, const void* args) {
  switch (kernel) {
#define TE_CASE(name, Args, threads) \
  case KERNEL_##name: return run<Args>(name<T, N>, grid, args);
    TE_KERNELS(TE_CASE)
#undef TE_CASE
    default: TORCH_CHECK(false, "there is no kernel ", int(kernel));
  }
}

template <class T>
void run_lanes(Kernel kernel, int lanes, Grid grid, const void* args) {
  switch (lanes) {
    case 8: return run_all<T, 8>(kernel, grid, args);
    case 4: return run_all<T, 4>(kernel, grid, args);
    case 2: return run_all<T, 2>(kernel, grid, args);
    default: return run_all<T, 1>(kernel, grid, args);
  }
}

}  // namespace

void run_on_host(Kernel kernel, Variant variant, Grid grid, const void* args) {
  switch (variant.element) {
    case at::kBFloat16: return run_lanes<BFloat16>(kernel, variant.lanes, grid, args);
    case at::kHalf: return run_lanes<Half>(kernel, variant.lanes, grid, args);
    default: return run_lanes<float>(kernel, variant.lanes, grid, args);
  }
}

}  // namespace te_gpu
