// Kernels compiled by NVRTC, for the GPU that is there, when they are first wanted. Neither NVRTC nor CUDA is linked: both lie
// beside libtorch where it can compute on a GPU at all, and are asked for by name, so that this is in every build.

#include "kernel_sources.h"
#include "launch.h"

#include "../shim.h"
#include "../symbols.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <tuple>

namespace te_gpu {
namespace {

// ---- Libraries ---------------------------------------------------------------------------------------

void* open(const std::string& path) { return dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); }

// The folder of the library that has this function, with its last slash; empty where that is not known.
std::string folder_of(const void* function) {
  Dl_info library;
  if (!dladdr(function, &library) || !library.dli_fname) return "";
  const std::string path = library.dli_fname;
  return path.substr(0, path.find_last_of('/') + 1);
}

// NVRTC. libtorch's own stub leads to the one that it was built with, wherever that lies.
void* open_nvrtc() {
  const auto folder = folder_of(reinterpret_cast<const void*>(&at::globalContext));
  for (const auto& name : {folder + "libcaffe2_nvrtc.so", std::string("libnvrtc.so.13"), std::string("libnvrtc.so.12"),
                           std::string("libnvrtc.so")}) {
    if (void* handle = open(name)) return handle;
  }
  const char* reason = dlerror();
  TORCH_CHECK(false, "there is no libnvrtc.so: ", reason ? reason : "it cannot be loaded");
  return nullptr;
}

// The functions of NVRTC's interface that are called here, as its documentation has them; 0 is success.
struct Nvrtc {
  using Program = void*;
  int (*create)(Program*, const char*, const char*, int, const char* const*, const char* const*);
  int (*compile)(Program, int, const char* const*);
  int (*log_size)(Program, size_t*);
  int (*log)(Program, char*);
  int (*cubin_size)(Program, size_t*);
  int (*cubin)(Program, char*);
  int (*destroy)(Program*);
  const char* (*words)(int);

  explicit Nvrtc(void* handle)
      : create(te_function<decltype(create)>(handle, "nvrtcCreateProgram")),
        compile(te_function<decltype(compile)>(handle, "nvrtcCompileProgram")),
        log_size(te_function<decltype(log_size)>(handle, "nvrtcGetProgramLogSize")),
        log(te_function<decltype(log)>(handle, "nvrtcGetProgramLog")),
        cubin_size(te_function<decltype(cubin_size)>(handle, "nvrtcGetCUBINSize")),
        cubin(te_function<decltype(cubin)>(handle, "nvrtcGetCUBIN")),
        destroy(te_function<decltype(destroy)>(handle, "nvrtcDestroyProgram")),
        words(te_function<decltype(words)>(handle, "nvrtcGetErrorString")) {
    // NVRTC looks for this one where the program looks, not beside itself: it is there already then.
    int major = 0, minor = 0;
    check(te_function<int (*)(int*, int*)>(handle, "nvrtcVersion")(&major, &minor), "its version");
    const auto folder = folder_of(reinterpret_cast<const void*>(compile));
    open(folder + "libnvrtc-builtins.so." + std::to_string(major) + "." + std::to_string(minor));
  }

  void check(int status, const char* what) const {
    TORCH_CHECK(status == 0, "NVRTC: ", what, ": ", words(status));
  }
};

// CUDA's runtime, likewise. libtorch has loaded it.
struct Runtime {
  struct Dim3 {
    unsigned x, y, z;
  };
  int (*load)(void**, const void*, void*, void*, unsigned, void*, void*, unsigned);
  int (*kernel)(void**, void*, const char*);
  int (*launch)(const void*, Dim3, Dim3, void**, size_t, void*);
  int (*attribute)(int*, int, int);
  const char* (*words)(int);
  int (*last)();

  Runtime()
      : load(te_function<decltype(load)>(RTLD_DEFAULT, "cudaLibraryLoadData")),
        kernel(te_function<decltype(kernel)>(RTLD_DEFAULT, "cudaLibraryGetKernel")),
        launch(te_function<decltype(launch)>(RTLD_DEFAULT, "cudaLaunchKernel")),
        attribute(te_function<decltype(attribute)>(RTLD_DEFAULT, "cudaDeviceGetAttribute")),
        words(te_function<decltype(words)>(RTLD_DEFAULT, "cudaGetErrorString")),
        last(te_function<decltype(last)>(RTLD_DEFAULT, "cudaGetLastError")) {}

  void check(int status, const char* what) const {
    if (status == 0) return;
    last();  // libtorch would find it after its own next kernel
    TORCH_CHECK(false, what, ": CUDA error: ", words(status));
  }

