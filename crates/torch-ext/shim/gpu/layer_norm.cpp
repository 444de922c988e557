// LayerNorm on a GPU, in one with the sum before it; what it gives is in the type that its takers want.

#include "rows.h"

#include "../shim.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <optional>

namespace {

using namespace te_gpu;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool is_single(const at::Tensor& tensor) { return tensor.scalar_type() == at::kFloat; }

Source source(const at::Tensor& tensor) {
  return tensor.defined() ? Source{tensor.const_data_ptr(), is_single(tensor)} : Source{nullptr, false};
}

Target target(const at::Tensor& tensor) {
  return tensor.defined() ? Target{tensor.mutable_data_ptr(), is_single(tensor)} : Target{nullptr, false};
}

// The type of kernels for tensors of which some are of single precision and the others of one other type.
Variant variant_of(int64_t channels, std::initializer_list<at::Tensor> tensors) {
  Variant variant{at::kFloat, lanes_of(channels, tensors)};
  for (const auto& tensor : tensors) {
    if (tensor.defined() && !is_single(tensor)) variant.element = tensor.scalar_type();
  }
  return variant;
}

struct GpuLayerNorm : torch::autograd::Function<GpuLayerNorm> {
  // The norm, and where something is added, the sum.
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const std::optional<at::Tensor>& other,
                               const at::Tensor& weight, const at::Tensor& bias, double epsilon, at::ScalarType of_sum,
                               at::ScalarType of_norm) {
    const auto channels = x.size(-1), count = x.numel() / channels;
    const auto added = other.value_or(at::Tensor());
    const auto floats = x.options().dtype(at::kFloat);
    auto y = at::empty_like(x, x.options().dtype(of_norm));
    at::Tensor sum;
    if (added.defined()) sum = at::empty_like(x, x.options().dtype(of_sum));
    auto of_rows = at::empty({2, count}, floats);
    const auto cut = Cut::row_by_row(count, channels, x.device(), variant_of(channels, {x, added, sum, y, weight, bias}));
    float *means = data<float>(of_rows), *inverses = means + count;
    launch(x.device(), cut.variant, cut.grid,
           SumAndNorm{source(x), source(added), target(sum), target(y), means, inverses, data<float>(weight),
                      data<float>(bias), float(epsilon), cut.rows});
    context->save_for_backward({sum.defined() ? sum : x, weight, of_rows});
    context->saved_data["types"] =
        std::vector<int64_t>{int64_t(x.scalar_type()), int64_t(added.defined() ? added.scalar_type() : x.scalar_type())};
    context->saved_data["is_sum"] = sum.defined();
    context->set_materialize_grads(false);
    return sum.defined() ? variable_list{y, sum} : variable_list{y};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "LayerNorm: its gradients cannot be differentiated again");
    const auto saved = context->get_saved_variables();
    auto &x = saved[0], &weight = saved[1], &of_rows = saved[2];
    const auto types = context->saved_data["types"].toIntVector();
    const auto of_x = at::ScalarType(types[0]), of_added = at::ScalarType(types[1]);
    const bool is_sum = context->saved_data["is_sum"].toBool();
    const auto none = at::Tensor();
    const auto before = is_sum && grads[1].defined() ? grads[1].contiguous() : none;
    if (!grads[0].defined()) {
      if (!before.defined()) return variable_list(7, none);
      return {before.to(of_x), is_sum ? before.to(of_added) : none, none, none, none, none, none};
    }
    const auto dy = grads[0].contiguous();
    const auto channels = x.size(-1), count = x.numel() / channels;
    const auto floats = of_rows.options();
    auto dx = at::empty_like(x, x.options().dtype(of_x));
    auto dx_of_added = is_sum && of_added != of_x ? at::empty_like(x, x.options().dtype(of_added)) : none;
    const auto variant = variant_of(channels, {x, dy, before, dx, dx_of_added, weight});
    float *means = data<float>(of_rows), *inverses = means + count;
    const auto cut = Cut::row_by_row(count, channels, x.device(), variant);
    launch(x.device(), variant, cut.grid,
           RowGradient{source(x), source(dy), source(before), means, inverses, data<float>(weight), target(dx),
                       target(dx_of_added), cut.rows});
    const auto added = is_sum ? (dx_of_added.defined() ? dx_of_added : dx) : none;
    const size_t weight_is = is_sum ? 2 : 1;  // among the inputs that are there
    if (!context->needs_input_grad(weight_is) && !context->needs_input_grad(weight_is + 1)) {
      return {dx, added, none, none, none, none, none};
    }
    const Cut columns(count, channels, x.device(), variant);
    const auto parts = of_parts(columns, 2 * channels, floats);
    launch(x.device(), variant, columns.grid,
           ColumnSums{source(x), source(dy), means, inverses, data<float>(parts), columns.rows});
    auto of_layer = at::empty({2, channels}, floats);  // gradients of weight and bias
    launch(x.device(), variant, Cut::merging(2 * int(channels), BLOCK),
           MergeSums{data<float>(parts), int(parts.size(0)), 2 * int(channels), data<float>(of_layer)});
    return {dx, added, of_layer[0], of_layer[1], none, none, none};
  }
};

