// BatchNorm in training on the CPU, in one with the sum and the bounded activation that often follow it: as few passes over
// memory as can be. libtorch computes each by itself, and with small images that is a sixth of a step.

#include "batch_norm_kernels.h"
#include "processor.h"
#include "../shim.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <optional>

namespace {

using te_kernels::Bounds;
using te_kernels::Coefficients;
using te_kernels::Gradient;
using te_kernels::Tile;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// How N×C×… lies in memory, and how it is cut into tiles, each of which fits into a cache. Any number of threads works on
// them, and their sums are added in their order: results do not depend on the number of threads.
struct Layout {
  int64_t samples, channels, pixels;
  bool channels_last;

  explicit Layout(const at::Tensor& x)
      : samples(x.size(0)),
        channels(x.size(1)),
        pixels(x.numel() / (samples * channels)),
        channels_last(pixels == 1 || !x.is_contiguous()) {}

  // Numbers of each channel.
  int64_t count() const { return samples * pixels; }
  int64_t count_of_tile() const { return channels_last ? std::max<int64_t>(8192 / channels, 64) : pixels; }
  int64_t tiles() const { return (count() + count_of_tile() - 1) / count_of_tile(); }
  Tile tile(int64_t index) const {
    const auto before = index * count_of_tile();
    return {before * channels, channels, std::min(count_of_tile(), count() - before), channels_last};
  }
};

bool is_any(Bounds bounds) { return bounds.lower > -INFINITY || bounds.upper < INFINITY; }

Gradient unbounded(const at::Tensor& dz) { return {dz.const_data_ptr<float>(), nullptr, {}, false}; }

template <class F>
void for_each_tile(const Layout& layout, const F& f) {
  te_for_each(layout.tiles(), [&](int64_t index) { f(index, layout.tile(index)); });
}

// Sums over the tiles of two numbers a channel. `f` gets a tile and where its numbers go, zero before.
template <class F>
at::Tensor of_tiles(const Layout& layout, const F& f) {
  auto numbers = at::zeros({layout.tiles(), 2, layout.channels}, at::kFloat);
  float* data = numbers.mutable_data_ptr<float>();
  for_each_tile(layout, [&](int64_t index, Tile tile) {
    float* first = data + index * 2 * layout.channels;
    f(tile, first, first + layout.channels);
  });
  return numbers;
}

struct HostStatistics {
  std::vector<double> mean, var;  // the variance of the population
};

HostStatistics statistics(const Layout& layout, const float* x) {
  const auto channels = layout.channels;
  auto numbers = of_tiles(layout, [&](Tile tile, float* mean, float* squares) {
    te_kernels::statistics(tile, x, mean, squares);
  });
  HostStatistics all{std::vector<double>(channels), std::vector<double>(channels)};
  double before = 0;
  for (int64_t index = 0; index < layout.tiles(); ++index) {
    const float* mean = numbers.const_data_ptr<float>() + index * 2 * channels;
    const double count = double(layout.tile(index).count), after = before + count;
    for (int64_t c = 0; c < channels; ++c) {
      const double distance = mean[c] - all.mean[c];
      all.mean[c] += distance * (count / after);
      all.var[c] += mean[channels + c] + distance * distance * (before * count / after);
    }
    before = after;
  }
  for (auto& var : all.var) var /= before;
  return all;
}

// Σ dz and Σ dz·(x − mean).
struct Sums {
  std::vector<double> plain, products;
};

Sums sums(const Layout& layout, const float* x, Gradient gradient, Coefficients of, float* residual) {
  const auto channels = layout.channels;
  auto numbers = of_tiles(layout, [&](Tile tile, float* plain, float* products) {
    te_kernels::sum_gradient(tile, x, gradient, of, residual, plain, products);
  });
  Sums all{std::vector<double>(channels), std::vector<double>(channels)};
  for (int64_t index = 0; index < layout.tiles(); ++index) {
    const float* plain = numbers.const_data_ptr<float>() + index * 2 * channels;
    for (int64_t c = 0; c < channels; ++c) {
      all.plain[c] += plain[c];
      all.products[c] += plain[channels + c];
    }
  }
  return all;
}

struct BatchNorm : torch::autograd::Function<BatchNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias, const at::Tensor& running_mean, const at::Tensor& running_var,
                            const std::optional<at::Tensor>& residual, double momentum, double eps, double lower,
                            double upper) {
    const Layout layout(x);
    const Bounds bounds{float(lower), float(upper)};
    const auto channels = layout.channels;
    const auto [mean, var] = statistics(layout, x.const_data_ptr<float>());
    const double count = double(layout.count());
    auto coefficients = at::empty({4, channels}, x.options());  // mean, scale, shift, 1/σ
    auto numbers = coefficients.mutable_data_ptr<float>();
    for (int64_t c = 0; c < channels; ++c) {
      auto &running = running_mean.mutable_data_ptr<float>()[c], &spread = running_var.mutable_data_ptr<float>()[c];
      running = float((1 - momentum) * running + momentum * mean[c]);
      spread = float((1 - momentum) * spread + momentum * (var[c] * count / (count - 1)));
      const double inverse = 1 / std::sqrt(var[c] + eps);
      numbers[c] = float(mean[c]);
      numbers[channels + c] = float(weight.const_data_ptr<float>()[c] * inverse);
      numbers[2 * channels + c] = bias.const_data_ptr<float>()[c];
      numbers[3 * channels + c] = float(inverse);
    }
    auto y = at::empty_like(x);
    const float* added = residual ? residual->const_data_ptr<float>() : nullptr;
    const Coefficients of{numbers, numbers + channels, numbers + 2 * channels};
    for_each_tile(layout, [&, from = x.const_data_ptr<float>(), to = y.mutable_data_ptr<float>()](int64_t, Tile tile) {
      te_kernels::normalize(tile, from, added, of, bounds, to);
    });
    // With a residual, only y still knows what was outside the bounds.
    context->save_for_backward({x, coefficients, residual && is_any(bounds) ? y : at::Tensor()});
    context->saved_data["residual"] = residual.has_value();
    context->saved_data["lower"] = lower;
    context->saved_data["upper"] = upper;
    return y;
  }

  // With dz = dy inside the bounds: dx = scale·(dz − mean(dz) − (x − mean)/σ²·mean(dz·(x − mean))).
  static variable_list backward(AutogradContext* context, variable_list grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "BatchNorm: its gradients cannot be differentiated again");
    const auto saved = context->get_saved_variables();
    auto &x = saved[0], &coefficients = saved[1], &y = saved[2];
    const Layout layout(x);
    const auto format = x.is_contiguous() ? at::MemoryFormat::Contiguous : at::MemoryFormat::ChannelsLast;
    const auto dy = grads[0].contiguous(format);
    const Bounds bounds{float(context->saved_data["lower"].toDouble()), float(context->saved_data["upper"].toDouble())};
    const auto channels = layout.channels;
    const auto numbers = coefficients.const_data_ptr<float>();
    const Coefficients of{numbers, numbers + channels, numbers + 2 * channels};
    const auto values = x.const_data_ptr<float>();
    const auto sum = y.defined() ? y.const_data_ptr<float>() : nullptr;
    Gradient gradient{dy.const_data_ptr<float>(), sum, bounds, is_any(bounds)};

    auto none = at::Tensor(), residual = none;
    if (context->saved_data["residual"].toBool()) residual = is_any(bounds) ? at::empty_like(x) : dy;
    const auto [plain, products] =
        sums(layout, values, gradient, of, y.defined() ? residual.mutable_data_ptr<float>() : nullptr);
    if (y.defined()) gradient = unbounded(residual);

    const double count = double(layout.count());
    auto grad_weight = at::empty({channels}, x.options()), grad_bias = at::empty({channels}, x.options());
    std::vector<float> slope(channels), level(channels);
    for (int64_t c = 0; c < channels; ++c) {
      const double scale = of.scale[c], inverse = numbers[3 * channels + c];
      grad_weight.mutable_data_ptr<float>()[c] = float(products[c] * inverse);
      grad_bias.mutable_data_ptr<float>()[c] = float(plain[c]);
      slope[c] = float(-scale * inverse * inverse * products[c] / count);
      level[c] = float(-scale * plain[c] / count);
    }
    auto dx = at::empty_like(x);
    for_each_tile(layout, [&, to = dx.mutable_data_ptr<float>()](int64_t, Tile tile) {
      te_kernels::input_gradient(tile, values, gradient, of, slope.data(), level.data(), to);
    });
    return {dx, grad_weight, grad_bias, none, none, residual, none, none, none, none};
  }
};

