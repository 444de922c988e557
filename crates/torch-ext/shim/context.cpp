// libtorch's global switches: algorithms, autocast, random generators, memory statistics and formats. None of it needs
// CUDA's headers: on a build without CUDA the CUDA parts throw, or do nothing.

#include "shim.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/Version.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/hash_tensor.h>
#include <ATen/ops/stack.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/GradMode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/version.h>

#include <cstdlib>

namespace {

at::Device device(int index) { return index == -1 ? at::Device(at::kCPU) : at::Device(at::kCUDA, te_device(index)); }

}  // namespace

extern "C" {

void te_set_cudnn(bool benchmark, bool deterministic) {
  at::globalContext().setBenchmarkCuDNN(benchmark);
  at::globalContext().setDeterministicCuDNN(deterministic);
}

// Products of matrices on the CPU that are the same whatever the number of threads. Asked for before the first of them.
void te_set_same_on_any_threads() { setenv("MKL_CBWR", "AUTO,STRICT", /*overwrite=*/0); }

// Only algorithms that repeat bit for bit, with a warning by an operation that has none.
char* te_set_deterministic(bool deterministic) {
  TE_CATCH({
    // cuBLAS asks for it before its first call.
    if (deterministic) setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
    at::globalContext().setDeterministicAlgorithms(deterministic, /*warn_only=*/true);
    // Memory that nobody has written to yet would be filled: that finds mistakes, and changes no result.
    at::globalContext().setDeterministicFillUninitializedMemory(false);
  })
}

// Who hears of libtorch's warnings from here on, on this thread.
void te_on_warning(void (*hear)(const char*)) {
  struct Handler : c10::WarningHandler {
    void (*hear)(const char*) = nullptr;
    void process(const c10::Warning& warning) override { hear(warning.msg().c_str()); }
  };
  static auto* handler = new Handler;  // threads may warn until the end
  handler->hear = hear;
  c10::WarningUtils::set_warning_handler(handler);
}

// Bytes in page-locked memory, all zero.
char* te_pinned(size_t bytes, at::Tensor** out) {
  TE_CATCH({
    auto options = at::TensorOptions().dtype(at::kByte).pinned_memory(true);
    *out = new at::Tensor(at::empty({int64_t(bytes)}, options).zero_());
  })
}

// The device of this thread from here on: what is allocated or recorded without naming one must not make a context on device 0.
char* te_set_device(int index) {
  TE_CATCH(c10::impl::VirtualGuardImpl(at::kCUDA).setDevice(at::Device(at::kCUDA, te_device(index))))
}

// Bytes on their way to a device.
struct te_copy {
  std::optional<c10::Event> arrived;  // none where they are there
};

// `out` becomes a new tensor of this shape on a device, which `count` numbers give; the bytes travel to it while the device
// computes something else, and what it is given to do after this call finds them there. Until they have arrived they must
// stay as they are.
char* te_copy_new(const void* bytes, const int64_t* shape, size_t count, int index, te_copy** copy, at::Tensor** out) {
  TE_CATCH({
    const auto options = at::TensorOptions().dtype(at::kByte);
    const auto here = at::from_blob(const_cast<void*>(bytes), {shape, count}, options);
    const auto place = device(index);
    if (place.is_cpu()) {
      *out = new at::Tensor(here.clone());
      *copy = new te_copy{std::nullopt};
      return nullptr;
    }
    const c10::impl::VirtualGuardImpl guard(place.type());
    const auto computes = guard.getStream(place);
    static const auto copies = guard.getStreamFromGlobalPool(place, /*is_high_priority=*/true);  // a process has one device
    TORCH_CHECK(copies.device() == place, "bytes travel to ", copies.device(), ", not to ", place);
    c10::Event arrived(place.type());
    at::Tensor there;
    try {
      const c10::StreamGuard on(copies);
      there = at::empty(here.sizes(), options.device(place));
      there.copy_(here, /*non_blocking=*/true);
      arrived.record(copies);
      arrived.block(computes);
      there.record_stream(computes);  // its memory is not used again before
    } catch (...) {
      guard.synchronizeStream(copies);  // the caller takes its memory back
      throw;
    }
    *out = new at::Tensor(there);
    *copy = new te_copy{std::move(arrived)};
  })
}

// Whether the bytes have arrived; `waits` until they have.
char* te_copy_arrived(te_copy* copy, bool waits, bool* out) {
  TE_CATCH({
    if (waits && copy->arrived) copy->arrived->synchronize();
    *out = !copy->arrived || copy->arrived->query();
  })
}

void te_copy_free(te_copy* copy) { delete copy; }

// Numbers on their way from a device.
struct te_numbers {
  at::Tensor values;  // in host memory; page-locked where they come from a device
  std::optional<c10::Event> arrived;
};

// The elements of `tensor`, as they are once what is queued for the device by now has been computed. Waits for nothing.
char* te_numbers_new(const at::Tensor* tensor, te_numbers** out) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto values = te_tensor(tensor).detach().reshape({-1}).to(at::kFloat).contiguous();
    if (values.is_cpu()) {
      *out = new te_numbers{values.clone(), std::nullopt};
      return nullptr;
    }
    auto host = at::empty(values.sizes(), at::TensorOptions().dtype(at::kFloat).pinned_memory(true));
    host.copy_(values, /*non_blocking=*/true);
    c10::Event arrived(values.device().type());
    arrived.record(c10::impl::VirtualGuardImpl(values.device().type()).getStream(values.device()));
    *out = new te_numbers{host, std::move(arrived)};
  })
}

