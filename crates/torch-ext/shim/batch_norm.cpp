// BatchNorm in training on the CPU, in one with the sum and the bounded activation that often follow it: as few passes over
// memory as can be. libtorch computes each by itself, and with small pictures that is a sixth of a step.

#include "shim.h"

#include <ATen/Parallel.h>
#include <ATen/TensorIterator.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <optional>

// Compiled for several generations of processors; the loader takes the best that the machine has. All give the same bits:
// the order of the sums is written down below, and nothing is contracted (-ffp-contract=off).
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define TE_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define TE_CLONES
#endif
#define TE_INLINE __attribute__((always_inline))

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// N numbers that one instruction, or a few, take at once.
template <int N>
using Vector __attribute__((vector_size(4 * N), aligned(4), may_alias)) = float;

// A vector over N channels of one pixel: each has its own coefficient, and its own place in a sum.
template <int N>
struct Across {
  using V = Vector<N>;
  TE_INLINE static V load(const float* of_channels) { return *reinterpret_cast<const V*>(of_channels); }
  TE_INLINE static void add(float* of_channels, const V& values) { *reinterpret_cast<V*>(of_channels) += values; }
};

// A vector over N pixels of one channel: they share the coefficient, and are summed up.
template <int N>
struct Along {
  using V = Vector<N>;
  TE_INLINE static V load(const float* of_channels) { return V{} + *of_channels; }
  TE_INLINE static void add(float* of_channels, const V& values) {
    float sum = values[0];
    for (int lane = 1; lane < N; ++lane) sum += values[lane];
    *of_channels += sum;
  }
};

// How N×C×… lies in memory, and how it is cut into tiles. A tile has some pixels of all channels and fits into a cache;
// tiles are worked on by any number of threads, and their sums are added in their order, so that results do not depend on
// the number of threads.
struct Layout {
  int64_t samples, channels, pixels;
  bool channels_last;

  explicit Layout(const at::Tensor& x)
      : samples(x.size(0)),
        channels(x.size(1)),
        pixels(x.numel() / (samples * channels)),
        channels_last(pixels == 1 || !x.is_contiguous()) {}

  // Channels last: rows of one pixel each. Else: samples.
  int64_t rows() const { return samples * pixels; }
  int64_t rows_of_tile() const { return std::max<int64_t>(8192 / channels, 64); }
  int64_t tiles() const { return channels_last ? (rows() + rows_of_tile() - 1) / rows_of_tile() : samples; }
  // Numbers of each channel in a tile.
  int64_t count(int64_t tile) const {
    return channels_last ? std::min(rows_of_tile(), rows() - tile * rows_of_tile()) : pixels;
  }
};

// Calls f(lanes, channel, offset, stride, count) for all of a tile: `count` vectors, the first at `offset`.
template <class F>
TE_INLINE inline void for_each_strip(const Layout& layout, int64_t tile, const F& f) {
  const int64_t channels = layout.channels, count = layout.count(tile);
  if (layout.channels_last) {
    const int64_t start = tile * layout.rows_of_tile() * channels;
    int64_t c = 0;
    for (; c + 16 <= channels; c += 16) f(Across<16>{}, c, start + c, channels, count);
    for (; c + 4 <= channels; c += 4) f(Across<4>{}, c, start + c, channels, count);
    for (; c < channels; ++c) f(Across<1>{}, c, start + c, channels, count);
  } else {
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t start = (tile * channels + c) * count, whole = count / 16 * 16;
      f(Along<16>{}, c, start, int64_t(16), whole / 16);
      if (whole < count) f(Along<1>{}, c, start + whole, int64_t(1), count - whole);
    }
  }
}

// What bounds a sum: ReLU is (0, ∞), ReLU6 is (0, 6).
struct Bounds {
  float lower, upper;
  bool any() const { return lower > -INFINITY || upper < INFINITY; }
};

