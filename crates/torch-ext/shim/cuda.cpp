// What needs CUDA's and NCCL's headers, or with USE_ROCM those of HIP and RCCL: a library of its own (crate torch-ext-cuda),
// opened where there is a GPU.

#include "cuda.h"
#include "process_group.h"
#include "store.h"
#include "symbols.h"

#include <ATen/core/CachingHostAllocator.h>
#ifdef USE_ROCM
// From 2.11 on only the files have other names: what is in them lies in at::cuda and c10::cuda here, too.
#include <ATen/hip/HIPContext.h>
#include <ATen/hip/HIPGeneratorImpl.h>
#include <ATen/hip/HIPGraph.h>
#include <c10/hip/HIPCachingAllocator.h>
#include <c10/hip/HIPFunctions.h>
#include <c10/hip/HIPStream.h>
#define TE_RUNTIME(name) hip##name
#else
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#define TE_RUNTIME(name) cuda##name
#endif
#include <torch/csrc/cuda/nccl.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <cstdlib>
#include <memory>

// A function of the runtime, which is not linked.
#define TE_WORDS(name) #name
#define TE_NAME(name) TE_WORDS(name)
#define TE_RUNTIME_FUNCTION(name) \
  te_function<decltype(&TE_RUNTIME(name))>(RTLD_DEFAULT, TE_NAME(TE_RUNTIME(name)))

namespace {

// Options of a group hold NCCL's own, which grow from version to version: libtorch would write over their end.
void check_nccl() {
  const auto theirs = torch::cuda::nccl::version();
  const auto major = theirs >> 32, minor = theirs >> 16 & 0xffff;
  TORCH_CHECK(major == NCCL_MAJOR && minor == NCCL_MINOR, "this program was built with the headers of NCCL ", NCCL_MAJOR, ".",
              NCCL_MINOR, ", and libtorch with those of NCCL ", major, ".", minor, ": build it with those (NCCL_HOME)");
}

char* te_process_group_nccl(te_store* store, int rank, int size, int device, int64_t timeout_ms,
                            te_process_group** out) {
  TE_CATCH({
    // The device of this rank is the current one from here on: whoever allocates without naming a device must not make
    // a context on device 0.
    c10::cuda::set_device(te_device(device));
    // A collective that fails or takes too long aborts its communicator and ends the process, instead of hanging.
    setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1", /*overwrite=*/0);
    check_nccl();
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = std::chrono::milliseconds(timeout_ms);
    auto backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(store->store, rank, size, options);
    auto group = c10::make_intrusive<c10d::ProcessGroup>(rank, size);
    group->setBackend(c10::DeviceType::CUDA, c10d::ProcessGroup::BackendType::NCCL,
                      c10::intrusive_ptr<c10d::Backend>(backend));
    group->setDefaultBackend(c10d::ProcessGroup::BackendType::NCCL);
    group->setBoundDeviceId(at::Device(at::kCUDA, te_device(device)));
    *out = new te_process_group{group};
  })
}

// Ends all collectives under way, so that nothing waits for ranks that are gone.
char* te_process_group_abort(te_process_group* group) { TE_CATCH(group->group->abort()) }

// From here on this thread's work for a device goes to a stream of its own: the default stream cannot be recorded.
char* te_cuda_own_stream(int device) {
  TE_CATCH({
    c10::cuda::set_device(te_device(device));
    c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, te_device(device)));
  })
}

// Refuses, or allows again, every call of libtorch that waits for a device.
char* te_cuda_refuse_waits(bool refused) {
  TE_CATCH({
    // The switch is a variable of a function in a header: what lies in this library is another than libtorch's, because nothing of a
    // Rust library is visible but what it names. (With ROCm the name may be another; then this is an error.)
    void* state = dlsym(RTLD_DEFAULT, "_ZZN3c104cuda13warning_stateEvE14warning_state_");
    TORCH_CHECK(state != nullptr, "libtorch's switch for waits is not there");
    static_cast<c10::cuda::WarningState*>(state)->set_sync_debug_mode(refused ? c10::cuda::SyncDebugMode::L_ERROR
                                                                              : c10::cuda::SyncDebugMode::L_DISABLED);
  })
}

}  // namespace