bool dense(const at::Tensor& x) {
  return x.is_contiguous() || (x.dim() == 4 && x.is_contiguous(at::MemoryFormat::ChannelsLast));
}

bool on_cpu(const at::Tensor& x) { return te_dense(x) && x.is_cpu() && x.scalar_type() == at::kFloat; }

}  // namespace

extern "C" {

// Whether te_batch_norm takes these; `residual` may be null.
bool te_batch_norm_takes(const at::Tensor* x, const at::Tensor* residual) {
  TE_ASK(te_has_avx2() && on_cpu(*x) && x->dim() >= 2 && x->numel() > 0 && dense(*x) &&
         (!residual ||
          (on_cpu(*residual) && residual->sizes() == x->sizes() && residual->strides() == x->strides())))
}

// `out` becomes a new tensor. `residual` may be null.
char* te_batch_norm(te_list input_weight_bias_mean_var, const at::Tensor* residual, double momentum, double eps,
                    double lower, double upper, at::Tensor** out) {
  TE_CATCH({
    auto t = te_tensors(input_weight_bias_mean_var, 5, "tensors of a BatchNorm");
    TORCH_CHECK(te_batch_norm_takes(&t[0], residual), "BatchNorm wants dense single precision on the CPU, got ",
                t[0].toString(), " of ", t[0].sizes());
    for (int i = 1; i < 5; ++i) {
      TORCH_CHECK(on_cpu(t[i]) && t[i].is_contiguous() && t[i].numel() == t[0].size(1), "BatchNorm: ", t[0].size(1),
                  " channels, and ", t[i].numel(), " numbers of ", t[i].toString());
    }
    std::optional<at::Tensor> added;
    if (residual) added = *residual;
    *out = new at::Tensor(BatchNorm::apply(t[0], t[1], t[2], t[3], t[4], added, momentum, eps, lower, upper));
  })
}

}  // extern "C"
