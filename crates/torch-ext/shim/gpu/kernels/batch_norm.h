// BatchNorm in training with channels last, in one with the sum and the activation that often follow it.
#pragma once

#include "rows.h"

namespace te_gpu {

enum Activation { IDENTITY = 0, RELU = 1, RELU6 = 2, SILU = 3, HARD_SWISH = 4 };

// What is known of a layer after its forward pass, for each channel: mean, weight/σ, bias and 1/σ, then how many numbers
// of a channel these were made of.
constexpr int KNOWN = 4;

// A NaN stays one.
TE_DEVICE float activated(int activation, float z) {
  switch (activation) {
    case RELU: return z <= 0 ? 0 : z;
    case RELU6: return z <= 0 ? 0 : z >= 6 ? 6 : z;
    case SILU: return z / (1 + exponential(-z));
    case HARD_SWISH: return z * (z <= -3 ? 0 : z >= 3 ? 6 : z + 3) / 6;
    default: return z;
  }
}

// What reaches z, of what reaches its activation.
TE_DEVICE float gradient(int activation, float z, float dy) {
  switch (activation) {
    case RELU: return z <= 0 ? 0 : dy;
    case RELU6: return z <= 0 || z >= 6 ? 0 : dy;
    case SILU: {
      const float sigmoid = 1 / (1 + exponential(-z));
      return dy * sigmoid * (1 + z * (1 - sigmoid));
    }
    case HARD_SWISH: return z < -3 ? 0 : z <= 3 ? dy * (z / 3 + 0.5f) : dy;
    default: return dy;
  }
}

// Mean, and sum of squared distances from it, of one channel's numbers.
struct Moments {
  float count, mean, squares;
};

TE_DEVICE Moments merged(Moments a, Moments b) {
  const float count = a.count + b.count;
  if (b.count == 0) return a;
  if (a.count == 0) return b;
  const float distance = b.mean - a.mean, share = b.count / count;
  return {count, a.mean + distance * share, a.squares + b.squares + distance * distance * a.count * share};
}

// ---- Statistics ----------------------------------------------------------------------------------

struct Statistics {
  const void* x;
  // For each part: means, sums of squared distances, and how many rows it has.
  float* parts;
  Rows rows;
};

template <class T, int N>
TE_DEVICE void statistics(const Statistics& args, Place place) {
  TE_SHARED(float, mean, BLOCK * N);
  TE_SHARED(float, squares, BLOCK * N);
  TE_SHARED(float, counts, BLOCK);
  const int channels = args.rows.channels, packs = channels / N;
  const Span part = part_of(args.rows, place);
  TE_EACH_THREAD(tx, ty) {
    const int pack = block_x(place) * width(place) + tx, thread = ty * width(place) + tx;
    // Distances from a thread's first row: nothing is lost where the mean is large against the spread.
    float first[N] = {}, sum[N] = {}, square[N] = {};
    i64 row = part.begin + ty, count = 0;
    if (pack < packs && row < part.end) {
      load<T, N>(args.x, row * packs + pack, first);
      TE_UNROLL(4)
      for (; row < part.end; row += height(place)) {
        float x[N];
        load<T, N>(args.x, row * packs + pack, x);
        for (int lane = 0; lane < N; ++lane) {
          const float distance = x[lane] - first[lane];
          sum[lane] += distance;
          square[lane] += distance * distance;
        }
        ++count;
      }
    }
    counts[thread] = float(count);
    for (int lane = 0; lane < N; ++lane) {
      const float distance = count ? sum[lane] / float(count) : 0;
      mean[lane * BLOCK + thread] = first[lane] + distance;
      const float rest = square[lane] - sum[lane] * distance;
      squares[lane * BLOCK + thread] = rest < 0 ? 0 : rest;
    }
  }
  merge_columns(place, [&](int own, int other) {
    const float count = counts[own];
    for (int lane = 0; lane < N; ++lane) {
      const int a = lane * BLOCK + own, b = lane * BLOCK + other;
      const auto both = merged({count, mean[a], squares[a]}, {counts[other], mean[b], squares[b]});
      mean[a] = both.mean;
      squares[a] = both.squares;
    }
    counts[own] = count + counts[other];
  });
  TE_EACH_THREAD(tx, ty) {
    const int pack = block_x(place) * width(place) + tx;
    if (ty == 0 && pack < packs) {
      float* own = args.parts + i64(block_y(place)) * (2 * channels + 1);
      for (int lane = 0; lane < N; ++lane) {
        own[pack * N + lane] = mean[lane * BLOCK + tx];
        own[channels + pack * N + lane] = squares[lane * BLOCK + tx];
      }
      if (pack == 0) own[2 * channels] = counts[tx];
    }
  }
}

struct MergeStatistics {
  const float* parts;
  int count, channels;
  // As one part; may be null.
  float* merged;
  // What is known of the layer from here on; may be null, and then the rest is not looked at.
  float* known;
  const float *weight, *bias;
  float *running_mean, *running_var;
  float momentum, epsilon;
};

// Threads in x have a channel each, those in y share the parts.
template <class T, int N>
TE_DEVICE void merge_statistics(const MergeStatistics& args, Place place) {
  TE_SHARED(float, counts, LARGE_BLOCK);
  TE_SHARED(float, means, LARGE_BLOCK);
  TE_SHARED(float, squares, LARGE_BLOCK);
  const int channels = args.channels;
  TE_EACH_THREAD(tx, ty) {
    const int channel = block_x(place) * width(place) + tx, thread = ty * width(place) + tx;
    Moments all = {0, 0, 0};
    if (channel < channels) {
      TE_UNROLL(4)
      for (unsigned index = ty; index < unsigned(args.count); index += height(place)) {
        const float* part = args.parts + i64(index) * (2 * channels + 1);
        all = merged(all, {part[2 * channels], part[channel], part[channels + channel]});
      }
    }
    counts[thread] = all.count;
    means[thread] = all.mean;
    squares[thread] = all.squares;
  }
  merge_columns(place, [&](int own, int other) {
    const auto both = merged({counts[own], means[own], squares[own]}, {counts[other], means[other], squares[other]});
    counts[own] = both.count;
    means[own] = both.mean;
    squares[own] = both.squares;
  });
  TE_EACH_THREAD(tx, ty) {
    const int channel = block_x(place) * width(place) + tx;
    if (ty == 0 && channel < channels) {
      const float count = counts[tx], mean = means[tx], square = squares[tx];
      if (args.merged) {
        args.merged[channel] = mean;
        args.merged[channels + channel] = square;
        if (channel == 0) args.merged[2 * channels] = count;
      }
      if (args.known) {
        const float keep = 1 - args.momentum, unbiased = count > 1 ? square / (count - 1) : square;
        args.running_mean[channel] = keep * args.running_mean[channel] + args.momentum * mean;
        args.running_var[channel] = keep * args.running_var[channel] + args.momentum * unbiased;
        const float inverse = 1 / root(square / count + args.epsilon);
        args.known[channel] = mean;
        args.known[channels + channel] = args.weight[channel] * inverse;
        args.known[2 * channels + channel] = args.bias[channel];
        args.known[3 * channels + channel] = inverse;
        if (channel == 0) args.known[KNOWN * channels] = count;
      }
    }
  }
}

// ---- Forward -------------------------------------------------------------------------------------

struct Normalize {
  const void *x, *residual;
  const float* known;
  void* y;
  // For each N channels of a row, which of them an activation lets through; null where x alone tells.
  byte* open;
  Rows rows;
  int activation;
};

// What is known of N channels, and what it makes of a number less its mean.
template <int N>
struct Layer {
  float mean[N], scale[N], shift[N];
};

template <int N>
TE_DEVICE Layer<N> layer_of(const float* known, int channels, int pack) {
  Layer<N> layer;
  of_channels<N>(known, pack, layer.mean);
  of_channels<N>(known + channels, pack, layer.scale);
  of_channels<N>(known + 2 * channels, pack, layer.shift);
  return layer;
}

template <class T, int N>
TE_DEVICE void normalize(const Normalize& args, Place place) {
  const int channels = args.rows.channels, packs = channels / N;
  const Span part = part_of(args.rows, place);
  TE_EACH_THREAD(tx, ty) {
    const int pack = block_x(place) * width(place) + tx;
    if (pack < packs) {
      const auto layer = layer_of<N>(args.known, channels, pack);
      TE_UNROLL(4)
      for (i64 row = part.begin + ty; row < part.end; row += height(place)) {
        const i64 index = row * packs + pack;
        float x[N], added[N] = {};
        load<T, N>(args.x, index, x);
        if (args.residual) load<T, N>(args.residual, index, added);
        unsigned open = 0;
        for (int lane = 0; lane < N; ++lane) {
          const float z = (x[lane] - layer.mean[lane]) * layer.scale[lane] + layer.shift[lane] + added[lane];
          x[lane] = activated(args.activation, z);
          open |= unsigned(gradient(args.activation, z, 1) != 0) << lane;
        }
        store<T, N>(args.y, index, x);
        if (args.open) args.open[index] = byte(open);
      }
    }
  }
}

// ---- Backward ------------------------------------------------------------------------------------

struct SumGradient {
  const void *x, *dy;
  const byte* open;
  const float* known;
  // What reaches the sum, and so the residual, where `open` is there; else null.
  void* dz;
  // For each part: Σ dz, then Σ dz·(x − mean).
  float* parts;
  Rows rows;
  int activation;
};

template <class T, int N>
TE_DEVICE void sum_gradient(const SumGradient& args, Place place) {
  TE_SHARED(float, plain, BLOCK * N);
  TE_SHARED(float, products, BLOCK * N);
  const int channels = args.rows.channels, packs = channels / N;
  const Span part = part_of(args.rows, place);
  TE_EACH_THREAD(tx, ty) {
    const int pack = block_x(place) * width(place) + tx, thread = ty * width(place) + tx;
    float sum[N] = {}, product[N] = {};
    if (pack < packs) {
      const auto layer = layer_of<N>(args.known, channels, pack);
      TE_UNROLL(2)
      for (i64 row = part.begin + ty; row < part.end; row += height(place)) {
        const i64 index = row * packs + pack;
        float x[N], dz[N];
        load<T, N>(args.x, index, x);
        load<T, N>(args.dy, index, dz);
        const unsigned open = args.open ? args.open[index] : 0;
        for (int lane = 0; lane < N; ++lane) {
          const float centred = x[lane] - layer.mean[lane];
          dz[lane] = args.open ? (open >> lane & 1 ? dz[lane] : 0)
                               : gradient(args.activation, centred * layer.scale[lane] + layer.shift[lane], dz[lane]);
          sum[lane] += dz[lane];
          product[lane] += dz[lane] * centred;
        }
        if (args.dz) store<T, N>(args.dz, index, dz);
      }
    }
    for (int lane = 0; lane < N; ++lane) {
      plain[lane * BLOCK + thread] = sum[lane];
      products[lane * BLOCK + thread] = product[lane];
    }
  }
  store_sums<N>(plain, products, args.parts, channels, place);
}

struct MergeGradient {
  const float* parts;
  int count, channels;
  const float* known;
  // As one part; may be null.
  float* merged;
  // May be null.
  float *grad_weight, *grad_bias;
  // What x's gradient takes of x − mean, and what is added to it; may be null.
  float *slope, *level;
};

// Threads in x have a channel each, those in y share the parts.
template <class T, int N>
TE_DEVICE void merge_gradient(const MergeGradient& args, Place place) {
  TE_SHARED(float, plain, LARGE_BLOCK);
  TE_SHARED(float, products, LARGE_BLOCK);
  const int channels = args.channels;
  TE_EACH_THREAD(tx, ty) {
    const int channel = block_x(place) * width(place) + tx, thread = ty * width(place) + tx;
    float sum = 0, product = 0;
    if (channel < channels) {
      TE_UNROLL(4)
      for (unsigned index = ty; index < unsigned(args.count); index += height(place)) {
        const float* part = args.parts + i64(index) * 2 * channels;
        sum += part[channel];
        product += part[channels + channel];
      }
    }
    plain[thread] = sum;
    products[thread] = product;
  }
  merge_columns(place, [&](int own, int other) {
    plain[own] += plain[other];
    products[own] += products[other];
  });
  TE_EACH_THREAD(tx, ty) {
    const int channel = block_x(place) * width(place) + tx;
    if (ty == 0 && channel < channels) {
      const float sum = plain[tx], product = products[tx];
      const float scale = args.known[channels + channel], inverse = args.known[3 * channels + channel];
      if (args.merged) {
        args.merged[channel] = sum;
        args.merged[channels + channel] = product;
      }
      if (args.grad_weight) {
        args.grad_weight[channel] = product * inverse;
        args.grad_bias[channel] = sum;
      }
      if (args.slope) {
        const float count = args.known[KNOWN * channels];
        args.slope[channel] = -scale * inverse * inverse * (product / count);
        args.level[channel] = -scale * (sum / count);
      }
    }
  }
}

struct InputGradient {
  const void *x, *dz;
  const float *known, *slope, *level;
  void* dx;
  Rows rows;
  // IDENTITY where dz is what reaches the sum; else it is what reaches the activation.
  int activation;
};

// dx = dz·scale + (x − mean)·slope + level.
template <class T, int N>
TE_DEVICE void input_gradient(const InputGradient& args, Place place) {
  const int channels = args.rows.channels, packs = channels / N;
  const Span part = part_of(args.rows, place);
  TE_EACH_THREAD(tx, ty) {
    const int pack = block_x(place) * width(place) + tx;
    if (pack < packs) {
      const auto layer = layer_of<N>(args.known, channels, pack);
      float slope[N], level[N];
      of_channels<N>(args.slope, pack, slope);
      of_channels<N>(args.level, pack, level);
      TE_UNROLL(2)
      for (i64 row = part.begin + ty; row < part.end; row += height(place)) {
        const i64 index = row * packs + pack;
        float x[N], dz[N];
        load<T, N>(args.x, index, x);
        load<T, N>(args.dz, index, dz);
        for (int lane = 0; lane < N; ++lane) {
          const float centred = x[lane] - layer.mean[lane];
          const float reaches = gradient(args.activation, centred * layer.scale[lane] + layer.shift[lane], dz[lane]);
          x[lane] = reaches * layer.scale[lane] + centred * slope[lane] + level[lane];
        }
        store<T, N>(args.dx, index, x);
      }
    }
  }
}

}  // namespace te_gpu
