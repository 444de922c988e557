// What every file of the shim shares: tensors come in as tch's own handles (`at::Tensor*`), and no exception goes out.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <cstring>
#include <exception>
#include <vector>

// Runs the statements; on an exception returns its message, which the caller frees with te_free_message; else null.
#define TE_CATCH(...)                               \
  try {                                             \
    __VA_ARGS__;                                    \
    return nullptr;                                 \
  } catch (const c10::Error& error) {               \
    return strdup(error.what_without_backtrace());  \
  } catch (const std::exception& error) {           \
    return strdup(error.what());                    \
  } catch (...) {                                   \
    return strdup("an exception without a message"); \
  }

// The tensors behind COUNT handles; refuses a null handle and an undefined tensor.
inline std::vector<at::Tensor> te_tensors(at::Tensor* const* handles, size_t count) {
  std::vector<at::Tensor> tensors;
  tensors.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    TORCH_CHECK(handles[i] != nullptr && handles[i]->defined(), "tensor ", i, " is undefined");
    tensors.push_back(*handles[i]);
  }
  return tensors;
}