// A NaN stays one.
template <class V>
TE_INLINE inline V bounded(const V& x, const Bounds& bounds) {
  const V lower = V{} + bounds.lower, upper = V{} + bounds.upper;
  const V raised = x < lower ? lower : x;
  return raised > upper ? upper : raised;
}

// The gradient where `x` is inside the bounds, else 0.
template <class V>
TE_INLINE inline V inside(const V& gradient, const V& x, const Bounds& bounds) {
  const V lower = V{} + bounds.lower, upper = V{} + bounds.upper;
  return ((x <= lower) | (x >= upper)) ? V{} : gradient;
}

// For each channel.
struct Coefficients {
  const float *mean, *scale, *shift;  // of (x − mean)·scale + shift
};

template <class Lanes>
TE_INLINE inline typename Lanes::V normalized(const typename Lanes::V& x, const Coefficients& of, int64_t c) {
  return (x - Lanes::load(of.mean + c)) * Lanes::load(of.scale + c) + Lanes::load(of.shift + c);
}

// The mean of a tile, and the sum of squared distances from it; both are zero before. From the tile's own mean: nothing is
// lost where the mean is large against the spread.
TE_CLONES void statistics_of_tile(const Layout& layout, int64_t tile, const float* x, float* mean, float* squares) {
  for_each_strip(layout, tile, [&](auto lanes, int64_t c, int64_t offset, int64_t stride, int64_t count) TE_INLINE {
    using Lanes = decltype(lanes);
    typename Lanes::V sum{};
    for (int64_t i = 0; i < count; ++i) sum += *reinterpret_cast<const typename Lanes::V*>(x + offset + i * stride);
    Lanes::add(mean + c, sum);
  });
  const float count = float(layout.count(tile));
  for (int64_t c = 0; c < layout.channels; ++c) mean[c] /= count;
  for_each_strip(layout, tile, [&](auto lanes, int64_t c, int64_t offset, int64_t stride, int64_t count) TE_INLINE {
    using Lanes = decltype(lanes);
    const auto centre = Lanes::load(mean + c);
    typename Lanes::V sum{};
    for (int64_t i = 0; i < count; ++i) {
      const auto distance = *reinterpret_cast<const typename Lanes::V*>(x + offset + i * stride) - centre;
      sum += distance * distance;
    }
    Lanes::add(squares + c, sum);
  });
}

// y = bounded(normalized(x) + residual); `residual` may be null.
TE_CLONES void normalize_tile(const Layout& layout, int64_t tile, const float* x, const float* residual,
                              const Coefficients& of, const Bounds& bounds, float* y) {
  for_each_strip(layout, tile, [&](auto lanes, int64_t c, int64_t offset, int64_t stride, int64_t count) TE_INLINE {
    using Lanes = decltype(lanes);
    using V = typename Lanes::V;
    for (int64_t i = offset; count > 0; --count, i += stride) {
      V sum = normalized<Lanes>(*reinterpret_cast<const V*>(x + i), of, c);
      if (residual) sum += *reinterpret_cast<const V*>(residual + i);
      *reinterpret_cast<V*>(y + i) = bounded(sum, bounds);
    }
  });
}

// What reaches the sum: `dy` where it is inside the bounds. Known from y, or without a residual from x, computed as before.
struct Outer {
  const float *dy, *y;
  Bounds bounds;
};

template <class Lanes>
TE_INLINE inline typename Lanes::V reaching(const Outer& outer, const typename Lanes::V& x, const Coefficients& of,
                                            int64_t c, int64_t i) {
  using V = typename Lanes::V;
  const V dy = *reinterpret_cast<const V*>(outer.dy + i);
  if (!outer.bounds.any()) return dy;
  const V sum = outer.y ? *reinterpret_cast<const V*>(outer.y + i) : normalized<Lanes>(x, of, c);
  return inside(dy, sum, outer.bounds);
}

