// A convolution as libtorch's, but for the gradient of its weights. With AVX2 and channels last oneDNN reaches less than half
// of what the processor can for it, and it is a third of the time of a small ResNet's step.

#include "convolution_kernels.h"
#include "processor.h"
#include "../shim.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <algorithm>

namespace {

using te_kernels::Block;
using te_kernels::Convolution3x3;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool dense_images(const at::Tensor& x) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.dim() == 4 && x.numel() > 0 &&
         x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

// The sums of a gradient are made in blocks of channels, which fit into the second cache (64×64×9 numbers are 147 KB), and in
// parts of the batch, each large enough that adding it to the others is little work. The number of threads changes neither,
// and so no bit of the result.
struct Work {
  static constexpr int64_t CHANNELS = 64, PIXELS = 1024, TASKS = 32;
  int64_t samples, in_channels, out_channels, parts;

  Work(Convolution3x3 of, int64_t samples)
      : samples(samples), in_channels(of.in_channels), out_channels(of.out_channels) {
    const auto pixels = samples * of.out_height * of.out_width;
    parts = std::clamp<int64_t>(pixels / PIXELS, 1, std::min(std::max<int64_t>(TASKS / blocks(), 1), samples));
  }

  int64_t in_blocks() const { return (in_channels + CHANNELS - 1) / CHANNELS; }
  int64_t blocks() const { return in_blocks() * ((out_channels + CHANNELS - 1) / CHANNELS); }
  Block block(int64_t index) const {
    const auto in = index % in_blocks() * CHANNELS, out = index / in_blocks() * CHANNELS;
    return {in, std::min(CHANNELS, in_channels - in), out, std::min(CHANNELS, out_channels - out)};
  }
  int64_t first_sample(int64_t part) const { return part * samples / parts; }
};

at::Tensor weight_gradient(const at::Tensor& x, const at::Tensor& dy, const at::Tensor& weight, int64_t stride,
                           int64_t padding) {
  const Convolution3x3 of{x.size(2), x.size(3), x.size(1), dy.size(2), dy.size(3), dy.size(1), stride, padding};
  const Work work(of, x.size(0));
  auto gradient = at::empty_like(weight);
  auto *const to = gradient.mutable_data_ptr<float>();
  const auto *const values = x.const_data_ptr<float>(), *const outputs = dy.const_data_ptr<float>();
  const auto of_sample = x.numel() / x.size(0), of_output = dy.numel() / dy.size(0);
  const auto largest = work.block(0);
  const auto size = 9 * largest.in_count * largest.out_count;
  auto sums = at::zeros({work.blocks(), work.parts, size}, at::kFloat);
  auto *const all_sums = sums.mutable_data_ptr<float>();

  te_for_each(work.blocks() * work.parts, [&](int64_t task) {
    const auto block = work.block(task / work.parts);
    const auto part = task % work.parts, first = work.first_sample(part), end = work.first_sample(part + 1);
    std::vector<float> scratch(te_kernels::scratch_size(of, block));
    te_kernels::add_weight_gradient(of, block, end - first, values + first * of_sample, outputs + first * of_output,
                                    scratch.data(), all_sums + task * size);
  });

  const auto strides = gradient.strides();
  te_for_each(work.blocks(), [&](int64_t index) {
    const auto block = work.block(index);
    auto *const sum = all_sums + index * work.parts * size;
    for (int64_t part = 1; part < work.parts; ++part) {
      for (int64_t i = 0; i < size; ++i) sum[i] += sum[part * size + i];
    }
    const auto *from = sum;
    for (int64_t i = 0; i < block.in_count; i += 8) {
      for (int64_t row = 0; row < 3; ++row) {
        for (int64_t o = 0; o < block.out_count; ++o) {
          for (int64_t column = 0; column < 3; ++column) {
            auto *const place = to + (block.out_start + o) * strides[0] + (block.in_start + i) * strides[1] +
                                row * strides[2] + column * strides[3];
            for (int64_t lane = 0; lane < 8; ++lane) place[lane * strides[1]] = *from++;
          }
        }
      }
    }
  });
  return gradient;
}

// More than any image has pixels in a row: sums of sizes stay far from overflowing.
constexpr int64_t LARGEST_PADDING = 1 << 20;

// Whether weight_gradient takes these.
bool takes(const at::Tensor& x, const at::Tensor& weight, int64_t padding) {
  return te_has_avx2() && te_dense(x) && te_dense(weight) && dense_images(x) && weight.is_cpu() &&
         weight.scalar_type() == at::kFloat && weight.dim() == 4 && weight.numel() > 0 &&
         weight.size(1) == x.size(1) && weight.size(2) == 3 && weight.size(3) == 3 && weight.size(0) % 4 == 0 &&
         weight.size(1) % 8 == 0 && padding < LARGEST_PADDING && x.size(2) + 2 * padding >= 3 &&
         x.size(3) + 2 * padding >= 3;
}

struct Convolution : torch::autograd::Function<Convolution> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, int64_t stride,
                            int64_t padding) {
    context->save_for_backward({x, weight});
    context->saved_data["stride"] = stride;
    context->saved_data["padding"] = padding;
    return at::conv2d(x, weight, {}, stride, padding);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "a convolution: its gradients cannot be differentiated again");
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1];
    const auto stride = context->saved_data["stride"].toInt(), padding = context->saved_data["padding"].toInt();
    const auto dy = grads[0].contiguous(at::MemoryFormat::ChannelsLast);
    at::Tensor none, dx, dw;
    if (context->needs_input_grad(0)) {
      dx = std::get<0>(at::convolution_backward(dy, x, weight, std::nullopt, {stride, stride}, {padding, padding}, {1, 1},
                                                /*transposed=*/false, {0, 0}, 1, {true, false, false}));
    }
    if (context->needs_input_grad(1)) dw = weight_gradient(x, dy, weight, stride, padding);
    return {dx, dw, none, none};
  }
};

}  // namespace

extern "C" {

// Whether te_convolution is faster than libtorch's, and takes these.
bool te_convolution_pays(const at::Tensor* x, const at::Tensor* weight, int64_t stride, int64_t padding) {
  TE_ASK(!te_has_avx512() && at::GradMode::is_enabled() && te_dense(*weight) && weight->requires_grad() && stride > 0 &&
         padding >= 0 && !at::autocast::is_autocast_enabled(at::kCPU) && !torch::jit::tracer::isTracing() &&
         takes(*x, *weight, padding))
}

// Without bias. `out` becomes a new tensor.
char* te_convolution(te_list input_weight, int64_t stride, int64_t padding, at::Tensor** out) {
  TE_CATCH({
    auto t = te_tensors(input_weight, 2, "tensors of a convolution");
    TORCH_CHECK(stride > 0 && padding >= 0 && takes(t[0], t[1], padding),
                "a convolution of 3×3 wants images in dense single precision with channels last on a CPU with AVX2, 8 "
                "input channels or a multiple and 4 output channels or a multiple; got ", t[0].toString(), " of ",
                t[0].sizes(), " and weights of ", t[1].sizes());
    *out = new at::Tensor(Convolution::apply(t[0], t[1], stride, padding));
  })
}

}  // extern "C"
