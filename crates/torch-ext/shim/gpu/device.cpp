// Kernels on the GPU that is there, compiled when they are first wanted.

#include "compiler.h"
#include "launch.h"
#include "runtime.h"

#include "../shim.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <array>
#include <atomic>
#include <future>
#include <map>
#include <mutex>
#include <tuple>

namespace te_gpu {
namespace {

using Kernels = std::array<void*, KERNELS>;
using Key = std::tuple<int, at::ScalarType, int>;

// Code that is compiled, by the variant and the device that it is for, and what of it the device has. It stays until the end.
struct Known {
  std::mutex mutex;
  std::map<Key, std::future<std::string>> compiled;
  std::map<Key, Kernels> loaded;

  static Known& all() {
    static Known* known = new Known;  // threads that compile may outlive what is destroyed at the end
    return *known;
  }

  // Begins to compile a variant, if nobody has. Under the mutex.
  std::future<std::string>& begin(at::Device device, Variant variant) {
    auto& code = compiled[key_of(device, variant)];
    if (!code.valid()) {
      code = std::async(std::launch::async, [architecture = runtime().architecture(device), variant] {
        std::string log;
        return Compiler::of_libtorch().compile(architecture, variant, log);
      });
    }
    return code;
  }

  static Key key_of(at::Device device, Variant variant) { return {int(device.index()), variant.element, variant.lanes}; }
};

// The kernels of a variant for a device, the current one.
const Kernels& kernels(at::Device device, Variant variant) {
  auto& known = Known::all();
  std::lock_guard<std::mutex> lock(known.mutex);
  const auto key = Known::key_of(device, variant);
  if (auto found = known.loaded.find(key); found != known.loaded.end()) return found->second;
  const auto code = known.begin(device, variant).get();
  void* loaded = runtime().load(code);
  Kernels all;
#define TE_LOOK_UP(name, Args, threads) all[KERNEL_##name] = runtime().kernel(loaded, "te_" #name);
  TE_KERNELS(TE_LOOK_UP)
#undef TE_LOOK_UP
  return known.loaded.emplace(key, all).first->second;
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

// Begins to compile the kernels for a CUDA device, of elements of these types, so many of which travel in one: all at once, each in a
// thread of its own. Whoever wants them first waits for them, and learns what went wrong.
char* te_gpu_begin(int index, const int32_t* types, const int32_t* lanes, size_t count) {
  TE_CATCH({
    auto& known = te_gpu::Known::all();
    std::lock_guard<std::mutex> lock(known.mutex);
    const at::Device device(at::kCUDA, te_device(index));
    for (size_t i = 0; i < count; ++i) {
      const te_gpu::Variant variant{at::ScalarType(types[i]), lanes[i]};
      if (!known.loaded.count(te_gpu::Known::key_of(device, variant))) known.begin(device, variant);
    }
  })
}

// Waits for what was begun and nobody has wanted, so that nothing is compiled when the program ends.
void te_gpu_end() {
  auto& known = te_gpu::Known::all();
  std::lock_guard<std::mutex> lock(known.mutex);
  for (auto& [key, code] : known.compiled) {
    if (code.valid()) code.wait();
  }
}

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
