// Vectors of single precision, for the kernels. Nothing in it leaves a file that is compiled for AVX2: of an inline function
// the linker might choose that version for the rest of the program.
#pragma once

#include <stdint.h>

#define TE_INLINE __attribute__((always_inline))

namespace te_kernels {
namespace {

template <int N>
using Vector __attribute__((vector_size(4 * N))) = float;

// Vectors lie anywhere in memory.
template <class V>
struct __attribute__((packed, may_alias)) Unaligned {
  V values;
};

template <class V>
TE_INLINE inline V load(const float* at) {
  return reinterpret_cast<const Unaligned<V>*>(at)->values;
}

template <class V>
TE_INLINE inline void store(float* at, V values) {
  reinterpret_cast<Unaligned<V>*>(at)->values = values;
}

}  // namespace
}  // namespace te_kernels
