// c10d's process group for Rust: over host memory its collectives call back into Rust. Names mirror c10d's.

#include "process_group.h"

#include <ATen/MemoryOverlap.h>
#include <c10/core/Event.h>
#include <c10/core/GradMode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/comm.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <functional>
#include <optional>
#include <string>

namespace {

// The way of a device's tensor, through host memory or from where it lies.
struct Stage {
  c10::Stream stream;               // beside the one that computes
  c10::Event arrived;               // where it is sent from
  std::optional<c10::Event> left;   // on the device: what came back can be used
};

// A collective under way. It is completed from the communication thread; Reducer waits on its future.
class HostWork : public c10d::Work {
 public:
  // `stage`: where the tensors are a device's.
  HostWork(int rank, c10d::OpType op, std::vector<at::Tensor> tensors, std::function<void()> epilogue,
           std::optional<Stage> stage)
      : Work(rank, op),
        tensors_(std::move(tensors)),
        epilogue_(std::move(epilogue)),
        stage_(std::move(stage)),
        future_(c10::make_intrusive<c10::ivalue::Future>(
            c10::ListType::create(c10::TensorType::get()),
            stage_ ? std::vector<c10::Device>{stage_->stream.device()} : std::vector<c10::Device>{})) {}

  // Before the collective: its memory holds what it is to carry.
  void prepare() {
    if (!stage_) return;
    // This thread has no other device from here on: switching back would make a context on device 0.
    c10::impl::VirtualGuardImpl(stage_->stream.device_type()).setDevice(stage_->stream.device());
    stage_->arrived.synchronize();
  }

  void complete(const char* error) {
    c10::AutoGradMode no_grad(false);
    // What follows goes to the stage's stream; who waits for the future makes its own stream wait for that one.
    c10::OptionalStreamGuard on;
    std::exception_ptr failure;
    try {
      if (error != nullptr) throw std::runtime_error(error);
      if (stage_) on.reset_stream(stage_->stream);
      if (epilogue_) epilogue_();
      if (stage_) stage_->left.emplace(stage_->stream.device_type()).record(stage_->stream);
    } catch (...) {
      failure = std::current_exception();
    }
    try {
      if (failure) {
        future_->setErrorIfNeeded(failure);
      } else {
        future_->markCompleted(c10::IValue(tensors_));
      }
    } catch (...) {
      // What waits for the future runs in there. Whoever waits for the work must learn of it, not wait for ever.
      failure = std::current_exception();
      try {
        future_->setErrorIfNeeded(failure);
      } catch (...) {
      }
    }
    finish(failure);
  }

  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override { return future_; }
  std::vector<at::Tensor> result() override { return tensors_; }
  void synchronize() override {
    if (!stage_ || !stage_->left) return;
    const c10::impl::VirtualGuardImpl guard(stage_->stream.device_type());
    stage_->left->block(guard.getStream(stage_->stream.device()));
  }

 private:
  std::vector<at::Tensor> tensors_;
  std::function<void()> epilogue_;
  std::optional<Stage> stage_;
  c10::intrusive_ptr<c10::ivalue::Future> future_;
};

}  // namespace

extern "C" {

// The collectives that Rust implements; the numbers are those that `run` in src/host.rs knows.
enum te_kind { TE_ALL_REDUCE = 0, TE_BROADCAST = 1, TE_ALL_GATHER = 2, TE_BARRIER = 3 };

// One collective over host memory, or over a device's (`on_device`). `output` is null but for an all-gather. `op` counts as
// c10d::ReduceOp. Elements lie one after the other, in the order of their indices.
struct te_collective {
  int32_t kind;
  int32_t scalar_type;
  int32_t op;
  int32_t root;
  void* data;
  void* output;
  size_t bytes;
  size_t output_bytes;
  int32_t on_device;
};

struct te_work {
  c10::intrusive_ptr<HostWork> work;
};

// Rust's side of a backend: `submit` queues a collective and returns at once, `release` ends the queue.
struct te_host {
  void* context;
  void (*submit)(void* context, const te_collective* collective, te_work* work);
  void (*release)(void* context);
};

}  // extern "C"

namespace {

class HostBackend : public c10d::Backend {
 public:
  // Of tensors on `device`. `direct`: the host reaches them there.
  HostBackend(int rank, int size, te_host host, at::Device device, bool direct)
      : Backend(rank, size), host_(host), device_(device), direct_(direct) {}
  ~HostBackend() override { host_.release(host_.context); }