// Of a tile, Σ dz and Σ dz·(x − mean), which are zero before; dz goes to `residual` as well, if that is not null.
TE_CLONES void sums_of_tile(const Layout& layout, int64_t tile, const float* x, const Outer& outer,
                            const Coefficients& of, float* residual, float* sums, float* products) {
  for_each_strip(layout, tile, [&](auto lanes, int64_t c, int64_t offset, int64_t stride, int64_t count) TE_INLINE {
    using Lanes = decltype(lanes);
    using V = typename Lanes::V;
    const V mean = Lanes::load(of.mean + c);
    V sum{}, product{};
    for (int64_t i = offset; count > 0; --count, i += stride) {
      const V value = *reinterpret_cast<const V*>(x + i);
      const V dz = reaching<Lanes>(outer, value, of, c, i);
      if (residual) *reinterpret_cast<V*>(residual + i) = dz;
      sum += dz;
      product += dz * (value - mean);
    }
    Lanes::add(sums + c, sum);
    Lanes::add(products + c, product);
  });
}

// dx = dz·scale + (x − mean)·slope + level.
TE_CLONES void gradient_of_tile(const Layout& layout, int64_t tile, const float* x, const Outer& outer,
                                const Coefficients& of, const float* slope, const float* level, float* dx) {
  for_each_strip(layout, tile, [&](auto lanes, int64_t c, int64_t offset, int64_t stride, int64_t count) TE_INLINE {
    using Lanes = decltype(lanes);
    using V = typename Lanes::V;
    const V mean = Lanes::load(of.mean + c), scale = Lanes::load(of.scale + c);
    const V slopes = Lanes::load(slope + c), levels = Lanes::load(level + c);
    for (int64_t i = offset; count > 0; --count, i += stride) {
      const V value = *reinterpret_cast<const V*>(x + i);
      const V dz = reaching<Lanes>(outer, value, of, c, i);
      *reinterpret_cast<V*>(dx + i) = dz * scale + (value - mean) * slopes + levels;
    }
  });
}

// On libtorch's own threads: its OpenMP need not be the compiler's, so at::parallel_for cannot be compiled here.
template <class F>
void for_each_tile(const Layout& layout, const F& f) {
  const auto tiles = layout.tiles();
  if (at::get_num_threads() == 1) {
    for (int64_t tile = 0; tile < tiles; ++tile) f(tile);
    return;
  }
  auto numbers = at::arange(tiles, at::kLong);
  auto each = at::TensorIterator::nullary_op(numbers);
  auto some = [&](char** data, const int64_t* strides, int64_t count, int64_t /*of one*/) {
    for (int64_t i = 0; i < count; ++i) f(*reinterpret_cast<const int64_t*>(data[0] + i * strides[0]));
  };
  each.for_each(some, /*grain_size=*/1);
}

// Sums over the tiles of two numbers a channel. `f` gets a tile and where its numbers go, zero before.
template <class F>
at::Tensor of_tiles(const Layout& layout, const F& f) {
  auto numbers = at::zeros({layout.tiles(), 2, layout.channels}, at::kFloat);
  float* data = numbers.mutable_data_ptr<float>();
  for_each_tile(layout, [&](int64_t tile) {
    float* first = data + tile * 2 * layout.channels;
    f(tile, first, first + layout.channels);
  });
  return numbers;
}

struct Statistics {
  std::vector<double> mean, var;  // the variance of the population
};

