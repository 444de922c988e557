// What kernels are written in. NVRTC, or hipRTC, compiles them for a GPU, where each thread runs them by itself; a host compiler makes
// functions of them that run all threads of one block, step by step: between two TE_SYNC each thread's part is a turn of
// a loop. So what a thread keeps from one part to the next lies in shared memory, or is a PerThread.
//
// The same bits on both: nothing is contracted (`--fmad=false`, `-ffp-contract=off`), and every sum has its order.
#pragma once

namespace te_gpu {

typedef long long i64;
typedef unsigned char byte;

// Threads of one block, in every kernel.
constexpr int BLOCK = 256;
// Those of the few blocks that merge what many have summed up.
constexpr int LARGE_BLOCK = 1024;

}  // namespace te_gpu

#if defined(__CUDACC_RTC__) || defined(__HIPCC_RTC__)
#define TE_ON_GPU
#endif

#ifdef TE_ON_GPU

#define TE_DEVICE static __device__ __forceinline__
#define TE_DEVICE_MEMBER __device__ __forceinline__
#define TE_PRAGMA(words) _Pragma(#words)
#define TE_UNROLL(count) TE_PRAGMA(unroll count)
#define TE_SHARED(type, name, count) __shared__ type name[count]
#define TE_SYNC __syncthreads()
#define TE_EACH_THREAD(tx, ty) for (unsigned tx = threadIdx.x, ty = threadIdx.y, te_once = 1; te_once; te_once = 0)

namespace te_gpu {

struct Place {};
TE_DEVICE unsigned block_x(Place) { return blockIdx.x; }
TE_DEVICE unsigned block_y(Place) { return blockIdx.y; }
TE_DEVICE unsigned blocks_y(Place) { return gridDim.y; }
TE_DEVICE unsigned width(Place) { return blockDim.x; }
TE_DEVICE unsigned height(Place) { return blockDim.y; }

// A number that each thread keeps in a register.
struct PerThread {
  float own;
  TE_DEVICE_MEMBER float& operator[](unsigned) { return own; }
};

// Each thread's number becomes the sum over the threads that have its place in y, in a tree. These are a power of two, at most 32,
// and all of them must be there.
TE_DEVICE void sum_along_x(PerThread& numbers, Place place) {
  for (unsigned distance = width(place) / 2; distance > 0; distance /= 2) {
#ifdef __HIPCC_RTC__
    numbers.own += __shfl_xor(numbers.own, distance);  // 64 threads at a time: those of a place in y are within
#else
    numbers.own += __shfl_xor_sync(0xffffffff, numbers.own, distance);
#endif
  }
}

}  // namespace te_gpu

#else

#include <cmath>

#define TE_DEVICE static inline
#define TE_UNROLL(count)
#define TE_SHARED(type, name, count) type name[count]
#define TE_SYNC
#define TE_EACH_THREAD(tx, ty)                      \
  for (unsigned ty = 0; ty < height(place); ++ty)   \
    for (unsigned tx = 0; tx < width(place); ++tx)

namespace te_gpu {

// Which block of how many, and its threads.
struct Place {
  unsigned x, y, of_y, wide, high;
};
TE_DEVICE unsigned block_x(Place place) { return place.x; }
TE_DEVICE unsigned block_y(Place place) { return place.y; }
TE_DEVICE unsigned blocks_y(Place place) { return place.of_y; }
TE_DEVICE unsigned width(Place place) { return place.wide; }
TE_DEVICE unsigned height(Place place) { return place.high; }

// A number for each thread of a block.
struct PerThread {
  float of[BLOCK];
  float& operator[](unsigned thread) { return of[thread]; }
};

TE_DEVICE void sum_along_x(PerThread& numbers, Place place) {
  for (unsigned distance = width(place) / 2; distance > 0; distance /= 2) {
    const PerThread before = numbers;
    TE_EACH_THREAD(tx, ty) {
      const unsigned row = ty * width(place);
      numbers.of[row + tx] = before.of[row + tx] + before.of[row + (tx ^ distance)];
    }
  }
}

}  // namespace te_gpu

#endif
