// ATen's fused optimizer steps and multi-tensor operations, which tch does not bind.

#include "shim.h"

#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_amp_update_scale.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_addcmul.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_foreach_div.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_foreach_sign.h>
#include <ATen/ops/_foreach_sqrt.h>
#include <ATen/ops/_foreach_sub.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace {

// max(Σ‖t‖², 0)^½ of each tensor is a scalar tensor; here they are one, in single precision or better.
at::Tensor norms(const std::vector<at::Tensor>& tensors) {
  return at::stack(at::_foreach_norm(tensors, 2));
}

// A tensor of one number as a scalar.
at::Tensor number(const at::Tensor* handle) { return te_tensor(handle).reshape({-1})[0]; }

// As a list again, for the multi-tensor operations.
std::vector<at::Tensor> rows(const at::Tensor& values) { return values.unbind(0); }

// 1 where the ratio means nothing: a tensor of zeros, or no gradient.
at::Tensor safe_ratio(const at::Tensor& numerator, const at::Tensor& denominator, const at::Tensor& valid) {
  return at::where(valid, numerator / denominator, at::ones_like(numerator));
}

}  // namespace

extern "C" {

// Tensors of one optimizer step. A list that a rule does not use is empty; the others are as long as `params`.
struct te_step {
  te_list params;
  te_list grads;
  te_list first;   // momentum, or the mean of gradients
  te_list second;  // the mean of squared gradients
  te_list third;   // what is kept besides
  te_list steps;   // steps taken before this one, as scalars of single precision
  // A number of single precision beside the parameters, or null: where it is 1 nothing changes. Nobody waits for it.
  const at::Tensor* skip;
  // The learning rate as a number of single precision beside the parameters, or null, and then it is `lr`.
  const at::Tensor* rate;
  double lr;
  double weight_decay;
};

}  // extern "C"

namespace {

// Whether both have the same shape and type, on the same device.
bool same_kind(const at::Tensor& a, const at::Tensor& b) {
  return te_dense(b) && a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() && a.device() == b.device();
}

// Whether element i of two tensors of the same shape lies at the same place. Where a dimension has one element, its stride
// means nothing.
bool same_order(const at::Tensor& a, const at::Tensor& b) {
  for (int64_t d = 0; d < a.dim(); ++d) {
    if (a.size(d) > 1 && a.stride(d) != b.stride(d)) return false;
  }
  return true;
}

// The tensors of a step. libtorch's fused kernels go through the memory of all lists side by side, as far as the parameters
// reach, and on the CPU check nothing of it: so it is checked here.
struct Tensors {
  std::vector<at::Tensor> params, grads, first, second, steps;

