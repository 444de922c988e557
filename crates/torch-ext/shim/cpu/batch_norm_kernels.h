// What batch_norm.cpp asks of batch_norm_kernels.cpp. Plain data and declarations only: the kernels are compiled for AVX2,
// and of an inline function the linker might choose that version for the rest of the program.
#pragma once

#include <stdint.h>

namespace te_kernels {

// Some pixels of all channels of a batch: `count` of each channel. With channels last these are rows of one pixel each,
// else the pixels of one sample, channel by channel.
struct Tile {
  int64_t start, channels, count;
  bool channels_last;
};

// What a sum is kept between: (0, ∞) for ReLU. Infinite bounds are none.
struct Bounds {
  float lower, upper;
};

// For each channel, those of (x − mean)·scale + shift.
struct Coefficients {
  const float *mean, *scale, *shift;
};

// What reaches the sum from behind: dz = dy where the sum was inside the bounds, else 0. That is known from `y`; where `y`
// is null, from x, by the same arithmetic as before; and if it is not `bounded`, dz is dy.
struct Gradient {
  const float *dy, *y;
  Bounds bounds;
  bool bounded;
};

// The mean of each channel, and the sum of squared distances from it; both are zero before. From the tile's own mean:
// nothing is lost where the mean is large against the spread.
void statistics(Tile tile, const float* x, float* mean, float* squares);

// y = bounded((x − mean)·scale + shift + residual); `residual` may be null.
void normalize(Tile tile, const float* x, const float* residual, Coefficients of, Bounds bounds, float* y);

// Σ dz and Σ dz·(x − mean) of each channel, which are zero before; dz goes to `residual` as well, if that is not null.
void sum_gradient(Tile tile, const float* x, Gradient gradient, Coefficients of, float* residual, float* sums,
                  float* products);

// dx = dz·scale + (x − mean)·slope + level.
void input_gradient(Tile tile, const float* x, Gradient gradient, Coefficients of, const float* slope,
                    const float* level, float* dx);

}  // namespace te_kernels