Statistics statistics(const Layout& layout, const float* x) {
  const auto channels = layout.channels;
  auto numbers = of_tiles(layout, [&](int64_t tile, float* mean, float* squares) {
    statistics_of_tile(layout, tile, x, mean, squares);
  });
  Statistics all{std::vector<double>(channels), std::vector<double>(channels)};
  double before = 0;
  for (int64_t tile = 0; tile < layout.tiles(); ++tile) {
    const float* mean = numbers.const_data_ptr<float>() + tile * 2 * channels;
    const double count = double(layout.count(tile)), after = before + count;
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

Sums sums(const Layout& layout, const float* x, const Outer& outer, const Coefficients& of, float* residual) {
  const auto channels = layout.channels;
  auto numbers = of_tiles(layout, [&](int64_t tile, float* plain, float* products) {
    sums_of_tile(layout, tile, x, outer, of, residual, plain, products);
  });
  Sums all{std::vector<double>(channels), std::vector<double>(channels)};
  for (int64_t tile = 0; tile < layout.tiles(); ++tile) {
    const float* plain = numbers.const_data_ptr<float>() + tile * 2 * channels;
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
    const double count = double(layout.rows());
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
    for_each_tile(layout, [&, from = x.const_data_ptr<float>(), to = y.mutable_data_ptr<float>()](int64_t tile) {
      normalize_tile(layout, tile, from, added, of, bounds, to);
    });
    // With a residual, only y still knows what was outside the bounds.
    context->save_for_backward({x, coefficients, residual && bounds.any() ? y : at::Tensor()});
    context->saved_data["residual"] = residual.has_value();
    context->saved_data["lower"] = lower;
    context->saved_data["upper"] = upper;
    return y;
  }

  // With dz = dy inside the bounds: dx = scale·(dz − mean(dz) − (x − mean)/σ²·mean(dz·(x − mean))).
  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    auto &x = saved[0], &coefficients = saved[1], &y = saved[2];
    const Layout layout(x);
    const auto dy = grads[0].contiguous(x.is_contiguous() ? at::MemoryFormat::Contiguous : at::MemoryFormat::ChannelsLast);
    const Bounds bounds{float(context->saved_data["lower"].toDouble()), float(context->saved_data["upper"].toDouble())};
    const auto channels = layout.channels;
    const auto numbers = coefficients.const_data_ptr<float>();
    const Coefficients of{numbers, numbers + channels, numbers + 2 * channels};
    const auto values = x.const_data_ptr<float>();
    Outer outer{dy.const_data_ptr<float>(), y.defined() ? y.const_data_ptr<float>() : nullptr, bounds};

    auto none = at::Tensor();
    auto residual = !context->saved_data["residual"].toBool() ? none : bounds.any() ? at::empty_like(x) : dy;
    const auto [plain, products] =
        sums(layout, values, outer, of, y.defined() ? residual.mutable_data_ptr<float>() : nullptr);
    if (y.defined()) outer = {residual.const_data_ptr<float>(), nullptr, {-INFINITY, INFINITY}};

    const double count = double(layout.rows());
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
    for_each_tile(layout, [&, to = dx.mutable_data_ptr<float>()](int64_t tile) {
      gradient_of_tile(layout, tile, values, outer, of, slope.data(), level.data(), to);
    });
    return {dx, grad_weight, grad_bias, none, none, residual, none, none, none, none};
  }
};

bool dense(const at::Tensor& x) {
  return x.is_contiguous() || (x.dim() == 4 && x.is_contiguous(at::MemoryFormat::ChannelsLast));
}

bool on_cpu(const at::Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kFloat; }

}  // namespace

extern "C" {

// Whether te_batch_norm takes these; `residual` may be null.
bool te_batch_norm_takes(const at::Tensor* x, const at::Tensor* residual) {
  if (!on_cpu(*x) || x->dim() < 2 || x->numel() == 0 || !dense(*x)) return false;
  return !residual || (on_cpu(*residual) && residual->sizes() == x->sizes() && residual->strides() == x->strides());
}

// `out` becomes a new tensor. `residual` may be null.
char* te_batch_norm(at::Tensor* const* input_weight_bias_mean_var, const at::Tensor* residual, double momentum,
                    double eps, double lower, double upper, at::Tensor** out) {
  TE_CATCH({
    auto t = te_tensors(input_weight_bias_mean_var, 5);
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
