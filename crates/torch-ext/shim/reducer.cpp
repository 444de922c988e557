// c10d's Reducer, the engine of DistributedDataParallel.

#include "process_group.h"

#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/distributed/c10d/comm.hpp>
#include <torch/csrc/distributed/c10d/logger.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <unordered_map>

namespace {

// Sends gradients in a type of half the size, as PyTorch's fp16_compress_hook and bf16_compress_hook.
class CompressHook : public c10d::CppCommHookInterface<c10::intrusive_ptr<c10d::ProcessGroup>> {
 public:
  CompressHook(const c10::intrusive_ptr<c10d::ProcessGroup>& group, at::ScalarType type)
      : CppCommHookInterface(group), type_(type) {}

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    auto buffer = bucket.getBufferRef();
    // Divided first: the sum of many ranks may not fit in fp16.
    std::vector<at::Tensor> compressed = {buffer.to(type_).div_(state_->getSize())};
    auto decompress = [buffer](c10::ivalue::Future& future) {
      buffer.copy_(future.value().toTensorVector()[0]);
      return c10::IValue(buffer);
    };
    auto future = state_->allreduce(compressed)->getFuture();
    return future->then(decompress, c10::TensorType::get());
  }

 private:
  at::ScalarType type_;
};

}  // namespace