  // `moments` of first and second are wanted.
  Tensors(const te_step& step, int moments, bool counts)
      : params(te_tensors(step.params)),
        grads(te_tensors(step.grads, params.size(), "gradients")),
        first(te_tensors(step.first, moments > 0 ? params.size() : 0, "first moments")),
        second(te_tensors(step.second, moments > 1 ? params.size() : 0, "second moments")),
        steps(te_tensors(step.steps, counts ? params.size() : 0, "counts of steps")) {
    TORCH_CHECK(!params.empty(), "a step of no parameters");
    for (size_t i = 0; i < params.size(); ++i) {
      const auto& param = params[i];
      TORCH_CHECK(te_dense(param) && param.is_non_overlapping_and_dense(), "parameter ", i, " of ", param.sizes(),
                  " has gaps or overlaps in memory");
      TORCH_CHECK(same_kind(param, grads[i]), "the gradient of parameter ", i, " is ", grads[i].toString(), " of ",
                  grads[i].sizes(), ", the parameter ", param.toString(), " of ", param.sizes());
      if (!same_order(param, grads[i])) grads[i] = at::empty_like(param).copy_(grads[i]);
      for (auto* list : {&first, &second}) {
        if (list->empty()) continue;
        auto& moment = (*list)[i];
        TORCH_CHECK(same_kind(param, moment) && moment.is_non_overlapping_and_dense(), "a moment of parameter ", i,
                    " is ", moment.toString(), " of ", moment.sizes(), ", the parameter ", param.toString(), " of ",
                    param.sizes());
        TORCH_CHECK(same_order(param, moment), "parameter ", i, " of ", param.sizes(),
                    " lies in another order than its moments: its memory format was changed after the first step");
      }
      TORCH_CHECK(!counts || (te_dense(steps[i]) && steps[i].numel() == 1 && steps[i].scalar_type() == at::kFloat &&
                              steps[i].device() == param.device()),
                  "the count of steps of parameter ", i, " is no single number of single precision beside it");
    }
  }
};

// What Adam and its kin work on, with this step counted, if it is made.
Tensors next_moments(const te_step& step) {
  Tensors tensors(step, /*moments=*/2, /*counts=*/true);
  at::_foreach_add_(tensors.steps, 1);
  if (step.skip) at::_foreach_add_(tensors.steps, number(step.skip), /*alpha=*/-1);
  return tensors;
}

// The number of steps that each parameter has taken, with this one, in double precision.
at::Tensor counted(const std::vector<at::Tensor>& steps) { return at::stack(steps).to(at::kDouble); }

// Weight decay apart from the gradient.
void decay(const te_step& step, const std::vector<at::Tensor>& params) {
  if (step.weight_decay == 0.0) return;
  if (!step.rate) return at::_foreach_mul_(params, 1 - step.lr * step.weight_decay);
  at::_foreach_mul_(params, 1 - number(step.rate) * step.weight_decay);
}

// The learning rate, in double precision beside the parameters.
at::Tensor rate_of(const te_step& step, const at::Tensor& param) {
  const auto options = param.options().dtype(at::kDouble);
  return step.rate ? number(step.rate).to(at::kDouble) : at::full({}, step.lr, options);
}

// A row or a column of the state must be what the rule made.
void check_state(const at::Tensor& kept, at::IntArrayRef sizes, const at::Tensor& param) {
  TORCH_CHECK(te_dense(kept) && kept.sizes() == sizes && kept.scalar_type() == param.scalar_type() &&
                  kept.device() == param.device(),
              "a state is ", kept.toString(), " of ", kept.sizes(), " where one of ", sizes, " is wanted");
}

// The nearest matrix whose directions are all as long, by five steps of a Newton–Schulz iteration in bfloat16, whose steepest
// polynomial leaves lengths of 0.7 to 1.2 (Jordan, 2024).
at::Tensor orthogonalized(const at::Tensor& matrix) {
  const bool is_tall = matrix.size(0) > matrix.size(1);
  auto x = matrix.to(at::kBFloat16);
  if (is_tall) x = x.t();
  x = x / x.norm().clamp_min(1e-7);
  for (int i = 0; i < 5; ++i) {
    const auto gram = at::mm(x, x.t());
    x = at::addmm(x, at::addmm(gram, gram, gram, /*beta=*/-4.7750, /*alpha=*/2.0315), x, /*beta=*/3.4445);
  }
  return is_tall ? x.t() : x;
}

// The fused kernels' name for it.
std::optional<at::Tensor> found_inf(const te_step& step) {
  return step.skip ? std::optional<at::Tensor>(number(step.skip)) : std::nullopt;
}

// Moves each of `params` by the learning rate against its direction.
void descend(const te_step& step, const std::vector<at::Tensor>& params, const std::vector<at::Tensor>& directions) {
  if (!step.rate) return at::_foreach_add_(params, directions, -step.lr);
  at::_foreach_add_(params, at::_foreach_mul(directions, -number(step.rate)));
}

// Puts `tensors` back to what they were, where the step is not made: chosen, never multiplied, since 0·NaN is NaN.
class Undo {
 public:
  Undo(const at::Tensor* skip, std::vector<at::Tensor> tensors) : tensors_(std::move(tensors)) {
    if (!skip) return;
    skip_ = number(skip) != 0;
    for (auto& tensor : tensors_) before_.push_back(tensor.clone());
  }

  void where_skipped() {
    for (size_t i = 0; i < before_.size(); ++i) at::where_out(tensors_[i], skip_, before_[i], tensors_[i]);
  }

 private:
  at::Tensor skip_;
  std::vector<at::Tensor> tensors_, before_;
};

std::vector<at::Tensor> joined(std::vector<at::Tensor> list, const std::vector<at::Tensor>& other) {
  list.insert(list.end(), other.begin(), other.end());
  return list;
}

}  // namespace

extern "C" {

char* te_sgd(const te_step* step, double momentum, bool nesterov, bool is_first_step) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    const Tensors all(*step, /*moments=*/momentum == 0.0 ? 0 : 1, /*counts=*/false);
    const auto run = [&](const auto& lr) {
      at::_fused_sgd_(all.params, all.grads, all.first, step->weight_decay, momentum, lr, /*dampening=*/0.0, nesterov,
                      /*maximize=*/false, is_first_step, {}, found_inf(*step));
    };
    step->rate ? run(number(step->rate)) : run(step->lr);
  })
}

