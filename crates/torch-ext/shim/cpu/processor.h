// What all kernels on the CPU need: which processor this is, and libtorch's threads.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/TensorIterator.h>
#include <ATen/ops/arange.h>

// The kernels are compiled for this, where the processor is an x86-64.
inline bool te_has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

// Whether oneDNN has kernels here that are not for AVX2.
inline bool te_has_avx512() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f");
#else
  return false;
#endif
}

// Calls f(0) … f(count − 1), on libtorch's own threads: its OpenMP need not be the compiler's, so at::parallel_for cannot be
// compiled here.
template <class F>
void te_for_each(int64_t count, const F& f) {
  if (at::get_num_threads() == 1) {
    for (int64_t index = 0; index < count; ++index) f(index);
    return;
  }
  auto numbers = at::arange(count, at::kLong);
  auto each = at::TensorIterator::nullary_op(numbers);
  auto some = [&](char** data, const int64_t* strides, int64_t length, int64_t /*of one*/) {
    for (int64_t i = 0; i < length; ++i) f(*reinterpret_cast<const int64_t*>(data[0] + i * strides[0]));
  };
  each.for_each(some, /*grain_size=*/1);
}
