#include "runtime.h"

#include "../symbols.h"

namespace te_gpu {
namespace {

// What both runtimes have, by names that differ in their first letters; 0 is success.
struct Common : Runtime {
  explicit Common(const char* prefix) : prefix(prefix) {
    find(attribute, "DeviceGetAttribute");
    find(words, "GetErrorString");
    find(last, "GetLastError");
  }

 protected:
  template <class F>
  void find(F& function, const char* name) const {
    te_find(function, RTLD_DEFAULT, (std::string(prefix) + name).c_str());
  }

  void check(int status, const char* what) const {
    if (status == 0) return;
    last();  // libtorch would find it after its own next kernel
    TORCH_CHECK(false, what, ": ", prefix, ": ", words(status));
  }

  int of_device(int number, at::Device device) const {
    int value = 0;
    check(attribute(&value, number, device.index()), "a device's attribute");
    return value;
  }

 private:
  const char* prefix;
  int (*attribute)(int*, int, int);
  const char* (*words)(int);
  int (*last)();
};

struct Cuda final : Common {
  // Numbers of `cudaDeviceAttr`.
  static constexpr int MULTIPROCESSORS = 16, CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76;
  struct Dim3 {
    unsigned x, y, z;
  };

  Cuda() : Common("cuda") {
    find(load_library, "LibraryLoadData");
    find(get_kernel, "LibraryGetKernel");
    find(launch_kernel, "LaunchKernel");
  }

  std::string architecture(at::Device device) const override {
    return "sm_" + std::to_string(of_device(CAPABILITY_MAJOR, device) * 10 + of_device(CAPABILITY_MINOR, device));
  }

  int multiprocessors(at::Device device) const override { return of_device(MULTIPROCESSORS, device); }

  void* load(const std::string& code) const override {
    void* library = nullptr;
    check(load_library(&library, code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0), "compiled kernels");
    return library;
  }

  void* kernel(void* loaded, const char* name) const override {
    void* kernel = nullptr;
    check(get_kernel(&kernel, loaded, name), name);
    return kernel;
  }

  void launch(void* kernel, Grid grid, void** arguments, void* stream) const override {
    check(launch_kernel(kernel, {grid.x, grid.y, 1}, {grid.wide, grid.high, 1}, arguments, 0, stream), "a kernel");
  }

 private:
  int (*load_library)(void**, const void*, void*, void*, unsigned, void*, void*, unsigned);
  int (*get_kernel)(void**, void*, const char*);
  int (*launch_kernel)(const void*, Dim3, Dim3, void**, size_t, void*);
};

// By modules: libraries, as CUDA has them, are new in HIP 7.2.
struct Hip final : Common {
  // A number of `hipDeviceAttribute_t`; the size of `hipDeviceProp_tR0600`, and where its `gcnArchName` lies: cuda.cpp, which has
  // HIP's headers, holds these.
  static constexpr int MULTIPROCESSORS = 63, PROPERTIES = 1472, ARCHITECTURE = 1160;

  Hip() : Common("hip") {
    find(properties, "GetDevicePropertiesR0600");
    find(load_module, "ModuleLoadData");
    find(get_function, "ModuleGetFunction");
    find(launch_function, "ModuleLaunchKernel");
  }

  std::string architecture(at::Device device) const override {
    alignas(8) char all[PROPERTIES] = {};
    check(properties(all, device.index()), "a device's properties");
    return all + ARCHITECTURE;
  }

  int multiprocessors(at::Device device) const override { return of_device(MULTIPROCESSORS, device); }

  void* load(const std::string& code) const override {
    void* module = nullptr;
    check(load_module(&module, code.data()), "compiled kernels");
    return module;
  }

  void* kernel(void* loaded, const char* name) const override {
    void* function = nullptr;
    check(get_function(&function, loaded, name), name);
    return function;
  }

  void launch(void* kernel, Grid grid, void** arguments, void* stream) const override {
    check(launch_function(kernel, grid.x, grid.y, 1, grid.wide, grid.high, 1, 0, stream, arguments, nullptr), "a kernel");
  }

 private:
  int (*properties)(void*, int);
  int (*load_module)(void**, const void*);
  int (*get_function)(void**, void*, const char*);
  int (*launch_function)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);
};

}  // namespace

bool has_hip() { return dlsym(RTLD_DEFAULT, "hipModuleLaunchKernel") != nullptr; }

const Runtime& runtime() {
  static const Runtime& loaded = []() -> const Runtime& {
    if (has_hip()) return *new Hip;
    return *new Cuda;
  }();
  return loaded;
}

}  // namespace te_gpu
