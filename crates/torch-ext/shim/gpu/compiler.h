// The compiler of kernels: NVRTC, or hipRTC for AMD's GPUs. It is not linked: it lies beside a libtorch that can compute on a GPU at
// all, and is asked for by name, so that this is in every build.
#pragma once

#include "launch.h"

#include <string>

namespace te_gpu {

class Compiler {
 public:
  // The one of libtorch.
  static const Compiler& of_libtorch();
  // The library at a path.
  explicit Compiler(const std::string& path);

  // The kernels for an architecture ("sm_90", "gfx942"); `log` is what the compiler said. Throws what it refused.
  std::string compile(const std::string& architecture, Variant variant, std::string& log) const;

 private:
  using Program = void*;

  explicit Compiler(void* library);
  void check(int status, const char* what) const;

  bool is_hip;
  // As both call them after their own first letters; 0 is success.
  int (*create_program)(Program*, const char*, const char*, int, const char* const*, const char* const*);
  int (*compile_program)(Program, int, const char* const*);
  int (*log_size)(Program, size_t*);
  int (*log_of)(Program, char*);
  int (*code_size)(Program, size_t*);
  int (*code_of)(Program, char*);
  int (*destroy_program)(Program*);
  const char* (*words)(int);
};

}  // namespace te_gpu
