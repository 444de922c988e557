// What needs CUDA's and NCCL's headers: compiled with the cargo feature `cuda` alone.

#include "process_group.h"
#include "store.h"

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAFunctions.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <cstdlib>

extern "C" {

char* te_process_group_nccl(te_store* store, int rank, int size, int device, int64_t timeout_ms,
                            te_process_group** out) {
  TE_CATCH({
    // The device of this rank is the current one from here on: whoever allocates without naming a device must not make
    // a context on device 0.
    c10::cuda::set_device(te_device(device));
    // A collective that fails or takes too long aborts its communicator and ends the process, instead of hanging.
    setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1", /*overwrite=*/0);
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

struct te_device_properties {
  char name[256];
  int32_t major, minor, multiprocessors;
  uint64_t total_memory;
  unsigned char uuid[16];
};

char* te_device_properties_get(int device, te_device_properties* out) {
  TE_CATCH({
    const auto* properties = at::cuda::getDeviceProperties(te_device(device));
    static_assert(sizeof(out->name) == sizeof(properties->name), "CUDA's names have 256 bytes");
    std::memcpy(out->name, properties->name, sizeof(out->name));
    out->major = properties->major;
    out->minor = properties->minor;
    out->multiprocessors = properties->multiProcessorCount;
    out->total_memory = properties->totalGlobalMem;
    std::memcpy(out->uuid, properties->uuid.bytes, sizeof(out->uuid));
  })
}

}  // extern "C"
