// Kernels on the GPU that is there, compiled when they are first wanted.

#include "compiler.h"
#include "launch.h"
#include "runtime.h"

#include "../shim.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <tuple>

namespace te_gpu {
namespace {

using Kernels = std::array<void*, KERNELS>;

// The kernels of a variant for a device, the current one. They stay until the end.
const Kernels& kernels(at::Device device, Variant variant) {
  static std::mutex mutex;
  static std::map<std::tuple<int, at::ScalarType, int>, Kernels> known;
  std::lock_guard<std::mutex> lock(mutex);
  const auto key = std::make_tuple(int(device.index()), variant.element, variant.lanes);
  if (auto found = known.find(key); found != known.end()) return found->second;
  std::string log;
  const auto code = Compiler::of_libtorch().compile(runtime().architecture(device), variant, log);
  void* loaded = runtime().load(code);
  Kernels all;
#define TE_LOOK_UP(name, Args, threads) all[KERNEL_##name] = runtime().kernel(loaded, "te_" #name);
  TE_KERNELS(TE_LOOK_UP)
#undef TE_LOOK_UP
  return known.emplace(key, all).first->second;
}

}  // namespace

void run_on_gpu(Kernel kernel, at::Device device, Variant variant, Grid grid, const void* args) {
  const c10::DeviceGuard guard(device);
  const auto& all = kernels(device, variant);
  const auto stream = c10::impl::getDeviceGuardImpl(device.type())->getStream(device);
  void* arguments[] = {const_cast<void*>(args)};
  runtime().launch(all[kernel], grid, arguments, stream.native_handle());
}

unsigned multiprocessors(at::Device device) {
  static std::array<std::atomic<int>, 64> known{};
  auto& number = known[size_t(device.index()) % known.size()];
  if (number == 0) number = runtime().multiprocessors(device);
  return unsigned(number.load());
}

}  // namespace te_gpu

extern "C" {

// Compiles all kernels for an architecture ("sm_90", "gfx942"), of elements of this type, so many of which travel in one. `compiler`
// is the path of a libnvrtc.so or a libhiprtc.so, or null. `log` is the compiler's, which the caller frees with te_free_message;
// `bytes` are the code's.
char* te_gpu_compile(const char* architecture, int32_t type, int32_t lanes, const char* compiler, char** log, size_t* bytes) {
  TE_CATCH({
    using te_gpu::Compiler;
    std::string said;
    const te_gpu::Variant variant{at::ScalarType(type), lanes};
    *bytes = compiler ? Compiler(std::string(compiler)).compile(architecture, variant, said).size()
                      : Compiler::of_libtorch().compile(architecture, variant, said).size();
    *log = strdup(said.c_str());
  })
}

}  // extern "C"
