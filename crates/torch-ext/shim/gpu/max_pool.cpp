// Max pooling on a GPU with channels last: a byte for each output says where it came from.

#include "launch.h"

#include "../shim.h"

#include <ATen/native/Pool.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <algorithm>

namespace {

using namespace te_gpu;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Grid grid_of(const Pool& pool, int lanes, int64_t pixels) {
  const unsigned packs = pool.channels / lanes;
  Grid grid{1, 1, 1, 1};
  while (grid.wide < 32 && grid.wide < packs) grid.wide *= 2;
  grid.high = BLOCK / grid.wide;
  grid.x = (packs + grid.wide - 1) / grid.wide;
  grid.y = unsigned(std::min<int64_t>((pixels + grid.high - 1) / grid.high, 65535));
  return grid;
}

struct GpuMaxPool : torch::autograd::Function<GpuMaxPool> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, int64_t side, int64_t stride,
                            int64_t padding, bool ceil) {
    const auto out = [&](int64_t length) {
      const auto windows = at::native::pooling_output_shape<int64_t>(length, side, padding, stride, /*dilation=*/1, ceil);
      TORCH_CHECK(windows > 0, "max pooling: ", length, " pixels are fewer than a window's ", side);
      return windows;
    };
    const Pool pool{unsigned(x.size(0)),      unsigned(x.size(1)),      unsigned(x.size(2)), unsigned(x.size(3)),
                    unsigned(out(x.size(2))), unsigned(out(x.size(3))), unsigned(side),      unsigned(stride),
                    unsigned(padding)};
    auto y = at::empty({x.size(0), x.size(1), pool.out_height, pool.out_width}, x.options(), at::MemoryFormat::ChannelsLast);
    at::Tensor places;
    if (x.requires_grad()) places = at::empty({y.numel()}, x.options().dtype(at::kByte));
    const auto lanes = lanes_of(x.size(1), {x, y});
    launch(x.device(), {x.scalar_type(), lanes}, grid_of(pool, lanes, y.numel() / y.size(1)),
           MaxPool{x.const_data_ptr(), y.mutable_data_ptr(), places.defined() ? places.mutable_data_ptr<byte>() : nullptr, pool});
    context->save_for_backward({places});
    context->saved_data["sizes"] = x.sizes().vec();
    context->saved_data["pool"] = std::vector<int64_t>{side, stride, padding};
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "max pooling: its gradients cannot be differentiated again");
    const auto places = context->get_saved_variables()[0];
    const auto sizes = context->saved_data["sizes"].toIntVector(), of = context->saved_data["pool"].toIntVector();
    const auto dy = grads[0].contiguous(at::MemoryFormat::ChannelsLast);
    auto dx = at::empty(sizes, dy.options(), at::MemoryFormat::ChannelsLast);
    const Pool pool{unsigned(sizes[0]),   unsigned(sizes[1]),   unsigned(sizes[2]), unsigned(sizes[3]), unsigned(dy.size(2)),
                    unsigned(dy.size(3)), unsigned(of[0]), unsigned(of[1]),    unsigned(of[2])};
    const auto lanes = lanes_of(sizes[1], {dx, dy});
    launch(dy.device(), {dy.scalar_type(), lanes}, grid_of(pool, lanes, dx.numel() / dx.size(1)),
           MaxPoolGradient{dy.const_data_ptr(), places.const_data_ptr<byte>(), dx.mutable_data_ptr(), pool});
    const auto none = at::Tensor();
    return {dx, none, none, none, none};
  }
};

}  // namespace

extern "C" {

// Whether te_gpu_max_pool takes it.
bool te_gpu_max_pool_takes(const at::Tensor* x, int64_t side) {
  TE_ASK(!torch::jit::tracer::isTracing() && te_dense(*x) && has_kernels(x->scalar_type()) && x->dim() == 4 &&
         x->is_contiguous(at::MemoryFormat::ChannelsLast) && x->numel() > 0 && x->numel() < (int64_t(1) << 31) && side < 16)
}

// `out` becomes a new tensor. Tensors in host memory are taken too.
char* te_gpu_max_pool(const at::Tensor* x, int64_t side, int64_t stride, int64_t padding, bool ceil, at::Tensor** out) {
  TE_CATCH({
    const auto& tensor = te_tensor(x);
    TORCH_CHECK(te_gpu_max_pool_takes(x, side), "max pooling wants channels last, got ", tensor.toString(), " of ",
                tensor.sizes());
    TORCH_CHECK(side > 0 && stride > 0 && padding >= 0, "max pooling: windows of ", side, " every ", stride);
    *out = new at::Tensor(GpuMaxPool::apply(tensor, side, stride, padding, ceil));
  })
}

}  // extern "C"
