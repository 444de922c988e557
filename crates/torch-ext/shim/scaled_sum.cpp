// A branch that is scaled, and added to what it branched off from, with a way back that reads and writes as little.

#include "shim.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/mul.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <vector>

namespace {

// Autocast would bring all tensors to the largest of their types first, each by a pass over memory of its own.
using AsTheyAre = c10::impl::ExcludeDispatchKeyGuard;

// What of a tensor its gradient must be like.
struct Like {
  std::vector<int64_t> sizes, strides;
  at::TensorOptions options;

  explicit Like(const at::Tensor& tensor)
      : sizes(tensor.sizes().vec()), strides(tensor.strides().vec()), options(tensor.options().requires_grad(false)) {
    if (!tensor.is_non_overlapping_and_dense()) strides.clear();
  }

  // one * other, written in this type at once where it has this shape.
  at::Tensor product(const at::Tensor& one, const at::Tensor& other) const {
    if (one.sizes() != at::IntArrayRef(sizes)) return sum(one * other);
    auto result = strides.empty() ? at::empty(sizes, options) : at::empty_strided(sizes, strides, options);
    return at::mul_out(result, one, other);
  }

  at::Tensor sum(const at::Tensor& gradient) const { return gradient.sum_to_size(sizes).to(options.dtype()); }
};

// What backward knows of the three: held by the graph.
struct Kept : torch::CustomClassHolder {
  Like sum, x, factor;

  Kept(const at::Tensor& sum, const at::Tensor& x, const at::Tensor& factor) : sum(sum), x(x), factor(factor) {}
};

class ScaledSum : public torch::autograd::Function<ScaledSum> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& sum, const at::Tensor& x,
                            const at::Tensor& factor) {
    const AsTheyAre no_autocast(c10::autocast_dispatch_keyset);
    // Each is kept for the other's gradient alone: what is drawn has none, and the branch need not stay for it.
    context->save_for_backward({factor.requires_grad() ? x : at::Tensor(), x.requires_grad() ? factor : at::Tensor()});
    context->saved_data["kept"] = c10::IValue::make_capsule(c10::make_intrusive<Kept>(sum, x, factor));
    return at::addcmul(sum, x, factor);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const AsTheyAre no_autocast(c10::autocast_dispatch_keyset);
    const auto saved = context->get_saved_variables();
    const auto kept = c10::static_intrusive_pointer_cast<Kept>(context->saved_data["kept"].toCapsule());
    const auto& gradient = gradients[0];
    at::Tensor of_sum, of_x, of_factor;
    if (context->needs_input_grad(0)) of_sum = kept->sum.sum(gradient);
    if (context->needs_input_grad(1)) of_x = kept->x.product(gradient, saved[1]);
    if (context->needs_input_grad(2)) of_factor = kept->factor.sum(gradient * saved[0]);
    return {of_sum, of_x, of_factor};
  }
};

}  // namespace

extern "C" {

// sum + x * factor.
char* te_scaled_sum(te_list sum_x_factor, at::Tensor** out) {
  TE_CATCH({
    const auto t = te_tensors(sum_x_factor, 3, "tensors of a scaled sum");
    *out = new at::Tensor(ScaledSum::apply(t[0], t[1], t[2]));
  })
}

}  // extern "C"
