// The types of elements in memory. All arithmetic is in single precision.
#pragma once

#include "dialect.h"

#ifndef TE_ON_GPU
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#endif

namespace te_gpu {

struct BFloat16 {
  unsigned short bits;
};
struct Half {
  unsigned short bits;
};

TE_DEVICE float wide(float value) { return value; }

#ifdef TE_ON_GPU

TE_DEVICE float wide(BFloat16 value) { return __uint_as_float(unsigned(value.bits) << 16); }
TE_DEVICE float wide(Half value) {
#ifdef __HIPCC_RTC__
  return __builtin_bit_cast(_Float16, value.bits);
#else
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(value.bits));
  return out;
#endif
}

template <class T>
TE_DEVICE T narrow(float value);
template <>
__device__ __forceinline__ float narrow<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ BFloat16 narrow<BFloat16>(float value) {
  BFloat16 out;
#if __CUDA_ARCH__ >= 800
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(value));
#else
  // To the nearest, to the even one of two that are as near.
  const unsigned bits = __float_as_uint(value);
  out.bits = value != value ? 0x7fc0 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
#endif
  return out;
}
template <>
__device__ __forceinline__ Half narrow<Half>(float value) {
#ifdef __HIPCC_RTC__
  return {__builtin_bit_cast(unsigned short, _Float16(value))};
#else
  Half out;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(value));
  return out;
#endif
}

TE_DEVICE float exponential(float value) { return expf(value); }
TE_DEVICE float root(float value) { return sqrtf(value); }

#else

TE_DEVICE float wide(BFloat16 value) { return c10::BFloat16(value.bits, c10::BFloat16::from_bits()); }
TE_DEVICE float wide(Half value) { return c10::Half(value.bits, c10::Half::from_bits()); }

template <class T>
TE_DEVICE T narrow(float value);
template <>
inline float narrow<float>(float value) {
  return value;
}
template <>
inline BFloat16 narrow<BFloat16>(float value) {
  return {c10::BFloat16(value).x};
}
template <>
inline Half narrow<Half>(float value) {
  return {c10::Half(value).x};
}

TE_DEVICE float exponential(float value) { return std::exp(value); }
TE_DEVICE float root(float value) { return std::sqrt(value); }

#endif

// Neighbours in memory that travel in one, N of them.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T lanes[N];
};

template <class T, int N>
TE_DEVICE void load(const void* from, i64 index, float* values) {
  const auto pack = static_cast<const Pack<T, N>*>(from)[index];
  TE_UNROLL(N)
  for (int lane = 0; lane < N; ++lane) values[lane] = wide(pack.lanes[lane]);
}

template <class T, int N>
TE_DEVICE void store(void* to, i64 index, const float* values) {
  Pack<T, N> pack;
  TE_UNROLL(N)
  for (int lane = 0; lane < N; ++lane) pack.lanes[lane] = narrow<T>(values[lane]);
  static_cast<Pack<T, N>*>(to)[index] = pack;
}

// Numbers in memory that are of type T, or of single precision whatever T is.
struct Source {
  const void* at;
  bool are_single;
};
struct Target {
  void* at;
  bool are_single;
};

template <class T, int N>
TE_DEVICE void load(const Source& from, i64 index, float* values) {
  if (from.are_single) {
    load<float, N>(from.at, index, values);
  } else {
    load<T, N>(from.at, index, values);
  }
}

template <class T, int N>
TE_DEVICE void store(const Target& to, i64 index, const float* values) {
  if (to.are_single) {
    store<float, N>(to.at, index, values);
  } else {
    store<T, N>(to.at, index, values);
  }
}

}  // namespace te_gpu
