// A branch that is scaled, and added to what it branched off from, with a way back that reads and writes as little.

#include "shim.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mul.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

// Autocast would bring all tensors to the largest of their types first, each by a pass over memory of its own.
using AsTheyAre = c10::impl::ExcludeDispatchKeyGuard;

class ScaledSum : public torch::autograd::Function<ScaledSum> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& sum, const at::Tensor& x,
                            const at::Tensor& factor) {
    const AsTheyAre no_autocast(c10::autocast_dispatch_keyset);
    context->save_for_backward({x, factor});
    context->saved_data["sum"] = int64_t(sum.scalar_type());
    context->saved_data["shape"] = sum.sizes().vec();
    return at::addcmul(sum, x, factor);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const AsTheyAre no_autocast(c10::autocast_dispatch_keyset);
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &factor = saved[1], &gradient = gradients[0];
    const auto type = at::ScalarType(context->saved_data["sum"].toInt());
    at::Tensor of_sum, of_x, of_factor;
    if (context->needs_input_grad(0)) {
      of_sum = gradient.sum_to_size(context->saved_data["shape"].toIntVector()).to(type);
    }
    if (context->needs_input_grad(1)) {
      if (x.sizes() == gradient.sizes()) {
        of_x = at::empty_like(x); // written in its own type at once
        at::mul_out(of_x, gradient, factor);
      } else {
        of_x = (gradient * factor).sum_to_size(x.sizes()).to(x.scalar_type());
      }
    }
    if (context->needs_input_grad(2)) of_factor = (gradient * x).sum_to_size(factor.sizes()).to(factor.scalar_type());
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
