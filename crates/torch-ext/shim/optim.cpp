// ATen's fused optimizer steps and multi-tensor operations, which tch does not bind.

#include "shim.h"

#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_addcmul.h>
#include <ATen/ops/_foreach_div.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_foreach_sqrt.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <c10/core/GradMode.h>

namespace {

// max(Σ‖t‖², 0)^½ of each tensor is a scalar tensor; here they are one, in single precision or better.
at::Tensor norms(const std::vector<at::Tensor>& tensors) {
  return at::stack(at::_foreach_norm(tensors, 2));
}

// As a list again, for the multi-tensor operations.
std::vector<at::Tensor> rows(const at::Tensor& values) { return values.unbind(0); }

// 1 where the ratio means nothing: a tensor of zeros, or no gradient.
at::Tensor safe_ratio(const at::Tensor& numerator, const at::Tensor& denominator, const at::Tensor& valid) {
  return at::where(valid, numerator / denominator, at::ones_like(numerator));
}

}  // namespace

extern "C" {

// Tensors of one optimizer step: `count` of each. A list that a rule does not use is null.
struct te_step {
  at::Tensor* const* params;
  at::Tensor* const* grads;
  at::Tensor* const* first;   // momentum, or the mean of gradients
  at::Tensor* const* second;  // the mean of squared gradients
  at::Tensor* const* steps;   // steps taken before this one, as scalars of single precision
  size_t count;
  double lr;
  double weight_decay;
};

}  // extern "C"

namespace {

// What Adam and its kin work on.
struct Moments {
  std::vector<at::Tensor> params, grads, first, second, steps;
};

// The tensors of `step`, with this step counted.
Moments next_moments(const te_step& step) {
  auto list = [&](at::Tensor* const* handles) { return te_tensors(handles, step.count); };
  Moments moments{list(step.params), list(step.grads), list(step.first), list(step.second), list(step.steps)};
  at::_foreach_add_(moments.steps, 1);
  return moments;
}

}  // namespace

extern "C" {

char* te_sgd(const te_step* step, double momentum, bool nesterov, bool is_first_step) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto params = te_tensors(step->params, step->count);
    auto grads = te_tensors(step->grads, step->count);
    auto buffers = step->first ? te_tensors(step->first, step->count) : std::vector<at::Tensor>();
    at::_fused_sgd_(params, grads, buffers, step->weight_decay, momentum, step->lr, /*dampening=*/0.0, nesterov,
                    /*maximize=*/false, is_first_step);
  })
}

// Adam, or with `decoupled` weight decay AdamW.
char* te_adam(const te_step* step, double beta1, double beta2, double eps, bool decoupled) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto [params, grads, first, second, steps] = next_moments(*step);
    auto run = decoupled ? &at::_ops::_fused_adamw_::call : &at::_ops::_fused_adam_::call;
    run(params, grads, first, second, {}, steps, step->lr, beta1, beta2, step->weight_decay, eps, /*amsgrad=*/false,
        /*maximize=*/false, {}, {});
  })
}

// LARS: the step of each tensor is scaled by trust·‖p‖/(‖g‖ + weight_decay·‖p‖) where weight decay applies.
char* te_lars(const te_step* step, double momentum, double trust, double eps) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto params = te_tensors(step->params, step->count);
    auto buffers = te_tensors(step->first, step->count);
    auto directions = at::_foreach_add(te_tensors(step->grads, step->count), params, step->weight_decay);
    if (step->weight_decay != 0.0) {
      auto p = norms(params);
      auto g = norms(te_tensors(step->grads, step->count));
      auto ratio = safe_ratio(trust * p, g + step->weight_decay * p + eps, (p > 0).logical_and(g > 0));
      at::_foreach_mul_(directions, rows(ratio));
    }
    at::_foreach_mul_(buffers, momentum);
    at::_foreach_add_(buffers, directions);
    at::_foreach_add_(params, buffers, -step->lr);
  })
}

// LAMB: Adam's direction, scaled by ‖p‖/‖direction‖ where weight decay applies.
char* te_lamb(const te_step* step, double beta1, double beta2, double eps) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto [params, grads, first, second, steps] = next_moments(*step);
    at::_foreach_lerp_(first, grads, 1 - beta1);
    at::_foreach_mul_(second, beta2);
    at::_foreach_addcmul_(second, grads, grads, 1 - beta2);
    auto taken = at::stack(steps).to(at::kDouble);
    auto type = params[0].scalar_type();
    auto correction1 = rows((1 - at::pow(beta1, taken)).to(type));
    auto correction2 = rows((1 - at::pow(beta2, taken)).sqrt().to(type));
    auto denominators = at::_foreach_sqrt(second);
    at::_foreach_div_(denominators, correction2);
    at::_foreach_add_(denominators, eps);
    auto directions = at::_foreach_div(first, correction1);
    at::_foreach_div_(directions, denominators);
    if (step->weight_decay != 0.0) {
      at::_foreach_add_(directions, params, step->weight_decay);
      auto p = norms(params);
      auto d = norms(directions);
      at::_foreach_mul_(directions, rows(safe_ratio(p, d, (p > 0).logical_and(d > 0))));
    }
    at::_foreach_add_(params, directions, -step->lr);
  })
}

// Moves each of `targets` towards its counterpart in `sources` by `weight` of the way.
char* te_lerp(at::Tensor* const* targets, at::Tensor* const* sources, size_t count, double weight) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto tensors = te_tensors(targets, count);
    at::_foreach_lerp_(tensors, te_tensors(sources, count), weight);
  })
}

// Scales `grads` so that their global norm is at most `max_norm`; `norm` becomes what it was, as a tensor, so that
// nobody has to wait for the device.
char* te_clip_grad_norm(at::Tensor* const* grads, size_t count, double max_norm, at::Tensor** norm) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto tensors = te_tensors(grads, count);
    auto total = norms(tensors).norm();
    at::_foreach_mul_(tensors, (max_norm / (total + 1e-6)).clamp_max(1.0));
    *norm = new at::Tensor(total);
  })
}

// Multiplies `grads` by 1/scale; `found_inf`, a single f32, becomes 1 where any of them was not finite.
char* te_unscale(at::Tensor* const* grads, size_t count, double scale, at::Tensor* found_inf) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto tensors = te_tensors(grads, count);
    auto inverse = at::full({}, 1.0 / scale, found_inf->options());
    at::_amp_foreach_non_finite_check_and_unscale_(tensors, *found_inf, inverse);
  })
}

}  // extern "C"