  const std::string getBackendName() const override { return "host"; }

  c10::intrusive_ptr<c10d::Work> allreduce(std::vector<at::Tensor>& tensors,
                                           const c10d::AllreduceOptions& options) override {
    auto& tensor = only(tensors, "allreduce");
    auto op = c10d::ReduceOp::RedOpType(options.reduceOp);
    std::function<void()> epilogue;
    if (op == c10d::ReduceOp::AVG) {
      op = c10d::ReduceOp::SUM;
      epilogue = [tensor, size = getSize()]() mutable { tensor.div_(size); };
    }
    return submit(c10d::OpType::ALLREDUCE, TE_ALL_REDUCE, tensor, {}, op, 0, {tensor}, epilogue);
  }

  c10::intrusive_ptr<c10d::Work> broadcast(std::vector<at::Tensor>& tensors,
                                           const c10d::BroadcastOptions& options) override {
    auto& tensor = only(tensors, "broadcast");
    TORCH_CHECK(options.rootRank >= 0 && options.rootRank < getSize(), "broadcast: there is no rank ", options.rootRank);
    return submit(c10d::OpType::BROADCAST, TE_BROADCAST, tensor, {}, 0, options.rootRank, {tensor}, {});
  }

  c10::intrusive_ptr<c10d::Work> allgather(std::vector<std::vector<at::Tensor>>& outputs,
                                           std::vector<at::Tensor>& inputs, const c10d::AllgatherOptions&) override {
    auto& input = only(inputs, "allgather");
    TORCH_CHECK(outputs.size() == 1 && outputs[0].size() == size_t(getSize()),
                "allgather wants one output for each of ", getSize(), " ranks");
    for (auto& part : outputs[0]) {
      TORCH_CHECK(te_dense(part) && part.numel() == input.numel(), "allgather: outputs for ", input.numel(),
                  " elements of each rank are wanted");
    }
    auto flat = at::empty({getSize(), input.numel()}, input.options());
    auto parts = outputs[0];
    auto epilogue = [flat, parts]() {
      for (size_t rank = 0; rank < parts.size(); ++rank) {
        auto part = parts[rank];
        part.copy_(flat[int64_t(rank)].view_as(part));
      }
    };
    return submit(c10d::OpType::ALLGATHER, TE_ALL_GATHER, input, flat, 0, 0, parts, epilogue);
  }

  c10::intrusive_ptr<c10d::Work> barrier(const c10d::BarrierOptions&) override {
    return submit(c10d::OpType::BARRIER, TE_BARRIER, at::empty({0}, at::TensorOptions().device(device_)), {}, 0, 0, {}, {});
  }

 private:
  // The one tensor of a collective, checked for what a raw pointer cannot carry. Contiguous: in another order, or with
  // gaps, element i of one rank would meet element j of another.
  at::Tensor& only(std::vector<at::Tensor>& tensors, const char* collective) const {
    TORCH_CHECK(tensors.size() == 1, collective, " takes one tensor, got ", tensors.size());
    auto& tensor = tensors[0];
    TORCH_CHECK(tensor.defined(), collective, ": the tensor is undefined");
    TORCH_CHECK(te_dense(tensor), collective, ": the tensor is not dense");
    TORCH_CHECK(tensor.device() == device_, collective, ": the tensor is on ", tensor.device(), ", not ",
                device_.is_cpu() ? "in host memory" : "on " + device_.str());
    TORCH_CHECK(tensor.is_contiguous(), collective, ": the tensor is not contiguous in memory");
    return tensor;
  }

  c10::intrusive_ptr<c10d::Work> submit(c10d::OpType type, te_kind kind, const at::Tensor& tensor,
                                        const at::Tensor& output, int op, int64_t root,
                                        std::vector<at::Tensor> results, std::function<void()> epilogue) {
    const bool on_device = direct_ && is_carried(kind, tensor.scalar_type());
    if (!device_.is_cpu() && !on_device) {
      return submit_staged(type, kind, tensor, output, op, root, std::move(results), epilogue);
    }
    // The work keeps the tensors alive, the input of an all-gather by way of its epilogue.
    const auto keep = [tensor, epilogue]() {
      if (epilogue) epilogue();
    };
    std::optional<Stage> stage;
    if (!device_.is_cpu()) {
      c10::Event computed(device_.type());
      computed.record(computing_stream_of(tensor, output, results));
      stage = Stage{*stream_, std::move(computed), std::nullopt};
    }
    auto work = c10::make_intrusive<HostWork>(getRank(), type, std::move(results), keep, std::move(stage));
    hand_over(kind, tensor, output, op, root, on_device, work);
    return work;
  }