// Waits for them; there must be `count`.
char* te_numbers_get(te_numbers* numbers, float* out, size_t count) {
  TE_CATCH({
    if (numbers->arrived) numbers->arrived->synchronize();
    TORCH_CHECK(size_t(numbers->values.numel()) == count, count, " numbers of ", numbers->values.numel());
    std::memcpy(out, numbers->values.const_data_ptr<float>(), count * sizeof(float));
  })
}

void te_numbers_free(te_numbers* numbers) { delete numbers; }

const char* te_version() { return TORCH_VERSION; }

// The instructions that libtorch's own kernels use on this processor: "AVX512".
const char* te_cpu_capability() {
  static const std::string capability = at::get_cpu_capability();
  return capability.c_str();
}

char* te_set_tf32(bool allowed) {
  TE_CATCH({
    at::globalContext().setAllowTF32CuBLAS(allowed);
    at::globalContext().setAllowTF32CuDNN(allowed);
  })
}

// Autocast of one kind of device (`cuda`, else the CPU). Gives the state before, to be restored.
struct te_autocast {
  bool enabled;
  int32_t type;
};

char* te_autocast_enter(bool cuda, int32_t type, te_autocast* before) {
  TE_CATCH({
    auto kind = cuda ? at::kCUDA : at::kCPU;
    *before = {at::autocast::is_autocast_enabled(kind), int32_t(at::autocast::get_autocast_dtype(kind))};
    at::autocast::set_autocast_dtype(kind, at::ScalarType(type));
    at::autocast::set_autocast_enabled(kind, true);
    at::autocast::increment_nesting();
  })
}

void te_autocast_exit(bool cuda, const te_autocast* before) {
  auto kind = cuda ? at::kCUDA : at::kCPU;
  // Weights that were cast are kept until the outermost scope ends.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(kind, before->enabled);
  at::autocast::set_autocast_dtype(kind, at::ScalarType(before->type));
}

// The state of a generator as bytes. `index` is that of a CUDA device, or -1 for the CPU.
char* te_rng_get_state(int index, at::Tensor** out) {
  TE_CATCH({
    auto generator = at::globalContext().defaultGenerator(device(index));
    std::lock_guard<std::mutex> lock(generator.mutex());
    *out = new at::Tensor(generator.get_state());
  })
}

char* te_rng_set_state(int index, at::Tensor* state) {
  TE_CATCH({
    auto generator = at::globalContext().defaultGenerator(device(index));
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(te_tensor(state));
  })
}

// The generator that this thread draws from on the CPU, where it does not share libtorch's with all others.
static thread_local std::optional<at::Generator> own_generator;

// What a thread drew from before.
struct te_generator {
  std::optional<at::Generator> generator;
};

static te_generator* exchange_generator(at::Generator next) {
  auto* before = new te_generator{std::move(own_generator)};
  own_generator = std::move(next);
  return before;
}

te_generator* te_own_generator(int64_t seed) { return exchange_generator(at::detail::createCPUGenerator(uint64_t(seed))); }