// Adam, or with `decoupled` weight decay AdamW.
char* te_adam(const te_step* step, double beta1, double beta2, double eps, bool decoupled) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    const auto all = next_moments(*step);
    const auto run = [&](const auto& lr) {
      if (decoupled) {
        at::_fused_adamw_(all.params, all.grads, all.first, all.second, {}, all.steps, lr, beta1, beta2,
                          step->weight_decay, eps, /*amsgrad=*/false, /*maximize=*/false, {}, found_inf(*step));
      } else {
        at::_fused_adam_(all.params, all.grads, all.first, all.second, {}, all.steps, lr, beta1, beta2,
                         step->weight_decay, eps, /*amsgrad=*/false, /*maximize=*/false, {}, found_inf(*step));
      }
    };
    step->rate ? run(number(step->rate)) : run(step->lr);
  })
}

// LARS: the step of each tensor is scaled by trust·‖p‖/(‖g‖ + weight_decay·‖p‖) where weight decay applies.
char* te_lars(const te_step* step, double momentum, double trust, double eps) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto [params, grads, buffers, none, steps] = Tensors(*step, /*moments=*/1, /*counts=*/false);
    Undo undo(step->skip, joined(params, buffers));
    auto directions = at::_foreach_add(grads, params, step->weight_decay);
    if (step->weight_decay != 0.0) {
      auto p = norms(params);
      auto g = norms(grads);
      auto ratio = safe_ratio(trust * p, g + step->weight_decay * p + eps, (p > 0).logical_and(g > 0));
      at::_foreach_mul_(directions, rows(ratio));
    }
    at::_foreach_mul_(buffers, momentum);
    at::_foreach_add_(buffers, directions);
    descend(*step, params, buffers);
    undo.where_skipped();
  })
}

// LAMB: Adam's direction, scaled by ‖p‖/‖direction‖ where weight decay applies.
char* te_lamb(const te_step* step, double beta1, double beta2, double eps) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto [params, grads, first, second, steps] = next_moments(*step);
    Undo undo(step->skip, joined(params, joined(first, second)));
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
    descend(*step, params, directions);
    undo.where_skipped();
  })
}

// NAdam, or with `decoupled` weight decay NAdamW. `third` is the product of all momenta so far, of each parameter.
char* te_nadam(const te_step* step, double beta1, double beta2, double eps, double momentum_decay, bool decoupled) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto [params, grads, first, second, steps] = next_moments(*step);
    const auto products = te_tensors(step->third, params.size(), "products of momenta");
    for (const auto& product : products) {
      TORCH_CHECK(te_dense(product) && product.numel() == 1 && product.scalar_type() == at::kFloat,
                  "a product of momenta is no single number of single precision");
    }
    Undo undo(step->skip, joined(joined(params, products), joined(first, second)));
    if (decoupled) {
      decay(*step, params);
    } else if (step->weight_decay != 0.0) {
      grads = at::_foreach_add(grads, params, step->weight_decay);
    }
    at::_foreach_lerp_(first, grads, 1 - beta1);
    at::_foreach_mul_(second, beta2);
    at::_foreach_addcmul_(second, grads, grads, 1 - beta2);
    const auto taken = counted(steps);
    const auto momentum = [&](const at::Tensor& at) { return beta1 * (1 - 0.5 * at::pow(0.96, at * momentum_decay)); };
    const auto now = momentum(taken);
    const auto next = momentum(taken + 1);
    at::_foreach_mul_(products, rows(now.to(at::kFloat)));
    const auto product = at::stack(products).to(at::kDouble);
    auto denominators = at::_foreach_sqrt(second);
    const auto type = params[0].scalar_type();
    at::_foreach_div_(denominators, rows((1 - at::pow(beta2, taken)).sqrt().to(type)));
    at::_foreach_add_(denominators, eps);
    auto directions = at::_foreach_mul(grads, rows(((1 - now) / (1 - product)).to(type)));
    at::_foreach_add_(directions, at::_foreach_mul(first, rows((next / (1 - product * next)).to(type))));
    at::_foreach_div_(directions, denominators);
    descend(*step, params, directions);
    undo.where_skipped();
  })
}