  // What can be carried from a device by who knows only the types of MPI.
  static bool is_carried(te_kind kind, at::ScalarType type) {
    if (kind == TE_BROADCAST || kind == TE_ALL_GATHER) return true;
    return kind == TE_ALL_REDUCE && (type == at::kFloat || type == at::kDouble || type == at::kInt || type == at::kLong ||
                                     type == at::kByte);
  }

  // The stream that computes these tensors, which will be used in one beside it, too.
  c10::Stream computing_stream_of(const at::Tensor& tensor, const at::Tensor& output, const std::vector<at::Tensor>& results) {
    const c10::impl::VirtualGuardImpl guard(device_.type());
    if (!stream_) stream_ = guard.getStreamFromGlobalPool(device_, /*is_high_priority=*/true);
    tensor.record_stream(*stream_);
    if (output.defined()) output.record_stream(*stream_);
    for (const auto& result : results) result.record_stream(*stream_);
    return guard.getStream(device_);
  }

  // A device's tensors travel through page-locked memory: the device writes them there when it has computed them, and
  // reads what came back, while it computes something else.
  c10::intrusive_ptr<c10d::Work> submit_staged(c10d::OpType type, te_kind kind, const at::Tensor& tensor,
                                               const at::Tensor& output, int op, int64_t root,
                                               std::vector<at::Tensor> results, std::function<void()> epilogue) {
    const auto computes = computing_stream_of(tensor, output, results);
    const auto pinned = at::TensorOptions().dtype(tensor.scalar_type()).pinned_memory(true);
    const auto here = at::empty(tensor.sizes(), pinned);
    const auto gathered = output.defined() ? at::empty(output.sizes(), pinned) : at::Tensor();
    c10::Event computed(device_.type()), arrived(device_.type());
    computed.record(computes);
    computed.block(*stream_);
    {
      const c10::StreamGuard on(*stream_);
      here.copy_(tensor, /*non_blocking=*/true);
      arrived.record(*stream_);
    }
    auto back = [tensor, output, here, gathered, epilogue]() {
      if (output.defined()) {
        at::Tensor(output).copy_(gathered, /*non_blocking=*/true);
      } else {
        at::Tensor(tensor).copy_(here, /*non_blocking=*/true);
      }
      if (epilogue) epilogue();
    };
    auto work = c10::make_intrusive<HostWork>(getRank(), type, std::move(results), back,
                                              Stage{*stream_, std::move(arrived), std::nullopt});
    hand_over(kind, here, gathered, op, root, /*on_device=*/false, work);
    return work;
  }

  void hand_over(te_kind kind, const at::Tensor& tensor, const at::Tensor& output, int op, int64_t root, bool on_device,
                 const c10::intrusive_ptr<HostWork>& work) {
    te_collective collective{kind,
                             int32_t(tensor.scalar_type()),
                             op,
                             int32_t(root),
                             tensor.data_ptr(),
                             output.defined() ? output.data_ptr() : nullptr,
                             tensor.nbytes(),
                             output.defined() ? output.nbytes() : 0,
                             on_device};
    host_.submit(host_.context, &collective, new te_work{work});
  }

  te_host host_;
  at::Device device_;
  bool direct_;
  std::optional<c10::Stream> stream_;
};

}  // namespace

extern "C" {

void te_free_message(char* message) { free(message); }

// Before a collective, on the thread that makes it: waits until its memory holds what it is to carry.
char* te_work_prepare(te_work* work) { TE_CATCH(work->work->prepare()) }

// Ends a collective: `error` is null, or why it failed. Frees `work`.
void te_work_complete(te_work* work, const char* error) {
  try {
    work->work->complete(error);
  } catch (...) {
    // The future was already marked: nobody waits for this outcome any more.
  }
  delete work;
}

// `index` is that of the CUDA device whose tensors travel, or -1 for those in host memory. `direct`: `host` reaches them there.
char* te_process_group_host(int rank, int size, te_host host, int index, bool direct, te_process_group** out) {
  TE_CATCH({
    const auto device = index == -1 ? at::Device(at::kCPU) : at::Device(at::kCUDA, te_device(index));
    auto backend = c10::make_intrusive<HostBackend>(rank, size, host, device, direct);
    auto group = c10::make_intrusive<c10d::ProcessGroup>(rank, size);
    group->setBackend(device.type(), c10d::ProcessGroup::BackendType::CUSTOM,
                      c10::intrusive_ptr<c10d::Backend>(backend));
    if (!device.is_cpu()) { // c10d asks for a barrier of the CPU's
      group->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::BackendType::CUSTOM,
                        c10::intrusive_ptr<c10d::Backend>(backend));
    }
    group->setDefaultBackend(c10d::ProcessGroup::BackendType::CUSTOM);
    *out = new te_process_group{group};
  })
}