// As te_own_generator, with a generator in this state.
char* te_own_generator_of(const at::Tensor* state, te_generator** before) {
  TE_CATCH({
    auto generator = at::detail::createCPUGenerator();
    generator.set_state(te_tensor(state));
    *before = exchange_generator(std::move(generator));
  })
}

void te_own_generator_back(te_generator* before) {
  own_generator = std::move(before->generator);
  delete before;
}

// The state of the generator that dropout and the like of this thread draw from on a device.
char* te_rng_in_use(int index, at::Tensor** out) {
  TE_CATCH({
    if (!own_generator || !device(index).is_cpu()) return te_rng_get_state(index, out);
    *out = new at::Tensor(own_generator->get_state());
  })
}

// Dropout in training.
char* te_dropout(const at::Tensor* input, double probability, at::Tensor** out) {
  TE_CATCH({
    const auto& x = te_tensor(input);
    if (!own_generator || !x.is_cpu() || probability == 0 || probability == 1) {
      *out = new at::Tensor(at::dropout(x, probability, /*train=*/true));
      return nullptr;
    }
    TORCH_CHECK(probability > 0 && probability < 1, "a probability is between 0 and 1, not ", probability);
    // The formula of at::dropout on the CPU, which takes no generator.
    auto noise = at::empty_like(x).bernoulli_(1 - probability, *own_generator);
    *out = new at::Tensor(x * noise.div_(1 - probability));
  })
}

// Makes the elements 1 with `probability`, else 0.
char* te_bernoulli(const at::Tensor* tensor, double probability) {
  TE_CATCH({
    auto drawn = te_tensor(tensor);
    drawn.bernoulli_(probability, own_generator && drawn.is_cpu() ? own_generator : std::nullopt);
  })
}

// Bytes of a device's memory, as the caching allocator sees them; `free` and `total` are the driver's.
struct te_memory {
  int64_t allocated, allocated_peak, reserved, reserved_peak, retries, out_of_memory;
  uint64_t free, total;
};

char* te_memory_stats(int index, te_memory* out) {
  TE_CATCH({
    const auto device = te_device(index);
    auto* allocator = at::getDeviceAllocator(at::kCUDA);
    auto stats = allocator->getDeviceStats(device);
    auto [free, total] = allocator->getMemoryInfo(device);
    const auto& allocated = stats.allocated_bytes[0];  // 0 is the sum over all pools
    const auto& reserved = stats.reserved_bytes[0];
    *out = {allocated.current, allocated.peak, reserved.current, reserved.peak, stats.num_alloc_retries, stats.num_ooms,
            free,              total};
  })
}

char* te_memory_reset_peak(int index) {
  TE_CATCH({
    const auto device = te_device(index);
    at::getDeviceAllocator(at::kCUDA)->resetPeakStats(device);
  })
}

// Moves the 4-dimensional ones among `tensors` to N×H×W×C in memory (or back), in place: shapes stay as they are.
char* te_set_channels_last(te_list tensors, bool channels_last) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    auto format = channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
    for (auto& tensor : te_tensors(tensors)) {
      if (tensor.dim() != 4) continue;
      // A copy even where the tensor counts as being in this format: 1×1 filters count as both, but gradients come with
      // the strides of one.
      tensor.set_data(at::empty(tensor.sizes(), tensor.options(), format).copy_(tensor));
    }
  })
}

// A copy of the 4-dimensional `tensor` in N×H×W×C in memory, or the tensor itself where it is so already.
char* te_to_channels_last(at::Tensor* tensor, at::Tensor** out) {
  TE_CATCH(*out = new at::Tensor(te_tensor(tensor).contiguous(at::MemoryFormat::ChannelsLast)))
}

// The xor of the bit patterns of each tensor's elements, as one row of i64.
char* te_hash(te_list tensors, at::Tensor** out) {
  TE_CATCH({
    c10::AutoGradMode no_grad(false);
    std::vector<at::Tensor> hashes;
    for (auto& tensor : te_tensors(tensors)) {
      hashes.push_back(at::hash_tensor(tensor.detach().flatten()).view(at::kLong));
    }
    *out = new at::Tensor(at::stack(hashes));
  })
}

}  // extern "C"
