// ATen's fused optimizer steps, which tch does not bind.

#include "shim.h"

#include <ATen/Context.h>
#include <ATen/ops/_fused_sgd.h>
#include <c10/core/GradMode.h>

extern "C" {

// One step over all tensors. `momentum_buffers` has `count` tensors, or is null when `momentum` is 0.
char* te_fused_sgd(at::Tensor* const* params, at::Tensor* const* grads, at::Tensor* const* momentum_buffers,
                   size_t count, double weight_decay, double momentum, double lr, double dampening, bool nesterov,
                   bool is_first_step) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto buffers = momentum_buffers ? te_tensors(momentum_buffers, count) : std::vector<at::Tensor>();
    at::_fused_sgd_(te_tensors(params, count), te_tensors(grads, count), buffers, weight_decay, momentum, lr, dampening,
                    nesterov, /*maximize=*/false, is_first_step);
  })
}

// The trade-off between speed and repeatable results: cuDNN's search for the fastest algorithm, and algorithms whose
// results do not depend on the order of threads.
void te_set_cudnn(bool benchmark, bool deterministic) {
  at::globalContext().setBenchmarkCuDNN(benchmark);
  at::globalContext().setDeterministicCuDNN(deterministic);
}

}  // extern "C"