void te_process_group_free(te_process_group* group) { delete group; }

// Over NCCL, collectively: waits for what is under way, and lets go of the communicators. Over host memory: nothing.
char* te_process_group_shutdown(te_process_group* group) { TE_CATCH(group->group->shutdown()) }

// Backends send memory as it lies, in whatever order that is on this rank; what travels is contiguous, so that ranks whose
// tensors lie otherwise, channels last say, mean the same elements.

// `op` counts as c10d::ReduceOp. Waits for the result, which is in place.
char* te_process_group_allreduce(te_process_group* group, const at::Tensor* tensor, int op) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    at::Tensor place = te_tensor(tensor);
    TORCH_CHECK(te_dense(place), "the tensor is not dense");
    at::assert_no_internal_overlap(place);
    std::vector<at::Tensor> tensors{place.contiguous()};
    c10d::AllreduceOptions options;
    options.reduceOp = c10d::ReduceOp::RedOpType(op);
    group->group->allreduce(tensors, options)->wait();
    if (!tensors[0].is_same(place)) place.copy_(tensors[0]);
  })
}

// An all-reduce under way, which keeps its tensor alive.
struct te_pending {
  c10::intrusive_ptr<c10d::Work> work;
  at::Tensor tensor;
};

// Starts the same of a tensor that is contiguous, and returns. Nobody may touch it before `te_pending_wait`.
char* te_process_group_allreduce_begin(te_process_group* group, const at::Tensor* tensor, int op, te_pending** out) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    std::vector<at::Tensor> tensors{te_tensor(tensor)};
    TORCH_CHECK(te_dense(tensors[0]) && tensors[0].is_contiguous(), "the tensor is not contiguous in memory");
    c10d::AllreduceOptions options;
    options.reduceOp = c10d::ReduceOp::RedOpType(op);
    auto work = group->group->allreduce(tensors, options);
    *out = new te_pending{std::move(work), tensors[0]};
  })
}

char* te_pending_wait(te_pending* pending) { TE_CATCH(pending->work->wait()) }

void te_pending_free(te_pending* pending) { delete pending; }

// `output` has one row for each rank.
char* te_process_group_allgather(te_process_group* group, const at::Tensor* output, const at::Tensor* input) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    TORCH_CHECK(te_dense(te_tensor(input)), "the tensor is not dense");
    std::vector<at::Tensor> inputs{te_tensor(input).contiguous()};
    std::vector<std::vector<at::Tensor>> outputs{te_tensor(output).unbind(0)};
    group->group->allgather(outputs, inputs)->wait();
  })
}

// Row r of `output` is this rank's row of rank r's `input`. Over NCCL; host memory's collectives have no such thing.
char* te_process_group_alltoall(te_process_group* group, const at::Tensor* output, const at::Tensor* input) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    at::Tensor to = te_tensor(output), from = te_tensor(input);
    TORCH_CHECK(to.is_contiguous() && from.is_contiguous(), "the tensors are not contiguous in memory");
    std::vector<int64_t> equal;
    group->group->alltoall_base(to, from, equal, equal)->wait();
  })
}

char* te_process_group_barrier(te_process_group* group) { TE_CATCH(group->group->barrier()->wait()) }

char* te_verify_params_across_processes(te_process_group* group, te_list params) {
  TE_CATCH(c10d::verify_params_across_processes(group->group, te_tensors(params), std::nullopt))
}

char* te_broadcast_coalesced(te_process_group* group, te_list list, size_t buffer_bytes, int root) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto tensors = te_tensors(list);
    for (auto& tensor : tensors) {
      TORCH_CHECK(te_dense(tensor), "a tensor is not dense");
      at::assert_no_internal_overlap(tensor);
    }
    c10d::broadcast_coalesced(group->group, tensors, buffer_bytes, root);
  })
}

}  // extern "C"
