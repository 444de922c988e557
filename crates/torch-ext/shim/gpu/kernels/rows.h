// Tensors of `rows` rows of `channels` channels. Rows are cut into parts, one for each block in y; threads in x share the
// channels, N to each, threads in y the rows of a part. A sum is made of each thread's, in a tree, then of the parts'.
#pragma once

#include "elements.h"

namespace te_gpu {

struct Rows {
  i64 count, of_part;
  int channels;
};

// The rows of a block.
struct Span {
  i64 begin, end;
};

TE_DEVICE Span part_of(const Rows& rows, Place place) {
  const i64 begin = i64(block_y(place)) * rows.of_part, end = begin + rows.of_part;
  return {begin, end < rows.count ? end : rows.count};
}

// Merges what the threads of a column have left in shared memory, in a tree: f(own, other) takes other's into own's, each the
// number of a thread. The result is the first row's.
template <class F>
TE_DEVICE void merge_columns(Place place, F f) {
  TE_SYNC;
  for (unsigned half = height(place) / 2; half > 0; half /= 2) {
    TE_EACH_THREAD(tx, ty) {
      const int own = ty * width(place) + tx;
      if (ty < half) f(own, own + int(half * width(place)));
    }
    TE_SYNC;
  }
}

template <int N>
TE_DEVICE void of_channels(const float* values, int pack, float* out) {
  for (int lane = 0; lane < N; ++lane) out[lane] = values[pack * N + lane];
}

// Two sums that the threads of a block have left in shared memory, for N channels each, as the block's part: all of the first, then
// all of the second.
template <int N>
TE_DEVICE void store_sums(float* first, float* second, float* parts, int channels, Place place) {
  merge_columns(place, [&](int own, int other) {
    for (int lane = 0; lane < N; ++lane) {
      first[lane * BLOCK + own] += first[lane * BLOCK + other];
      second[lane * BLOCK + own] += second[lane * BLOCK + other];
    }
  });
  TE_EACH_THREAD(tx, ty) {
    const int pack = block_x(place) * width(place) + tx;
    if (ty == 0 && pack < channels / N) {
      float* own = parts + i64(block_y(place)) * 2 * channels;
      for (int lane = 0; lane < N; ++lane) {
        own[pack * N + lane] = first[lane * BLOCK + tx];
        own[channels + pack * N + lane] = second[lane * BLOCK + tx];
      }
    }
  }
}

}  // namespace te_gpu