// Work for a device, recorded once and given to it again and again.
struct te_graph : at::cuda::CUDAGraph {
  at::cuda::MempoolId_t chosen = at::cuda::graph_pool_handle();
  c10::DeviceIndex device = c10::cuda::current_device();

  void begin() {
    // Nothing that is cached now can be given back in between: it would lie beside the recording's own memory.
    c10::cuda::device_synchronize();
    c10::cuda::CUDACachingAllocator::emptyCache();
    capture_begin(chosen, TE_RUNTIME(StreamCaptureModeThreadLocal));
  }

  // Ends a recording that failed. libtorch stops at the first thing that goes wrong; its allocators would take all memory for
  // recorded from then on, and its generators every number.
  void abandon() {
    const auto each = [](auto&& f) {
      try {
        f();
      } catch (...) {
        // The others all the same.
      }
    };
    each([&] {
      TE_RUNTIME(StreamCaptureStatus) status;
      const auto is_capturing = TE_RUNTIME_FUNCTION(StreamIsCapturing);
      if (is_capturing(capture_stream_.stream(), &status) == TE_RUNTIME(Success) &&
          status == TE_RUNTIME(StreamCaptureStatusNone)) {
        return;
      }
      TE_RUNTIME(Graph_t) broken = nullptr;
      (void)TE_RUNTIME_FUNCTION(StreamEndCapture)(capture_stream_.stream(), &broken);
      if (broken) (void)TE_RUNTIME_FUNCTION(GraphDestroy)(broken);
    });
    each([] { (void)TE_RUNTIME_FUNCTION(GetLastError)(); });
    each([&] { c10::cuda::CUDACachingAllocator::endAllocateToPool(device, chosen); });
    each([&] { at::getHostAllocator(at::kCUDA)->end_allocate_to_pool(chosen); });
    if (!capture_ended_) {
      // Else the destructor does, and must not find it done.
      each([&] { c10::cuda::CUDACachingAllocator::releasePool(device, chosen); });
      each([&] { at::getHostAllocator(at::kCUDA)->release_pool(chosen); });
    }
    for (auto& [state, increment] : captured_generator_states_) state->capturing_ = false;
  }
};

namespace {

// Records what this thread gives the device from here on, on its present stream, until te_graph_end; none of it is computed.
// Other threads may allocate meanwhile.
char* te_graph_begin(te_graph** out) {
  TE_CATCH({
    auto graph = std::make_unique<te_graph>();
    try {
      graph->begin();
    } catch (...) {
      graph->abandon();
      throw;
    }
    *out = graph.release();
  })
}

char* te_graph_end(te_graph* graph) {
  TE_CATCH({
    try {
      graph->capture_end();
    } catch (...) {
      graph->abandon();
      throw;
    }
  })
}

// Gives the device all of it once more.
char* te_graph_replay(te_graph* graph) { TE_CATCH(graph->replay()) }

void te_graph_free(te_graph* graph) { delete graph; }

char* te_device_properties_get(int device, te_device_properties* out) {
  TE_CATCH({
    const auto* properties = at::cuda::getDeviceProperties(te_device(device));
    static_assert(sizeof(out->name) == sizeof(properties->name), "CUDA's names have 256 bytes");
    std::memcpy(out->name, properties->name, sizeof(out->name));
#ifdef USE_ROCM
    // What gpu/runtime.cpp, which has no headers of HIP, takes for granted.
    static_assert(sizeof(*properties) == 1472 && offsetof(hipDeviceProp_t, gcnArchName) == 1160, "HIP's properties are others");
    static_assert(hipDeviceAttributeMultiprocessorCount == 63, "HIP's attributes have other numbers");
#endif
    out->major = properties->major;
    out->minor = properties->minor;
    out->multiprocessors = properties->multiProcessorCount;
    out->total_memory = properties->totalGlobalMem;
    std::memcpy(out->uuid, properties->uuid.bytes, sizeof(out->uuid));
  })
}

}  // namespace

extern "C" const te_cuda te_cuda_functions = {
    sizeof(te_cuda),
    te_process_group_nccl,
    te_process_group_abort,
    te_cuda_own_stream,
    te_cuda_refuse_waits,
    te_graph_begin,
    te_graph_end,
    te_graph_replay,
    te_graph_free,
    te_device_properties_get,
};
