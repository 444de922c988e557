// BatchNorm in training on a GPU, in one with the sum and the activation that often follow it, of one rank or of all: half as
// many passes over memory as libtorch's single operations take.

#include "rows.h"

#include "../process_group.h"
#include "../shim.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

namespace {

using namespace te_gpu;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Group = c10::intrusive_ptr<c10d::ProcessGroup>;

// N×C, or N×C×H×W with channels last: rows of C.
bool is_rows(const at::Tensor& x) {
  return x.dim() == 2 ? x.is_contiguous() : x.dim() == 4 && x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor like_rows(const at::Tensor& tensor, const at::Tensor& x) {
  const auto format = x.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  return tensor.to(x.scalar_type()).contiguous(format);
}

Grid merging(const Cut& cut) { return Cut::merging(cut.rows.channels, LARGE_BLOCK); }

// The statistics of this rank as one part: means, sums of squared distances from them, count. Of no rows it is zero.
void statistics_of(const at::Tensor& x, const Cut& cut, MergeStatistics& merge) {
  const auto parts = of_parts(cut, 2 * cut.rows.channels + 1, x.options().dtype(at::kFloat));
  launch(x.device(), cut.variant, cut.grid, Statistics{x.const_data_ptr(), data<float>(parts), cut.rows});
  merge.parts = data<float>(parts);
  merge.count = int(parts.size(0));
  launch(x.device(), cut.variant, merging(cut), merge);
}

struct GpuBatchNorm : torch::autograd::Function<GpuBatchNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias, const at::Tensor& running_mean, const at::Tensor& running_var,
                            const std::optional<at::Tensor>& residual, double momentum, double eps, int64_t activation,
                            const Group& group) {
    auto y = at::empty_like(x);
    const auto added = residual.value_or(at::Tensor());
    const Cut cut(x.numel() / x.size(1), x.size(1), x.device(), {x.scalar_type(), lanes_of(x.size(1), {x, added})});
    const auto channels = cut.rows.channels;
    const auto floats = x.options().dtype(at::kFloat);
    auto known = at::empty({KNOWN * channels + 1}, floats);
    MergeStatistics merge{};
    merge.channels = channels;
    merge.known = data<float>(known);
    merge.weight = data<float>(weight);
    merge.bias = data<float>(bias);
    merge.running_mean = data<float>(running_mean);
    merge.running_var = data<float>(running_var);
    merge.momentum = float(momentum);
    merge.epsilon = float(eps);
    if (group) {
      auto own = at::empty({2 * channels + 1}, floats);
      MergeStatistics local{};
      local.channels = channels;
      local.merged = data<float>(own);
      statistics_of(x, cut, local);
      auto gathered = at::empty({group->getSize(), own.numel()}, floats);
      std::vector<std::vector<at::Tensor>> outputs{gathered.unbind(0)};
      std::vector<at::Tensor> inputs{own};
      group->allgather(outputs, inputs)->wait();
      merge.parts = data<float>(gathered);
      merge.count = int(group->getSize());
      launch(x.device(), cut.variant, merging(cut), merge);
    } else {
      statistics_of(x, cut, merge);
    }
    // With a residual, x does not tell what the activation let through: a bit for each number does.
    at::Tensor open;
    if (residual && activation != IDENTITY) open = at::empty({x.numel() / cut.variant.lanes}, x.options().dtype(at::kByte));
    launch(x.device(), cut.variant, cut.grid,
           Normalize{x.const_data_ptr(), data<void>(added), data<float>(known), y.mutable_data_ptr(), data<byte>(open), cut.rows,
                     int(activation)});
    context->save_for_backward({x, known, open});
    context->saved_data["residual"] = residual.has_value();
    context->saved_data["activation"] = activation;
    context->saved_data["lanes"] = int64_t(cut.variant.lanes);
    if (group) context->saved_data["group"] = c10::IValue::make_capsule(group);  // alive as long as the graph
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "BatchNorm: its gradients cannot be differentiated again");
    const auto saved = context->get_saved_variables();
    auto &x = saved[0], &known = saved[1], &open = saved[2];
    const auto activation = int(context->saved_data["activation"].toInt());
    Group group;
    if (auto found = context->saved_data.find("group"); found != context->saved_data.end()) {
      group = c10::static_intrusive_pointer_cast<c10d::ProcessGroup>(found->second.toCapsule());
    }
    const auto lanes = int(context->saved_data["lanes"].toInt());
    auto dy = like_rows(grads[0], x);
    if (lanes_of(dy.size(1), {dy}) < lanes) dy = dy.clone();
    auto dx = at::empty_like(x);
    at::Tensor residual;
    if (context->saved_data["residual"].toBool()) residual = open.defined() ? at::empty_like(x) : dy;
    const Cut cut(x.numel() / x.size(1), x.size(1), x.device(), {x.scalar_type(), lanes});
    const auto channels = cut.rows.channels;
    const auto floats = known.options();