// Schedule-free AdamW. `params` are where gradients are taken, `first` where the steps lead, and of each parameter `third` is the highest
// learning rate so far and the sum of the weights of all steps.
char* te_schedule_free(const te_step* step, double beta1, double beta2, double eps) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto [params, grads, ends, squares, steps] = next_moments(*step);
    const auto averages = te_tensors(step->third, params.size(), "weights of steps");
    for (const auto& average : averages) {
      TORCH_CHECK(te_dense(average) && average.numel() == 2 && average.scalar_type() == at::kDouble,
                  "the weights of steps are no two numbers of double precision");
    }
    Undo undo(step->skip, joined(joined(params, averages), joined(ends, squares)));
    at::_foreach_mul_(squares, beta2);
    at::_foreach_addcmul_(squares, grads, grads, 1 - beta2);
    const auto type = params[0].scalar_type();
    auto denominators = at::_foreach_div(squares, rows((1 - at::pow(beta2, counted(steps))).to(type)));
    at::_foreach_sqrt_(denominators);
    at::_foreach_add_(denominators, eps);
    auto directions = at::_foreach_div(grads, denominators);
    if (step->weight_decay != 0.0) at::_foreach_add_(directions, params, step->weight_decay);
    const auto rate = rate_of(*step, params[0]);
    const auto kept = at::stack(averages);
    const auto highest = at::maximum(kept.select(1, 0), rate);
    const auto weight = highest * highest;
    const auto sum = kept.select(1, 1) + weight;
    at::_foreach_copy_(averages, rows(at::stack({highest, sum}, /*dim=*/1)));
    const auto share = at::where(sum > 0, weight / sum, at::zeros_like(sum));
    auto ways = at::_foreach_sub(ends, params);
    at::_foreach_mul_(ways, rows(share.to(type)));
    at::_foreach_add_(params, ways);
    at::_foreach_add_(params, at::_foreach_mul(directions, rows((rate * (beta1 * (1 - share) - 1)).to(type))));
    descend(*step, ends, directions);
    undo.where_skipped();
  })
}

// Lion.
char* te_lion(const te_step* step, double beta1, double beta2) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto [params, grads, momenta, none, steps] = Tensors(*step, /*moments=*/1, /*counts=*/false);
    Undo undo(step->skip, joined(params, momenta));
    decay(*step, params);
    auto directions = at::_foreach_mul(momenta, beta1);
    at::_foreach_add_(directions, grads, 1 - beta1);
    at::_foreach_sign_(directions);
    descend(*step, params, directions);
    at::_foreach_mul_(momenta, beta2);
    at::_foreach_add_(momenta, grads, 1 - beta2);
    undo.where_skipped();
  })
}

// Adafactor. Of parameters of several axes `first` and `second` are the variances of the rows and of the columns of the last two,
// of others `first` is the variance.
char* te_adafactor(const te_step* step, double beta2_decay, double least_scale, double clip) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto without_variances = *step;  // whose shapes are others than the parameters'
    without_variances.first = without_variances.second = {};
    auto [params, grads, none, neither, steps] = Tensors(without_variances, /*moments=*/0, /*counts=*/true);
    const bool is_factored = params[0].dim() > 1;
    const auto first = te_tensors(step->first, params.size(), "variances");
    const auto second = te_tensors(step->second, is_factored ? params.size() : 0, "variances of columns");
    at::_foreach_add_(steps, 1);
    if (step->skip) at::_foreach_add_(steps, number(step->skip), /*alpha=*/-1);
    Undo undo(step->skip, joined(params, joined(first, second)));
    for (size_t i = 0; i < params.size(); ++i) {
      const auto &param = params[i], &grad = grads[i];
      TORCH_CHECK((param.dim() > 1) == is_factored, "parameters of one axis and of several in one list");
      const double epsilon = param.scalar_type() == at::kDouble ? std::numeric_limits<double>::epsilon()
                                                                : std::numeric_limits<float>::epsilon();
      const auto rate = rate_of(*step, param);
      const auto taken = steps[i].to(at::kDouble);
      const auto weight = at::pow(taken, beta2_decay).to(param.scalar_type());
      const auto farthest = at::minimum(rate, at::rsqrt(taken));
      const auto scale = (param.norm().to(at::kDouble) / std::sqrt(double(param.numel()))).clamp_min(least_scale);
      if (step->weight_decay != 0.0) param.mul_((1 - rate * step->weight_decay).to(param.scalar_type()));
      at::Tensor variance;
      if (is_factored) {
        auto rows_shape = param.sizes().vec(), columns_shape = rows_shape;
        rows_shape.back() = 1;
        columns_shape[columns_shape.size() - 2] = 1;
        check_state(first[i], rows_shape, param);
        check_state(second[i], columns_shape, param);
        const auto mean = [&](int64_t axis) { return at::norm(grad, 2, {axis}, true).square_().div_(grad.size(axis)); };
        first[i].lerp_(mean(-1), weight);
        second[i].lerp_(mean(-2), weight);
        variance = at::matmul(first[i], second[i]).div_(first[i].mean({-2}, /*keepdim=*/true).clamp_min_(epsilon));
      } else {
        check_state(first[i], param.sizes(), param);
        first[i].lerp_(grad * grad, weight);
        variance = first[i].clone();
      }
      auto update = variance.clamp_min_(epsilon * epsilon).rsqrt_().mul_(grad);
      const auto length = (update.norm().to(at::kDouble) / (std::sqrt(double(update.numel())) * clip)).clamp_min(1.0);
      param.sub_(update.mul_((scale * farthest / length).to(param.scalar_type())));
    }
    undo.where_skipped();
  })
}

