// The gradient of a convolution's weights: for each tap (row, column), a product of matrices, dyᵀ·x over all pixels, with x
// moved by the tap. Compiled for AVX2 and FMA: sixteen vectors of eight numbers are the registers.
//
// A tile's sums stay in registers over a few rows of pixels: 4 channels of dy times 8 of x, at all three columns of a row of
// taps, are twelve vectors. A pixel then costs seven loads and twelve products, and it is the products that are waited for.
// What a tile reads lies in a scratch that fits into the first cache, in the order in which it is read, with zeros around.

#include "convolution_kernels.h"

#include <string.h>

#include "vectors.h"

namespace te_kernels {
namespace {

using V = Vector<8>;
using Quarter = Vector<4>;

constexpr int64_t TAPS = 3, X_CHANNELS = 8, DY_CHANNELS = 4, SUMS = TAPS * X_CHANNELS;
// Numbers of a scratch that stay in the first cache (32 KB), beside the sums.
constexpr int64_t SCRATCH = 6144;

// Not std::min and std::max: those are inline functions, of which the linker may keep this version for the whole program.
int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Rows of outputs that are computed at a time, and the scratch of their pixels: x as in_count/8 × rows × padded width × 8, dy
// as out_count/4 × rows × width × 4.
struct Rows {
  int64_t count, x_rows, x_width, x_size, dy_size;

  Rows(Convolution3x3 of, Block block) : x_width((of.out_width - 1) * of.stride + TAPS) {
    const int64_t of_x = of.stride * x_width * block.in_count, of_dy = of.out_width * block.out_count;
    count = smaller(larger((SCRATCH - (TAPS - of.stride) * x_width * block.in_count) / (of_x + of_dy), 1), of.out_height);
    x_rows = (count - 1) * of.stride + TAPS;
    x_size = x_rows * x_width * X_CHANNELS;
    dy_size = count * of.out_width * DY_CHANNELS;
  }
};

// A row of x for eight channels, zeros where it is outside of the image.
void pack_x(Convolution3x3 of, int64_t width, const float* row, float* to) {
  for (int64_t column = 0; column < width; ++column, to += X_CHANNELS) {
    const int64_t from = column - of.padding;
    store<V>(to, row && from >= 0 && from < of.width ? load<V>(row + from * of.in_channels) : V{});
  }
}

// Tap by tap, sums[o][tap][i] += dy[o]·x[i] over the pixels of `rows` rows.
template <int STRIDE>
TE_INLINE inline void multiply(int64_t rows, int64_t width, int64_t stride, int64_t x_width, const float* x,
                               const float* dy, float* sums) {
  V sum[DY_CHANNELS][TAPS];
  for (int o = 0; o < DY_CHANNELS; ++o) {
    for (int tap = 0; tap < TAPS; ++tap) sum[o][tap] = load<V>(sums + o * SUMS + tap * X_CHANNELS);
  }
  if (STRIDE) stride = STRIDE;
  for (int64_t row = 0; row < rows; ++row) {
    const float* at = x + row * stride * x_width * X_CHANNELS;
    for (int64_t column = 0; column < width; ++column, at += stride * X_CHANNELS, dy += DY_CHANNELS) {
      const V first = load<V>(at), second = load<V>(at + X_CHANNELS), third = load<V>(at + 2 * X_CHANNELS);
#pragma GCC unroll 4
      for (int o = 0; o < DY_CHANNELS; ++o) {
        sum[o][0] += dy[o] * first;
        sum[o][1] += dy[o] * second;
        sum[o][2] += dy[o] * third;
      }
    }
  }
  for (int o = 0; o < DY_CHANNELS; ++o) {
    for (int tap = 0; tap < TAPS; ++tap) store<V>(sums + o * SUMS + tap * X_CHANNELS, sum[o][tap]);
  }
}

}  // namespace

int64_t scratch_size(Convolution3x3 of, Block block) {
  const Rows rows(of, block);
  return rows.x_size * (block.in_count / X_CHANNELS) + rows.dy_size * (block.out_count / DY_CHANNELS);
}

void add_weight_gradient(Convolution3x3 of, Block block, int64_t samples, const float* x, const float* dy, float* scratch,
                         float* sums) {
  const Rows rows(of, block);
  const int64_t x_tiles = block.in_count / X_CHANNELS, dy_tiles = block.out_count / DY_CHANNELS;
  float* const packed_dy = scratch + x_tiles * rows.x_size;
  for (int64_t sample = 0; sample < samples; ++sample) {
    const float* const image = x + sample * of.height * of.width * of.in_channels + block.in_start;
    const float* const gradient = dy + sample * of.out_height * of.out_width * of.out_channels + block.out_start;
    for (int64_t start = 0; start < of.out_height; start += rows.count) {
      const int64_t count = smaller(rows.count, of.out_height - start), x_rows = (count - 1) * of.stride + TAPS;
      for (int64_t i = 0; i < x_tiles; ++i) {
        for (int64_t row = 0; row < x_rows; ++row) {
          const int64_t from = start * of.stride + row - of.padding;
          const bool inside = from >= 0 && from < of.height;
          const float* line = inside ? image + from * of.width * of.in_channels + i * X_CHANNELS : nullptr;
          pack_x(of, rows.x_width, line, scratch + i * rows.x_size + row * rows.x_width * X_CHANNELS);
        }
      }
      for (int64_t o = 0; o < dy_tiles; ++o) {
        const float* from = gradient + start * of.out_width * of.out_channels + o * DY_CHANNELS;
        float* to = packed_dy + o * rows.dy_size;
        for (int64_t pixel = 0; pixel < count * of.out_width; ++pixel) {
          store(to + pixel * DY_CHANNELS, load<Quarter>(from + pixel * of.out_channels));
        }
      }
      for (int64_t i = 0; i < x_tiles; ++i) {
        for (int64_t tap = 0; tap < TAPS; ++tap) {
          const float* moved = scratch + i * rows.x_size + tap * rows.x_width * X_CHANNELS;
          for (int64_t o = 0; o < dy_tiles; ++o) {
            const float* of_outputs = packed_dy + o * rows.dy_size;
            float* to = sums + ((i * TAPS + tap) * dy_tiles + o) * DY_CHANNELS * SUMS;
            if (of.stride == 1) {
              multiply<1>(count, of.out_width, 1, rows.x_width, moved, of_outputs, to);
            } else {
              multiply<0>(count, of.out_width, of.stride, rows.x_width, moved, of_outputs, to);
            }
          }
        }
      }
    }
  }
}

}  // namespace te_kernels
