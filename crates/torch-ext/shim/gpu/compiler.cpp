#include "compiler.h"

#include "kernel_sources.h"
#include "runtime.h"

#include "../symbols.h"

#include <iterator>
#include <vector>

namespace te_gpu {
namespace {

void* open(const std::string& path) { return dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); }

// The folder of the library that has this function, with its last slash; empty where that is not known.
std::string folder_of(const void* function) {
  Dl_info library;
  if (!function || !dladdr(function, &library) || !library.dli_fname) return "";
  const std::string path = library.dli_fname;
  return path.substr(0, path.find_last_of('/') + 1);
}

// libtorch's own stub leads to the one that it was built with, wherever that lies.
void* open_that_of_libtorch() {
  std::vector<std::string> names{folder_of(reinterpret_cast<const void*>(&at::globalContext)) + "libcaffe2_nvrtc.so"};
  if (has_hip()) {
    // Beside HIP, where the linker may not look.
    const auto folder = folder_of(dlsym(RTLD_DEFAULT, "hipModuleLaunchKernel"));
    for (const auto& place : {folder, std::string()}) {
      for (const auto* name : {"libhiprtc.so.7", "libhiprtc.so.6", "libhiprtc.so"}) names.push_back(place + name);
    }
  } else {
    names.insert(names.end(), {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"});
  }
  std::string reason = "it cannot be loaded";
  for (const auto& name : names) {
    void* library = open(name);
    // The stub may lead nowhere.
    if (library && dlsym(library, has_hip() ? "hiprtcVersion" : "nvrtcVersion")) return library;
    if (const char* words = dlerror()) reason = words;
  }
  TORCH_CHECK(false, "there is no ", names.back(), ": ", reason);
  return nullptr;
}

void* open_or_refuse(const std::string& path) {
  void* library = open(path);
  TORCH_CHECK(library != nullptr, dlerror());
  return library;
}

const char* name_of(at::ScalarType element) {
  switch (element) {
    case at::kBFloat16: return "te_gpu::BFloat16";
    case at::kHalf: return "te_gpu::Half";
    default: return "float";
  }
}

}  // namespace

const Compiler& Compiler::of_libtorch() {
  static const Compiler& compiler = *new Compiler(open_that_of_libtorch()); // threads may compile to the end
  return compiler;
}

Compiler::Compiler(const std::string& path) : Compiler(open_or_refuse(path)) {}

Compiler::Compiler(void* library) : is_hip(dlsym(library, "hiprtcVersion") != nullptr) {
  const auto find = [&](auto& function, const std::string& name) {
    te_find(function, library, ((is_hip ? "hiprtc" : "nvrtc") + name).c_str());
  };
  find(create_program, "CreateProgram");
  find(compile_program, "CompileProgram");
  find(log_size, "GetProgramLogSize");
  find(log_of, "GetProgramLog");
  find(code_size, is_hip ? "GetCodeSize" : "GetCUBINSize");
  find(code_of, is_hip ? "GetCode" : "GetCUBIN");
  find(destroy_program, "DestroyProgram");
  find(words, "GetErrorString");
  if (is_hip) return;
  // NVRTC looks for this one where the program looks, not beside itself: it is there already then.
  int major = 0, minor = 0;
  check(te_function<int (*)(int*, int*)>(library, "nvrtcVersion")(&major, &minor), "its version");
  const auto folder = folder_of(reinterpret_cast<const void*>(compile_program));
  open(folder + "libnvrtc-builtins.so." + std::to_string(major) + "." + std::to_string(minor));
}

void Compiler::check(int status, const char* what) const {
  TORCH_CHECK(status == 0, is_hip ? "hipRTC: " : "NVRTC: ", what, ": ", words(status));
}

std::string Compiler::compile(const std::string& architecture, Variant variant, std::string& log) const {
  Program program = nullptr;
  const char* source = "#include \"all.h\"\n";
  constexpr int headers = int(std::size(te_kernel_texts));
  check(create_program(&program, source, "te_kernels.cu", headers, te_kernel_texts, te_kernel_names), "a program");
  struct Destroyed {
    const Compiler& compiler;
    Program* program;
    ~Destroyed() { compiler.destroy_program(program); }
  } destroyed{*this, &program};
  // Without contraction there come the bits of the host.
  std::vector<std::string> options{"--std=c++17", std::string("--define-macro=TE_ELEMENT=") + name_of(variant.element),
                                   "--define-macro=TE_LANES=" + std::to_string(variant.lanes)};
  if (is_hip) {
    options.insert(options.end(), {"--offload-arch=" + architecture, "-ffp-contract=off"});
  } else {
    options.insert(options.end(), {"--gpu-architecture=" + architecture, "--fmad=false", "--ptxas-options=--verbose"});
  }
  std::vector<const char*> pointers;
  for (const auto& option : options) pointers.push_back(option.c_str());
  const int status = compile_program(program, int(pointers.size()), pointers.data());
  size_t size = 0;
  check(log_size(program, &size), "its log");
  log.assign(size, '\0');
  check(log_of(program, log.data()), "its log");
  log.erase(log.find_last_not_of(std::string("\0\n ", 3)) + 1);
  TORCH_CHECK(status == 0, is_hip ? "hipRTC" : "NVRTC", ": kernels for ", architecture, ": ", words(status), "\n", log);
  check(code_size(program, &size), "its code");
  std::string code(size, '\0');
  check(code_of(program, code.data()), "its code");
  return code;
}

}  // namespace te_gpu
