// What batch_norm.cpp computes for each tile, in vectors of eight numbers: the size of AVX2, for which this file is compiled.
// The same bits on every machine: the order of the sums is written down here, and nothing is contracted
// (-ffp-contract=off).

#include "batch_norm_kernels.h"

#include "vectors.h"

namespace te_kernels {
namespace {

// A vector over N channels of one pixel: each has its own coefficient, and its own place in a sum.
template <int N>
struct Across {
  using V = Vector<N>;
  TE_INLINE static V coefficient(const float* of_channels) { return load<V>(of_channels); }
  TE_INLINE static void add(float* of_channels, V values) { store<V>(of_channels, load<V>(of_channels) + values); }
};

// A vector over N pixels of one channel: they share the coefficient, and are summed up.
template <int N>
struct Along {
  using V = Vector<N>;
  TE_INLINE static V coefficient(const float* of_channels) { return V{} + *of_channels; }
  TE_INLINE static void add(float* of_channels, V values) {
    for (int lane = 0; lane < N; ++lane) *of_channels += values[lane];
  }
};

// Calls f(lanes, channel, offset, stride, count) for all of a tile: `count` vectors, the first at `offset`.
template <class F>
TE_INLINE inline void for_each_strip(Tile tile, F f) {
  if (tile.channels_last) {
    int64_t c = 0;
    for (; c + 8 <= tile.channels; c += 8) f(Across<8>{}, c, tile.start + c, tile.channels, tile.count);
    for (; c < tile.channels; ++c) f(Across<1>{}, c, tile.start + c, tile.channels, tile.count);
  } else {
    const int64_t vectors = tile.count / 8, rest = tile.count % 8;
    for (int64_t c = 0; c < tile.channels; ++c) {
      const int64_t start = tile.start + c * tile.count;
      f(Along<8>{}, c, start, int64_t(8), vectors);
      f(Along<1>{}, c, start + 8 * vectors, int64_t(1), rest);
    }
  }
}

// (x − mean)·scale + shift.
template <class Lanes>
struct Affine {
  using V = typename Lanes::V;
  V mean, scale, shift;
  TE_INLINE Affine(Coefficients of, int64_t c)
      : mean(Lanes::coefficient(of.mean + c)),
        scale(Lanes::coefficient(of.scale + c)),
        shift(Lanes::coefficient(of.shift + c)) {}
  TE_INLINE V operator()(V x) const { return (x - mean) * scale + shift; }
};

// A NaN stays one.
template <class V>
TE_INLINE inline V bounded(V x, V lower, V upper) {
  const V raised = x < lower ? lower : x;
  return raised > upper ? upper : raised;
}

// How dz is known: one of these is chosen before the loop.
struct Whole {
  const float* dy;
  template <class V, class F>
  TE_INLINE V operator()(V, const F&, int64_t i) const { return load<V>(dy + i); }
};
struct InsideOfOutput {
  const float *dy, *y;
  Bounds bounds;
  template <class V, class F>
  TE_INLINE V operator()(V, const F&, int64_t i) const {
    const V sum = load<V>(y + i), zero{};
    return (sum <= zero + bounds.lower) | (sum >= zero + bounds.upper) ? zero : load<V>(dy + i);
  }
};
struct InsideOfInput {
  const float* dy;
  Bounds bounds;
  template <class V, class F>
  TE_INLINE V operator()(V x, const F& affine, int64_t i) const {
    const V sum = affine(x), zero{};
    return (sum <= zero + bounds.lower) | (sum >= zero + bounds.upper) ? zero : load<V>(dy + i);
  }
};

// Calls f(dz) with one of the above.
template <class F>
TE_INLINE inline void with(Gradient gradient, F f) {
  if (!gradient.bounded) {
    f(Whole{gradient.dy});
  } else if (gradient.y) {
    f(InsideOfOutput{gradient.dy, gradient.y, gradient.bounds});
  } else {
    f(InsideOfInput{gradient.dy, gradient.bounds});
  }
}

}  // namespace

void statistics(Tile tile, const float* x, float* mean, float* squares) {
  for_each_strip(tile, [=](auto lanes, int64_t c, int64_t offset, int64_t stride, int64_t count) TE_INLINE {
    using V = typename decltype(lanes)::V;
    V sum{};
    for (int64_t i = 0; i < count; ++i) sum += load<V>(x + offset + i * stride);
    lanes.add(mean + c, sum);
  });
  for (int64_t c = 0; c < tile.channels; ++c) mean[c] /= float(tile.count);
  for_each_strip(tile, [=](auto lanes, int64_t c, int64_t offset, int64_t stride, int64_t count) TE_INLINE {
    using V = typename decltype(lanes)::V;
    const V centre = lanes.coefficient(mean + c);
    V sum{};
    for (int64_t i = 0; i < count; ++i) {
      const V distance = load<V>(x + offset + i * stride) - centre;
      sum += distance * distance;
    }
    lanes.add(squares + c, sum);
  });
}

void normalize(Tile tile, const float* x, const float* residual, Coefficients of, Bounds bounds, float* y) {
  for_each_strip(tile, [=](auto lanes, int64_t c, int64_t offset, int64_t stride, int64_t count) TE_INLINE {
    using V = typename decltype(lanes)::V;
    const Affine<decltype(lanes)> affine(of, c);
    const V lower = V{} + bounds.lower, upper = V{} + bounds.upper;
    if (residual) {
      for (int64_t i = offset; count > 0; --count, i += stride) {
        store(y + i, bounded<V>(affine(load<V>(x + i)) + load<V>(residual + i), lower, upper));
      }
    } else {
      for (int64_t i = offset; count > 0; --count, i += stride) {
        store(y + i, bounded<V>(affine(load<V>(x + i)), lower, upper));
      }
    }
  });
}

void sum_gradient(Tile tile, const float* x, Gradient gradient, Coefficients of, float* residual, float* sums,
                  float* products) {
  with(gradient, [=](auto dz) TE_INLINE {
    for_each_strip(tile, [=](auto lanes, int64_t c, int64_t offset, int64_t stride, int64_t count) TE_INLINE {
      using V = typename decltype(lanes)::V;
      const Affine<decltype(lanes)> affine(of, c);
      V sum{}, product{};
      for (int64_t i = offset; count > 0; --count, i += stride) {
        const V value = load<V>(x + i), reaching = dz(value, affine, i);
        if (residual) store(residual + i, reaching);
        sum += reaching;
        product += reaching * (value - affine.mean);
      }
      lanes.add(sums + c, sum);
      lanes.add(products + c, product);
    });
  });
}

void input_gradient(Tile tile, const float* x, Gradient gradient, Coefficients of, const float* slope,
                    const float* level, float* dx) {
  with(gradient, [=](auto dz) TE_INLINE {
    for_each_strip(tile, [=](auto lanes, int64_t c, int64_t offset, int64_t stride, int64_t count) TE_INLINE {
      using V = typename decltype(lanes)::V;
      const Affine<decltype(lanes)> affine(of, c);
      const V slopes = lanes.coefficient(slope + c), levels = lanes.coefficient(level + c);
      for (int64_t i = offset; count > 0; --count, i += stride) {
        const V value = load<V>(x + i);
        store<V>(dx + i, dz(value, affine, i) * affine.scale + (value - affine.mean) * slopes + levels);
      }
    });
  });
}

}  // namespace te_kernels
