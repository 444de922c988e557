// Max pooling with channels last. Which pixel of its window an output is lies in one byte, where libtorch takes eight.
#pragma once

#include "elements.h"

namespace te_gpu {

// Threads in x share the channels, N to each; those in y have a pixel each.
struct Pool {
  unsigned samples, channels, in_height, in_width, out_height, out_width, side, stride, padding;
};

// Where the pixel of this number is, in images of a size.
struct Pixel {
  unsigned sample, row, column;
};

TE_DEVICE Pixel pixel_of(unsigned number, unsigned height, unsigned width) {
  return {number / width / height, number / width % height, number % width};
}

struct MaxPool {
  const void* x;
  void* y;
  // For each output, the place in its window, row by row; may be null.
  byte* places;
  Pool pool;
};

template <class T, int N>
TE_DEVICE void max_pool(const MaxPool& args, Place place) {
  const Pool pool = args.pool;
  const unsigned packs = pool.channels / N, pixels = pool.samples * pool.out_height * pool.out_width;
  TE_EACH_THREAD(tx, ty) {
    const unsigned pack = block_x(place) * width(place) + tx;
    const unsigned step = blocks_y(place) * height(place);
    for (unsigned pixel = block_y(place) * height(place) + ty; pack < packs && pixel < pixels; pixel += step) {
      const auto at = pixel_of(pixel, pool.out_height, pool.out_width);
      const int top = int(at.row * pool.stride) - int(pool.padding);
      const int left = int(at.column * pool.stride) - int(pool.padding);
      float best[N] = {};
      byte of[N] = {};
      bool is_first = true;
      for (int down = 0; down < int(pool.side); ++down) {
        for (int right = 0; right < int(pool.side); ++right) {
          const int y = top + down, x = left + right;
          if (y < 0 || x < 0 || y >= int(pool.in_height) || x >= int(pool.in_width)) continue;
          float values[N];
          load<T, N>(args.x, (i64(at.sample * pool.in_height + y) * pool.in_width + x) * packs + pack, values);
          for (int lane = 0; lane < N; ++lane) {
            // A NaN is taken, and the last of several, as libtorch does.
            if (is_first || values[lane] > best[lane] || values[lane] != values[lane]) {
              best[lane] = values[lane];
              of[lane] = byte(down * int(pool.side) + right);
            }
          }
          is_first = false;
        }
      }
      const i64 index = i64(pixel) * packs + pack;
      store<T, N>(args.y, index, best);
      if (args.places) {
        Pack<byte, N> places;
        for (int lane = 0; lane < N; ++lane) places.lanes[lane] = of[lane];
        reinterpret_cast<Pack<byte, N>*>(args.places)[index] = places;
      }
    }
  }
}

struct MaxPoolGradient {
  const void* dy;
  const byte* places;
  void* dx;
  Pool pool;
};

// Each pixel looks at the windows that it lies in: no two threads add to the same number.
template <class T, int N>
TE_DEVICE void max_pool_gradient(const MaxPoolGradient& args, Place place) {
  const Pool pool = args.pool;
  const unsigned packs = pool.channels / N, pixels = pool.samples * pool.in_height * pool.in_width;
  TE_EACH_THREAD(tx, ty) {
    const unsigned pack = block_x(place) * width(place) + tx;
    const unsigned step = blocks_y(place) * height(place);
    for (unsigned pixel = block_y(place) * height(place) + ty; pack < packs && pixel < pixels; pixel += step) {
      const auto at = pixel_of(pixel, pool.in_height, pool.in_width);
      const unsigned below = at.row + pool.padding, beside = at.column + pool.padding;
      // The first window that reaches this far, and the last one that begins early enough.
      const unsigned top = below < pool.side ? 0 : (below - pool.side) / pool.stride + 1;
      const unsigned left = beside < pool.side ? 0 : (beside - pool.side) / pool.stride + 1;
      float sum[N] = {};
      for (unsigned y = top; y <= below / pool.stride && y < pool.out_height; ++y) {
        for (unsigned x = left; x <= beside / pool.stride && x < pool.out_width; ++x) {
          const i64 index = (i64(at.sample * pool.out_height + y) * pool.out_width + x) * packs + pack;
          const byte own = byte((below - y * pool.stride) * pool.side + (beside - x * pool.stride));
          const auto places = reinterpret_cast<const Pack<byte, N>*>(args.places)[index];
          float dy[N];
          load<T, N>(args.dy, index, dy);
          for (int lane = 0; lane < N; ++lane) sum[lane] += places.lanes[lane] == own ? dy[lane] : 0;
        }
      }
      store<T, N>(args.dx, i64(pixel) * packs + pack, sum);
    }
  }
}

}  // namespace te_gpu