bool has_rows(const at::Tensor& x) {
  return te_dense(x) && has_kernels(x.scalar_type()) && x.dim() > 0 && x.is_contiguous() && x.numel() > 0;
}

// Whether kernels take both types at once.
bool go_together(at::ScalarType a, at::ScalarType b) { return a == b || a == at::kFloat || b == at::kFloat; }

// The type of what LayerNorm gives under autocast, or without it, of a value of type `own`.
at::ScalarType type_of_norm(at::ScalarType own, at::DeviceType device, bool is_for_products) {
  if (!at::autocast::is_autocast_enabled(device)) return own;
  return is_for_products ? at::autocast::get_autocast_dtype(device) : at::kFloat;
}

}  // namespace

extern "C" {

// Whether te_gpu_layer_norm takes these; `added` may be null.
bool te_gpu_layer_norm_takes(const at::Tensor* x, const at::Tensor* added) {
  const auto fits = [&](at::ScalarType type) {
    const auto narrow = type_of_norm(type, x->device().type(), /*is_for_products=*/true);
    return has_kernels(narrow) && go_together(narrow, type) && go_together(type, x->scalar_type());
  };
  TE_ASK(!torch::jit::tracer::isTracing() && has_rows(*x) && fits(x->scalar_type()) &&
         (!added || (has_rows(*added) && added->sizes() == x->sizes() && added->device() == x->device() &&
                     fits(added->scalar_type()))))
}

// `norm` becomes a new tensor, and with `added`, which may be null, `sum` does, too. Under autocast `norm` is of autocast's type where
// it is for products alone, else of single precision, as libtorch's. Tensors in host memory are taken too.
char* te_gpu_layer_norm(te_list input_weight_bias, const at::Tensor* added, double epsilon, bool is_for_products,
                        at::Tensor** norm, at::Tensor** sum) {
  TE_CATCH({
    auto t = te_tensors(input_weight_bias, 3, "tensors of a LayerNorm");
    auto& x = t[0];
    TORCH_CHECK(te_gpu_layer_norm_takes(&x, added), "LayerNorm wants rows of channels, got ", x.toString(), " of ", x.sizes());
    for (int i = 1; i < 3; ++i) {
      TORCH_CHECK(te_dense(t[i]) && t[i].scalar_type() == at::kFloat && t[i].is_contiguous() &&
                      t[i].numel() == x.size(-1) && t[i].device() == x.device(),
                  "LayerNorm: ", x.size(-1), " channels on ", x.device(), ", and ", t[i].numel(), " numbers of ",
                  t[i].toString());
    }
    auto of_sum = x.scalar_type();
    std::optional<at::Tensor> other;
    if (added) {
      other = *added;
      of_sum = c10::promoteTypes(of_sum, added->scalar_type());
    }
    const auto of_norm = type_of_norm(of_sum, x.device().type(), is_for_products);
    auto outputs = GpuLayerNorm::apply(x, other, t[1], t[2], epsilon, of_sum, of_norm);
    *norm = new at::Tensor(outputs[0]);
    if (added) *sum = new at::Tensor(outputs[1]);
  })
}

}  // extern "C"