    const auto parts = of_parts(cut, 2 * channels, floats);
    launch(x.device(), cut.variant, cut.grid,
           SumGradient{x.const_data_ptr(), dy.const_data_ptr(), data<byte>(open), data<float>(known),
                       open.defined() ? residual.mutable_data_ptr() : nullptr, data<float>(parts), cut.rows, activation});
    auto of_layer = at::empty({4, channels}, floats);  // gradients of weight and bias, slope, level
    float* numbers = data<float>(of_layer);
    MergeGradient merge{data<float>(parts), int(parts.size(0)), channels, data<float>(known), nullptr, numbers,
                        numbers + channels, numbers + 2 * channels, numbers + 3 * channels};
    if (group) {
      auto sums = at::empty({2, channels}, floats);
      merge.merged = data<float>(sums);
      merge.slope = merge.level = nullptr;
      launch(x.device(), cut.variant, merging(cut), merge);
      std::vector<at::Tensor> tensors{sums};
      group->allreduce(tensors)->wait();
      MergeGradient all{data<float>(sums), 1, channels, data<float>(known), nullptr, nullptr, nullptr,
                        numbers + 2 * channels, numbers + 3 * channels};
      launch(x.device(), cut.variant, merging(cut), all);
    } else {
      launch(x.device(), cut.variant, merging(cut), merge);
    }
    const auto& dz = open.defined() ? residual : dy;
    launch(x.device(), cut.variant, cut.grid,
           InputGradient{x.const_data_ptr(), dz.const_data_ptr(), data<float>(known), numbers + 2 * channels,
                         numbers + 3 * channels, dx.mutable_data_ptr(), cut.rows,
                         open.defined() ? int(IDENTITY) : activation});
    const auto none = at::Tensor();
    return {dx, of_layer[0], of_layer[1], none, none, residual, none, none, none, none};
  }
};

bool takes(const at::Tensor& x) {
  return te_dense(x) && has_kernels(x.scalar_type()) && is_rows(x) && x.size(1) > 0;
}

}  // namespace

extern "C" {

// Whether te_gpu_batch_norm takes these; `residual` may be null.
bool te_gpu_batch_norm_takes(const at::Tensor* x, const at::Tensor* residual) {
  TE_ASK(takes(*x) && (!residual || (takes(*residual) && residual->scalar_type() == x->scalar_type() &&
                                     residual->sizes() == x->sizes() && residual->device() == x->device())))
}

// `out` becomes a new tensor. `residual` and `group` may be null. Tensors in host memory are taken too.
char* te_gpu_batch_norm(te_list input_weight_bias_mean_var, const at::Tensor* residual, double momentum, double eps,
                        int32_t activation, te_process_group* group, at::Tensor** out) {
  TE_CATCH({
    auto t = te_tensors(input_weight_bias_mean_var, 5, "tensors of a BatchNorm");
    TORCH_CHECK(te_gpu_batch_norm_takes(&t[0], residual), "BatchNorm wants rows of channels, got ", t[0].toString(),
                " of ", t[0].sizes());
    for (int i = 1; i < 5; ++i) {
      TORCH_CHECK(te_dense(t[i]) && t[i].scalar_type() == at::kFloat && t[i].is_contiguous() &&
                      t[i].numel() == t[0].size(1) && t[i].device() == t[0].device(),
                  "BatchNorm: ", t[0].size(1), " channels on ", t[0].device(), ", and ", t[i].numel(), " numbers of ",
                  t[i].toString());
    }
    TORCH_CHECK(group || t[0].numel() > 0, "BatchNorm: no values");
    TORCH_CHECK(!residual || activation == IDENTITY || activation == RELU || activation == RELU6,
                "BatchNorm: what has been added hides what the activation saw");
    std::optional<at::Tensor> added;
    if (residual) added = *residual;
    *out = new at::Tensor(
        GpuBatchNorm::apply(t[0], t[1], t[2], t[3], t[4], added, momentum, eps, int64_t(activation), group ? group->group : Group()));
  })
}

}  // extern "C"