// Muon, of matrices: a filter is the row of its output channel. Steps are as long as AdamW's: its learning rate and decay fit.
char* te_muon(const te_step* step, double momentum) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto [params, grads, buffers, none, steps] = Tensors(*step, /*moments=*/1, /*counts=*/false);
    Undo undo(step->skip, joined(params, buffers));
    decay(*step, params);
    at::_foreach_lerp_(buffers, grads, 1 - momentum);
    auto directions = at::_foreach_lerp(grads, buffers, momentum);
    for (size_t i = 0; i < params.size(); ++i) {
      TORCH_CHECK(params[i].dim() > 1 && params[i].numel() > 0, "parameter ", i, " of ", params[i].sizes(), " is no matrix");
      const auto matrix = directions[i].reshape({params[i].size(0), -1});
      const double length = 0.2 * std::sqrt(double(std::max(matrix.size(0), matrix.size(1))));
      directions[i] = orthogonalized(matrix).to(params[i].scalar_type()).mul_(length).view(params[i].sizes());
    }
    descend(*step, params, directions);
    undo.where_skipped();
  })
}

// Adds a number to every element of each of them.
char* te_each_add(te_list tensors, int64_t number) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto all = te_tensors(tensors);
    if (!all.empty()) at::_foreach_add_(all, number);
  })
}

// Makes each of `targets` what its counterpart in `sources` is.
char* te_each_copy(te_list targets, te_list sources) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto all = te_tensors(targets);
    if (!all.empty()) at::_foreach_copy_(all, te_tensors(sources, all.size(), "tensors to copy"));
  })
}

// Moves each of `targets` towards its counterpart in `sources` by `weight` of the way; by nothing where `skip`, which may be
// null, is 1: the sources must be finite then, too.
char* te_lerp(te_list targets, te_list sources, double weight, const at::Tensor* skip) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto tensors = te_tensors(targets);
    auto towards = te_tensors(sources, tensors.size(), "tensors to move towards");
    if (!skip) {
      at::_foreach_lerp_(tensors, towards, weight);
      return nullptr;
    }
    auto ways = at::_foreach_sub(towards, tensors);
    at::_foreach_mul_(ways, (1 - number(skip)) * weight);
    at::_foreach_add_(tensors, ways);
  })
}

// Scales `grads` so that their global norm is at most `max_norm`; `norm` becomes what it was, as a tensor, so that
// nobody has to wait for the device.
char* te_clip_grad_norm(te_list grads, double max_norm, at::Tensor** norm) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto tensors = te_tensors(grads);
    auto total = norms(tensors).norm();
    at::_foreach_mul_(tensors, (max_norm / (total + 1e-6)).clamp_max(1.0));
    *norm = new at::Tensor(total);
  })
}

// Multiplies `grads` by 1/scale; `found_inf`, as `scale` a single f32 beside them, becomes 1 where any of them was not finite.
char* te_unscale(te_list grads, const at::Tensor* scale, const at::Tensor* found_inf) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto tensors = te_tensors(grads);
    at::Tensor found = te_tensor(found_inf);
    auto inverse = te_tensor(scale).to(at::kDouble).reciprocal().to(at::kFloat);
    at::_amp_foreach_non_finite_check_and_unscale_(tensors, found, inverse);
  })
}

// Adapts `scale` (one f32) and the count of good steps since it changed (one i32) to whether a step found what is not finite.
// Where `skip`, which may be null, is 1 and nothing was found, the step tells nothing, and both stay.
char* te_update_scale(const at::Tensor* scale, const at::Tensor* good_steps, const at::Tensor* found_inf,
                      const at::Tensor* skip, double growth, double backoff, int64_t interval) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    at::Tensor scales = te_tensor(scale), counts = te_tensor(good_steps);
    Undo undo(skip, {scales, counts});
    at::_amp_update_scale_(scales, counts, te_tensor(found_inf), growth, backoff, interval);
    undo.where_skipped();
  })
}

}  // extern "C"
