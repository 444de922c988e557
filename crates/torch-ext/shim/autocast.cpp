// Weights in autocast's type, all of them by one call.

#include "shim.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdint>

namespace {

// A copy that was made before, and the way back from its gradient to that of what it was made of: as a cast's.
class CastBefore : public torch::autograd::Function<CastBefore> {
 public:
  struct Copy {
    at::Tensor tensor; // in a struct, so that it counts as no input
  };

  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor&, const Copy& copy) { return copy.tensor; }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*, torch::autograd::variable_list gradients) {
    return {gradients[0].to(at::kFloat), at::Tensor()};
  }
};

// Where a copy begins in memory: at multiples that every kernel for such numbers takes.
constexpr int64_t ALIGNED = 64;

// Copies of what is dense, with its strides, one after the other in one piece of memory.
std::vector<at::Tensor> copies(const std::vector<at::Tensor>& tensors, at::ScalarType type) {
  // Plain tensors, no views of the piece to autograd: each is used, and freed from the graph, by itself.
  const at::AutoDispatchBelowADInplaceOrView no_views;
  std::vector<int64_t> starts;
  int64_t length = 0;
  for (const auto& tensor : tensors) {
    starts.push_back(length);
    length += (tensor.numel() + ALIGNED - 1) / ALIGNED * ALIGNED;
  }
  const auto piece = at::empty({length}, tensors[0].options().dtype(type).requires_grad(false));
  std::vector<at::Tensor> copies;
  for (size_t i = 0; i < tensors.size(); ++i) {
    copies.push_back(piece.as_strided(tensors[i].sizes(), tensors[i].strides(), starts[i]));
  }
  at::_foreach_copy_(copies, tensors);
  return copies;
}

}  // namespace

extern "C" {

// Whether this thread has entered autocast.
bool te_autocast_entered(bool cuda) { return at::autocast::is_autocast_enabled(cuda ? at::kCUDA : at::kCPU); }

// A copy in autocast's type of each of `weights`, all of single precision on one device, written to `out`.
char* te_autocast_weights(te_list weights, at::Tensor** out) {
  TE_CATCH({
    const auto tensors = te_tensors(weights);
    if (tensors.empty()) return nullptr;
    for (const auto& tensor : tensors) {
      TORCH_CHECK(te_dense(tensor) && tensor.scalar_type() == at::kFloat && tensor.device() == tensors[0].device() &&
                      tensor.is_non_overlapping_and_dense(),
                  "weights to cast are of single precision, dense, and on one device");
    }
    const auto cast = copies(tensors, at::autocast::get_autocast_dtype(tensors[0].device().type()));
    std::vector<at::Tensor> results;
    for (size_t i = 0; i < tensors.size(); ++i) {
      results.push_back(CastBefore::apply(tensors[i], CastBefore::Copy{cast[i]}));
      // Backward takes what was computed last first, and these before anything: a gradient is to leave when its layer is done, not when
      // all are. Those who accumulate gradients have the same number.
      if (const auto& node = results[i].grad_fn()) node->set_sequence_nr(UINT64_MAX);
    }
    for (size_t i = 0; i < results.size(); ++i) out[i] = new at::Tensor(results[i]);
  })
}

}  // extern "C"
