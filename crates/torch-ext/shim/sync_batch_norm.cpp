// BatchNorm over the batches of all ranks.

#include "process_group.h"

#include <ATen/ops/batch_norm.h>
#include <ATen/ops/native_batch_norm_backward.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// All dimensions but the channels'.
std::vector<int64_t> reduced_dimensions(const at::Tensor& input) {
  std::vector<int64_t> dimensions;
  for (int64_t d = 0; d < input.dim(); ++d) {
    if (d != 1) dimensions.push_back(d);
  }
  return dimensions;
}

// What statistics are computed in: double stays double, half precision becomes single.
at::ScalarType statistics_type(const at::Tensor& input) {
  return input.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// The statistics of one rank are (mean, variance, count); a rank without samples has count 0. Their merge is exact for
// any counts: the variance of the whole is the mean of the variances and of the squared distances of the means.
struct OfAllRanks {
  at::Tensor mean, var, count;
};

OfAllRanks of_all_ranks(const at::Tensor& input, c10d::ProcessGroup& group) {
  const auto channels = input.size(1);
  const auto options = input.options().dtype(statistics_type(input));
  const auto count = input.numel() / channels;
  auto local = at::zeros({2 * channels + 1}, options);
  if (count > 0) {
    auto [var, mean] = at::var_mean(input.to(options), reduced_dimensions(input), /*correction=*/0);
    local.narrow(0, 0, channels).copy_(mean);
    local.narrow(0, channels, channels).copy_(var);
    local[2 * channels].fill_(double(count));
  }
  auto gathered = at::empty({group.getSize(), local.numel()}, options);
  std::vector<std::vector<at::Tensor>> outputs{gathered.unbind(0)};
  std::vector<at::Tensor> inputs{local};
  group.allgather(outputs, inputs)->wait();
  // C-sized sums, in double: counts of a thousand ranks are not exact in single precision.
  auto all = gathered.to(at::kDouble);
  auto means = all.narrow(1, 0, channels);
  auto vars = all.narrow(1, channels, channels);
  auto counts = all.narrow(1, 2 * channels, 1);
  auto total = counts.sum();
  auto mean = (means * counts).sum(0) / total;
  auto var = ((vars + (means - mean).square()) * counts).sum(0) / total;
  return {mean, var, total};
}

struct SyncBatchNorm : torch::autograd::Function<SyncBatchNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                            const at::Tensor& bias, const at::Tensor& running_mean, const at::Tensor& running_var,
                            double momentum, double eps,
                            const c10::intrusive_ptr<c10d::ProcessGroup>& group) {
    auto [mean, var, count] = of_all_ranks(input, *group);
    if (running_mean.defined()) {
      // The running variance is that of the population, as in BatchNorm.
      auto unbiased = var * (count / (count - 1).clamp_min(1));
      at::Tensor(running_mean).lerp_(mean.to(running_mean.scalar_type()), momentum);
      at::Tensor(running_var).lerp_(unbiased.to(running_var.scalar_type()), momentum);
    }
    mean = mean.to(statistics_type(input));
    var = var.to(statistics_type(input));
    context->save_for_backward({input, weight, mean, var, count});
    context->saved_data["eps"] = eps;
    context->saved_data["group"] = c10::IValue::make_capsule(group);  // alive as long as the graph
    // Evaluation's kernel: normalizes by given statistics.
    return at::batch_norm(input, weight, bias, mean, var, /*training=*/false, 0.0, eps, /*cudnn_enabled=*/true);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    auto saved = context->get_saved_variables();
    auto &input = saved[0], &weight = saved[1], &mean = saved[2], &var = saved[3], &count = saved[4];
    const auto eps = context->saved_data["eps"].toDouble();
    auto group = c10::static_intrusive_pointer_cast<c10d::ProcessGroup>(context->saved_data["group"].toCapsule());
    const auto grad = grads[0].contiguous(input.suggest_memory_format());
    const auto channels = input.size(1);
    const auto type = statistics_type(input);

    // sums[0] is Σ dy·(x − mean)/σ, sums[1] is Σ dy: of this rank they are the gradients of weight and bias.
    auto sums = at::zeros({2, channels}, input.options().dtype(statistics_type(input)));
    if (input.numel() > 0) {
      // Statistics once more, as they would be saved: CUDA's kernel takes them from there.
      auto local = at::native_batch_norm_backward(grad, input, weight, mean, var, mean, (var + eps).rsqrt(),
                                                  /*train=*/false, eps, {false, true, true});
      sums[0].copy_(std::get<1>(local));
      sums[1].copy_(std::get<2>(local));
    }
    auto grad_weight = sums[0].clone().to(weight.scalar_type());
    auto grad_bias = sums[1].clone().to(weight.scalar_type());
    std::vector<at::Tensor> tensors{sums};
    group->allreduce(tensors)->wait();

    // dx = γ/σ · (dy − mean(dy) − x̂·mean(dy·x̂)), written as dy·a + (x − mean)·b + c with a, b, c for each channel.
    auto means = sums.to(at::kDouble) / count;
    auto inverse = (var.to(at::kDouble) + eps).rsqrt();
    auto a = weight.to(at::kDouble) * inverse;
    auto b = -a * inverse * means[0];
    auto c = -a * means[1];
    auto shaped = [&](const at::Tensor& values) {
      std::vector<int64_t> shape(input.dim(), 1);
      shape[1] = channels;
      return values.to(type).view(shape);
    };
    auto centred = input.to(type) - shaped(mean);
    auto grad_input = at::addcmul(shaped(c), centred, shaped(b)).addcmul_(grad.to(type), shaped(a));
    auto none = at::Tensor();
    return {grad_input.to(input.scalar_type()), grad_weight, grad_bias, none, none, none, none, none};
  }
};

}  // namespace

extern "C" {

// `out` becomes a new tensor; its graph keeps the group alive.
char* te_sync_batch_norm(te_process_group* group, te_list input_weight_bias_mean_var, double momentum, double eps,
                         at::Tensor** out) {
  TE_CATCH({
    auto t = te_tensors(input_weight_bias_mean_var, 5, "tensors of a BatchNorm");
    TORCH_CHECK(t[0].dim() >= 2, "synchronized BatchNorm wants N×C×…, got ", t[0].dim(), " dimensions");
    // Before anything is sent: a rank that fails later leaves the others waiting.
    TORCH_CHECK(t[0].size(1) > 0, "synchronized BatchNorm wants channels, got ", t[0].sizes());
    for (int i = 1; i < 5; ++i) {
      TORCH_CHECK(t[i].dim() == 1 && t[i].size(0) == t[0].size(1) && t[i].device() == t[0].device(),
                  "synchronized BatchNorm: ", t[0].size(1), " channels on ", t[0].device(), ", and numbers of ",
                  t[i].sizes(), " on ", t[i].device());
    }
    *out = new at::Tensor(SyncBatchNorm::apply(t[0], t[1], t[2], t[3], t[4], momentum, eps, group->group));
  })
}

}  // extern "C"