  int of_device(int attribute_, at::Device device) const {
    int value = 0;
    check(attribute(&value, attribute_, device.index()), "a device's attribute");
    return value;
  }
};

// Numbers of `cudaDeviceAttr`.
constexpr int MULTIPROCESSORS = 16, CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76;

const Runtime& runtime() {
  static const Runtime loaded;
  return loaded;
}

const Nvrtc& nvrtc() {
  static const Nvrtc loaded(open_nvrtc());
  return loaded;
}

// ---- Kernels -----------------------------------------------------------------------------------------

const char* name_of(at::ScalarType element) {
  switch (element) {
    case at::kBFloat16: return "te_gpu::BFloat16";
    case at::kHalf: return "te_gpu::Half";
    default: return "float";
  }
}

std::string compile_with(const Nvrtc& nvrtc, const std::string& architecture, Variant variant, std::string& log) {
  Nvrtc::Program program = nullptr;
  const char* source = "#include \"all.h\"\n";
  constexpr int headers = int(std::size(te_kernel_texts));
  nvrtc.check(nvrtc.create(&program, source, "te_kernels.cu", headers, te_kernel_texts, te_kernel_names), "a program");
  struct Destroyed {
    const Nvrtc& nvrtc;
    Nvrtc::Program* program;
    ~Destroyed() { nvrtc.destroy(program); }
  } destroyed{nvrtc, &program};
  const std::array<std::string, 6> options{"--gpu-architecture=" + architecture,
                                           "--std=c++17",
                                           "--fmad=false",  // the bits of the host
                                           std::string("--define-macro=TE_ELEMENT=") + name_of(variant.element),
                                           "--define-macro=TE_LANES=" + std::to_string(variant.lanes),
                                           "--ptxas-options=--verbose"};
  std::array<const char*, options.size()> words;
  for (size_t i = 0; i < options.size(); ++i) words[i] = options[i].c_str();
  const int status = nvrtc.compile(program, int(words.size()), words.data());
  size_t size = 0;
  nvrtc.check(nvrtc.log_size(program, &size), "its log");
  log.assign(size, '\0');
  nvrtc.check(nvrtc.log(program, log.data()), "its log");
  log.erase(log.find_last_not_of(std::string("\0\n ", 3)) + 1);
  TORCH_CHECK(status == 0, "NVRTC: kernels for ", architecture, ": ", nvrtc.words(status), "\n", log);
  nvrtc.check(nvrtc.cubin_size(program, &size), "its code");
  std::string code(size, '\0');
  nvrtc.check(nvrtc.cubin(program, code.data()), "its code");
  return code;
}

using Kernels = std::array<void*, KERNELS>;

// The kernels of a variant for a device's architecture. They stay until the end.
const Kernels& kernels(at::Device device, Variant variant) {
  static std::mutex mutex;
  static std::map<std::tuple<int, at::ScalarType, int>, Kernels> known;
  const auto& cuda = runtime();
  const int capability = cuda.of_device(CAPABILITY_MAJOR, device) * 10 + cuda.of_device(CAPABILITY_MINOR, device);
  std::lock_guard<std::mutex> lock(mutex);
  const auto key = std::make_tuple(capability, variant.element, variant.lanes);
  if (auto found = known.find(key); found != known.end()) return found->second;
  std::string log;
  const auto code = compile_with(nvrtc(), "sm_" + std::to_string(capability), variant, log);
  void* library = nullptr;
  cuda.check(cuda.load(&library, code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0), "compiled kernels");
  Kernels all;
#define TE_LOOK_UP(name, Args, threads) \
  cuda.check(cuda.kernel(&all[KERNEL_##name], library, "te_" #name), "the kernel te_" #name);
  TE_KERNELS(TE_LOOK_UP)
#undef TE_LOOK_UP
  return known.emplace(key, all).first->second;
}

}  // namespace

std::string compile(const std::string& architecture, Variant variant, const char* path, std::string& log) {
  if (path == nullptr) return compile_with(nvrtc(), architecture, variant, log);
  void* handle = open(path);
  TORCH_CHECK(handle != nullptr, dlerror());
  return compile_with(Nvrtc(handle), architecture, variant, log);
}

void run_on_gpu(Kernel kernel, at::Device device, Variant variant, Grid grid, const void* args) {
  const auto& cuda = runtime();
  const auto& all = kernels(device, variant);
  const auto stream = c10::impl::getDeviceGuardImpl(device.type())->getStream(device);
  const c10::DeviceGuard guard(device);
  void* arguments[] = {const_cast<void*>(args)};
  cuda.check(cuda.launch(all[kernel], {grid.x, grid.y, 1}, {grid.wide, grid.high, 1}, arguments, 0, stream.native_handle()),
             "a kernel");
}

unsigned multiprocessors(at::Device device) {
  static std::array<std::atomic<int>, 64> known{};
  auto& number = known[size_t(device.index()) % known.size()];
  if (number == 0) number = runtime().of_device(MULTIPROCESSORS, device);
  return unsigned(number.load());
}

}  // namespace te_gpu

extern "C" {

// Compiles all kernels for an architecture ("sm_90"), of elements of this type, so many of which travel in one. `nvrtc` is the
// path of a libnvrtc.so, or null. `log` is the compiler's, which the caller frees with te_free_message; `bytes` are the code's.
char* te_gpu_compile(const char* architecture, int32_t type, int32_t lanes, const char* nvrtc, char** log, size_t* bytes) {
  TE_CATCH({
    std::string said;
    *bytes = te_gpu::compile(architecture, {at::ScalarType(type), lanes}, nvrtc, said).size();
    *log = strdup(said.c_str());
  })
}

}  // extern "C"
