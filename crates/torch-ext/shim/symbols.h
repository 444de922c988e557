// Functions of libraries that are not linked, by their names.
#pragma once

#include <c10/util/Exception.h>

#include <dlfcn.h>

// A function of this type, of a library that was opened, or with RTLD_DEFAULT of one that the program has loaded.
template <class F>
F te_function(void* library, const char* name) {
  void* found = dlsym(library, name);
  TORCH_CHECK(found != nullptr, "there is no ", name, ": ",
              library == RTLD_DEFAULT ? "this is a libtorch without CUDA" : dlerror());
  return reinterpret_cast<F>(found);
}

// The same, into a pointer to it.
template <class F>
void te_find(F& function, void* library, const char* name) {
  function = te_function<F>(library, name);
}
