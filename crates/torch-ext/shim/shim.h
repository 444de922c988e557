// What every file of the shim shares: tensors come in as tch's own handles (`at::Tensor*`), and no exception goes out.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <cstring>
#include <exception>
#include <limits>
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

// Gives the answer to a question; an exception is a no.
#define TE_ASK(...)       \
  try {                   \
    return (__VA_ARGS__); \
  } catch (...) {         \
    return false;         \
  }

// Whether a tensor has elements in memory, at strides: not an undefined, sparse or opaque one, nor one that is negated when
// it is read.
inline bool te_dense(const at::Tensor& tensor) {
  return tensor.defined() && tensor.layout() == at::kStrided && !tensor.is_neg() && !tensor.is_conj();
}

// A CUDA device's number. libtorch counts them in one byte: another number must not become one of a device that is there.
inline c10::DeviceIndex te_device(int index) {
  TORCH_CHECK(index >= 0 && index <= std::numeric_limits<c10::DeviceIndex>::max(), "there is no device ", index);
  return c10::DeviceIndex(index);
}

// A list of tensors, as it crosses from Rust. Its length always travels with it.
struct te_list {
  at::Tensor* const* handles;
  size_t count;
};

// The tensor behind a handle; refuses a null handle and an undefined tensor.
inline const at::Tensor& te_tensor(const at::Tensor* handle) {
  TORCH_CHECK(handle != nullptr && handle->defined(), "the tensor is undefined");
  return *handle;
}

// The tensors of a list; refuses a null handle and an undefined tensor.
inline std::vector<at::Tensor> te_tensors(te_list list) {
  std::vector<at::Tensor> tensors;
  tensors.reserve(list.count);
  for (size_t i = 0; i < list.count; ++i) {
    TORCH_CHECK(list.handles[i] != nullptr && list.handles[i]->defined(), "tensor ", i, " is undefined");
    tensors.push_back(*list.handles[i]);
  }
  return tensors;
}

// As te_tensors, of a list that must have `count` of them.
inline std::vector<at::Tensor> te_tensors(te_list list, size_t count, const char* what) {
  TORCH_CHECK(list.count == count, list.count, " ", what, " where ", count, " are wanted");
  return te_tensors(list);
}
