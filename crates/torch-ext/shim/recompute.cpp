// Values that are forgotten after the forward pass and computed once more on the way back.

#include "shim.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/ivalue.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/custom_class.h>

#include <cstdlib>
#include <memory>

// What computes the value: Rust's. `compute` gives null, or a message that te_message made.
struct te_computation {
  void* context;
  char* (*compute)(void* context, const at::Tensor* input, bool again, at::Tensor** out);
  void (*release)(void* context);
};

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The types that operations of this thread on a kind of device run in.
struct Autocasts {
  bool enabled;
  at::ScalarType type;

  static Autocasts of(c10::DeviceType device) {
    return {at::autocast::is_autocast_enabled(device), at::autocast::get_autocast_dtype(device)};
  }

  void set(c10::DeviceType device) const {
    at::autocast::set_autocast_enabled(device, enabled);
    at::autocast::set_autocast_dtype(device, type);
  }
};

// While it lives, this thread's operations run as they did when the value was first computed.
struct AsBefore {
  c10::DeviceType device;
  Autocasts now;

  AsBefore(c10::DeviceType device, const Autocasts& then) : device(device), now(Autocasts::of(device)) {
    then.set(device);
    at::autocast::increment_nesting();
  }

  ~AsBefore() {
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    now.set(device);
  }
};

// Goes with the graph.
struct Computation : torch::CustomClassHolder {
  te_computation rust;
  Autocasts autocasts;

  Computation(const te_computation& rust, c10::DeviceType device) : rust(rust), autocasts(Autocasts::of(device)) {}
  ~Computation() override { rust.release(rust.context); }

  at::Tensor compute(const at::Tensor& input, bool again) const {
    at::Tensor* out = nullptr;
    if (char* message = rust.compute(rust.context, &input, again, &out)) {
      const std::string text(message);
      std::free(message);
      TORCH_CHECK(false, text);
    }
    const std::unique_ptr<at::Tensor> owned(out);
    return *owned;
  }
};

// The gradient of what a computation was given, as backward computes it: a leaf's would be brought into the leaf's own strides, and
// what is summed after that in another order.
struct Found : torch::CustomClassHolder {
  at::Tensor gradient;
};

// `input` where a computation begins anew.
struct Entry : torch::autograd::Function<Entry> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& anchor,
                            const c10::intrusive_ptr<Found>& found) {
    context->saved_data["found"] = c10::IValue::make_capsule(found);
    return input.detach();
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    c10::static_intrusive_pointer_cast<Found>(context->saved_data["found"].toCapsule())->gradient = grads[0];
    return {at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

// Nothing that wants a gradient.
at::Tensor anchor_on(const at::Tensor& x) { return at::empty({0}, x.options().dtype(at::kFloat)).requires_grad_(); }

// `anchor` wants a gradient, so that the value does: of what is inside nothing shows.
struct Recomputed : torch::autograd::Function<Recomputed> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& anchor,
                            const c10::intrusive_ptr<Computation>& computation) {
    context->save_for_backward({input});
    context->saved_data["computation"] = c10::IValue::make_capsule(computation);
    return computation->compute(input, /*again=*/false);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    TORCH_CHECK(!c10::GradMode::is_enabled(), "what is recomputed cannot be differentiated again");
    const auto computation = c10::static_intrusive_pointer_cast<Computation>(context->saved_data["computation"].toCapsule());
    auto input = context->get_saved_variables()[0].detach();
    const auto found = c10::make_intrusive<Found>();
    at::Tensor value;
    {
      const AsBefore as_before(input.device().type(), computation->autocasts);
      const c10::AutoGradMode recorded(true);
      if (context->needs_input_grad(0)) input = Entry::apply(input, anchor_on(input), found);
      value = computation->compute(input, /*again=*/true);
    }
    TORCH_CHECK(value.requires_grad(), "what was recomputed depends on nothing that wants a gradient");
    // The value itself need not live on.
    const torch::autograd::edge_list root{torch::autograd::impl::gradient_edge(value)};
    input.reset();
    value.reset();
    torch::autograd::Engine::get_default_engine().execute(root, grads, /*keep_graph=*/false, /*create_graph=*/false,
                                                          /*accumulate_grad=*/true);
    return {std::move(found->gradient), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

extern "C" {

// A message as the shim's functions give it.
char* te_message(const char* text) { return strdup(text); }

// `out` becomes the value of `input`: of its gradient nothing is kept but `input`. The computation is released when nothing needs
// it any more, or here, after an error.
char* te_recomputed(const at::Tensor* input, te_computation computation, at::Tensor** out) {
  TE_CATCH({
    const auto device = input == nullptr || !input->defined() ? c10::kCPU : input->device().type();
    auto kept = c10::make_intrusive<Computation>(computation, device);
    const auto& x = te_tensor(input);
    *out = new at::Tensor(Recomputed::apply(x, anchor_on(x), kept));
  })
}

}  // extern "C"