extern "C" {

// Calls Rust when the gradient of a parameter is there.
struct te_gradient_hooks {
  std::vector<std::pair<std::shared_ptr<torch::autograd::Node>, uintptr_t>> hooks;
};

// `call` gets `context` and the place of the parameter among `params`, in the thread that computes the gradient. It does not throw.
char* te_gradient_hooks_new(te_list params, void (*call)(void* context, size_t place), void* context,
                            te_gradient_hooks** out) {
  TE_CATCH({
    auto hooks = std::make_unique<te_gradient_hooks>();
    auto tensors = te_tensors(params);
    for (size_t place = 0; place < tensors.size(); ++place) {
      auto accumulator = torch::autograd::impl::grad_accumulator(tensors[place]);
      TORCH_CHECK(accumulator, "parameter ", place, " wants no gradient");
      auto tell = [call, context, place](const torch::autograd::variable_list& outputs,
                                         const torch::autograd::variable_list&) {
        call(context, place);
        return outputs;
      };
      const auto key = accumulator->add_post_hook(std::make_unique<torch::autograd::utils::LambdaPostHook>(tell));
      hooks->hooks.emplace_back(std::move(accumulator), key);
    }
    *out = hooks.release();
  })
}

void te_gradient_hooks_free(te_gradient_hooks* hooks) {
  for (auto& [accumulator, key] : hooks->hooks) accumulator->del_post_hook(key);
  delete hooks;
}

struct te_reducer {
  std::shared_ptr<c10d::Reducer> reducer;
  // For each parameter, whether its gradient has come since the last prepared pass, and what says so.
  std::shared_ptr<std::vector<char>> came;
  std::vector<std::pair<std::shared_ptr<torch::autograd::Node>, uintptr_t>> hooks;
  // Reducer writes to it unasked, and holds it weakly.
  std::shared_ptr<c10d::Logger> logger;
  // Whether a static graph's first exchange, which comes after the whole backward pass, is still to be arranged.
  std::shared_ptr<bool> first_exchange_is_due;
};

// DistributedDataParallel's choices. `compression` is a c10::ScalarType, or -1 for none.
struct te_reducer_options {
  int64_t first_bucket_bytes;
  int64_t bucket_bytes;
  int32_t compression;
  bool find_unused_parameters;
  bool static_graph;
};

// `names` are null-terminated, one a parameter, in the same order; there are `count`.
char* te_reducer_new(te_process_group* group, te_list params, const char* const* names, size_t count,
                     const te_reducer_options* options, te_reducer** out) {
  TE_CATCH({
    auto tensors = te_tensors(params, count, "parameters");
    std::vector<bool> expect_sparse(count, false);
    // As DistributedDataParallel does: all in one bucket until the first step has shown the order in which gradients
    // become ready (rebuild_buckets), unless a search for unused parameters keeps the first assignment.
    std::vector<size_t> limits = {std::numeric_limits<size_t>::max()};
    if (options->find_unused_parameters && !options->static_graph) {
      limits = {size_t(options->first_bucket_bytes), size_t(options->bucket_bytes)};
    }
    auto indices = std::get<0>(c10d::compute_bucket_assignment_by_size(tensors, limits, expect_sparse));
    std::reverse(indices.begin(), indices.end());
    std::unordered_map<size_t, std::string> param_names;
    for (size_t i = 0; i < count; ++i) param_names.emplace(i, names[i]);
    auto reducer = std::make_shared<c10d::Reducer>(
        tensors, indices, group->group, expect_sparse, options->bucket_bytes, options->find_unused_parameters,
        /*gradient_as_bucket_view=*/true, param_names, options->first_bucket_bytes,
        /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
        /*bucket_bytes_cap_list=*/std::vector<int64_t>());
    auto logger = std::make_shared<c10d::Logger>(reducer);
    reducer->set_logger(logger);
    if (options->compression >= 0) {
      reducer->register_comm_hook(
          std::make_unique<CompressHook>(group->group, at::ScalarType(options->compression)));
    }
    if (options->static_graph) reducer->set_static_graph();
    auto came = std::make_shared<std::vector<char>>(count, char(false));
    std::vector<std::pair<std::shared_ptr<torch::autograd::Node>, uintptr_t>> hooks;
    for (size_t i = 0; i < count; ++i) {
      // After Reducer's own.
      auto accumulator = torch::autograd::impl::grad_accumulator(tensors[i]);
      if (!accumulator) continue;
      auto note = [came, i](const torch::autograd::variable_list& outputs, const torch::autograd::variable_list&) {
        (*came)[i] = true;
        return outputs;
      };
      const auto key = accumulator->add_post_hook(std::make_unique<torch::autograd::utils::LambdaPostHook>(note));
      hooks.emplace_back(std::move(accumulator), key);
    }
    *out = new te_reducer{reducer, came, std::move(hooks), logger, std::make_shared<bool>(options->static_graph)};
  })
}

void te_reducer_free(te_reducer* reducer) {
  try {
    reducer->reducer->remove_autograd_hooks();
    for (auto& [accumulator, key] : reducer->hooks) accumulator->del_post_hook(key);
  } catch (...) {
    // The hooks die with the parameters.
  }
  delete reducer;
}

char* te_reducer_prepare_for_forward(te_reducer* reducer, bool* rebuilt) {
  TE_CATCH({
    std::fill(reducer->came->begin(), reducer->came->end(), char(false));
    reducer->reducer->prepare_for_forward();
    *rebuilt = reducer->reducer->rebuild_buckets();
  })
}

// For each of `count` parameters, whether its gradient has come since the last prepared pass: the exchange waits for the others.
char* te_reducer_came(te_reducer* reducer, bool* out, size_t count) {
  TE_CATCH({
    TORCH_CHECK(count == reducer->came->size(), count, " parameters of ", reducer->came->size());
    std::copy(reducer->came->begin(), reducer->came->end(), out);
  })
}

// `outputs` are those of the forward pass: `search` looks for the parameters that they do not depend on.
char* te_reducer_prepare_for_backward(te_reducer* reducer, te_list outputs, bool search) {
  TE_CATCH({
    auto tensors = te_tensors(outputs);
    reducer->reducer->prepare_for_backward(search ? tensors : std::vector<at::Tensor>());
    if (!*reducer->first_exchange_is_due) return nullptr;
    // In its first pass a static graph only counts how often each gradient is added to. All-reduces start when the
    // pass is over: the hook of the first output that backward reaches sees to it.
    for (auto& tensor : tensors) {
      if (!tensor.requires_grad()) continue;
      auto hook = [due = reducer->first_exchange_is_due, engine = reducer->reducer](const at::Tensor&) {
        if (!*due) return;
        *due = false;
        torch::autograd::Engine::get_default_engine().queue_callback([engine] { engine->delay_all_reduce(); });
      };
      tensor.register_hook(hook);
    }
  })
}

// Drops the gradients, so that backward need not add to zeros.
char* te_drop_grads(te_list params) {
  TE_CATCH({
    for (auto& tensor : te_tensors(params)) {
      if (tensor.grad().defined()) tensor.mutable_grad() = at::Tensor();
    }
  })
}

// Gives each parameter its gradient, in the place of the one that it has, if any.
char* te_set_grads(te_list params, te_list grads) {
  TE_CATCH({
    auto tensors = te_tensors(params);
    auto gradients = te_tensors(grads, tensors.size(), "gradients");
    for (size_t i = 0; i < tensors.size(); ++i) tensors[i].mutable_grad() = gradients[i];
  })
}

}  // extern "C"
