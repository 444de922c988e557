// LayerNorm over the last axis, in one with the sum that is often before it and the narrower type that is often wanted after it.
//
// Threads in x share a row, N channels each at a time; those in y have a row each. A row is read again for each pass over it: it is in
// the nearest cache then.
#pragma once

#include "rows.h"

namespace te_gpu {

// The row of a thread, and after which of its packs it ends: none where there is no row.
struct Own {
  unsigned thread;
  i64 row;
  int end;
};

TE_DEVICE Own own_of(Place place, unsigned tx, unsigned ty, i64 first, Span part, int packs) {
  const i64 row = first + ty;
  return {ty * width(place) + tx, row, row < part.end ? packs : 0};
}

// ---- Forward -------------------------------------------------------------------------------------

struct SumAndNorm {
  // What is added may be nothing.
  Source x, added;
  // The sum; nothing where nothing is added.
  Target sum;
  Target y;
  // For each row.
  float *means, *inverses;
  const float *weight, *bias;
  float epsilon;
  Rows rows;
};

// N channels of what is normalized, as the rest of the network will see it: rounded to the type that it is kept in.
template <class T, int N>
TE_DEVICE void load_sum(const SumAndNorm& args, i64 index, float* values) {
  load<T, N>(args.x, index, values);
  if (!args.added.at) return;
  float added[N];
  load<T, N>(args.added, index, added);
  for (int lane = 0; lane < N; ++lane) {
    const float sum = values[lane] + added[lane];
    values[lane] = args.sum.are_single ? sum : wide(narrow<T>(sum));
  }
}

template <class T, int N>
TE_DEVICE void sum_and_norm(const SumAndNorm& args, Place place) {
  const int channels = args.rows.channels, packs = channels / N;
  const Span part = part_of(args.rows, place);
  for (i64 first = part.begin; first < part.end; first += height(place)) {
    PerThread sum, squares;
    TE_EACH_THREAD(tx, ty) {
      const auto [thread, row, end] = own_of(place, tx, ty, first, part, packs);
      sum[thread] = 0;
      TE_UNROLL(4)
      for (int pack = tx; pack < end; pack += width(place)) {
        float x[N];
        load_sum<T, N>(args, row * packs + pack, x);
        for (int lane = 0; lane < N; ++lane) sum[thread] += x[lane];
      }
    }
    sum_along_x(sum, place);
    TE_EACH_THREAD(tx, ty) {
      const auto [thread, row, end] = own_of(place, tx, ty, first, part, packs);
      const float mean = sum[thread] / float(channels);
      squares[thread] = 0;
      TE_UNROLL(4)
      for (int pack = tx; pack < end; pack += width(place)) {
        float x[N];
        load_sum<T, N>(args, row * packs + pack, x);
        for (int lane = 0; lane < N; ++lane) squares[thread] += (x[lane] - mean) * (x[lane] - mean);
      }
    }
    sum_along_x(squares, place);
    TE_EACH_THREAD(tx, ty) {
      const auto [thread, row, end] = own_of(place, tx, ty, first, part, packs);
      const float mean = sum[thread] / float(channels);
      const float inverse = 1 / root(squares[thread] / float(channels) + args.epsilon);
      TE_UNROLL(2)
      for (int pack = tx; pack < end; pack += width(place)) {
        float x[N], weight[N], bias[N];
        load_sum<T, N>(args, row * packs + pack, x);
        of_channels<N>(args.weight, pack, weight);
        of_channels<N>(args.bias, pack, bias);
        if (args.added.at) store<T, N>(args.sum, row * packs + pack, x);
        for (int lane = 0; lane < N; ++lane) x[lane] = (x[lane] - mean) * inverse * weight[lane] + bias[lane];
        store<T, N>(args.y, row * packs + pack, x);
      }
      if (tx == 0 && end) {
        args.means[row] = mean;
        args.inverses[row] = inverse;
      }
    }
  }
}

// ---- Backward ------------------------------------------------------------------------------------

struct RowGradient {
  // What was normalized, what reaches its norm, and what reaches it by other ways, which may be nothing.
  Source x, dy, dx_before;
  const float *means, *inverses, *weight;
  Target dx;
  // The same once more, for what was added, where it is of another type; may be nothing.
  Target dx_of_added;
  Rows rows;
};

// dx = (g − mean of g − x̂ · mean of g·x̂) / σ + dx_before, where g = dy·weight, and the means are a row's.
template <class T, int N>
TE_DEVICE void row_gradient(const RowGradient& args, Place place) {
  const int channels = args.rows.channels, packs = channels / N;
  const Span part = part_of(args.rows, place);
  for (i64 first = part.begin; first < part.end; first += height(place)) {
    PerThread plain, products;
    TE_EACH_THREAD(tx, ty) {
      const auto [thread, row, end] = own_of(place, tx, ty, first, part, packs);
      const float mean = end ? args.means[row] : 0, inverse = end ? args.inverses[row] : 0;
      plain[thread] = products[thread] = 0;
      TE_UNROLL(4)
      for (int pack = tx; pack < end; pack += width(place)) {
        float x[N], dy[N], weight[N];
        load<T, N>(args.x, row * packs + pack, x);
        load<T, N>(args.dy, row * packs + pack, dy);
        of_channels<N>(args.weight, pack, weight);
        for (int lane = 0; lane < N; ++lane) {
          const float g = dy[lane] * weight[lane];
          plain[thread] += g;
          products[thread] += g * ((x[lane] - mean) * inverse);
        }
      }
    }
    sum_along_x(plain, place);
    sum_along_x(products, place);
    TE_EACH_THREAD(tx, ty) {
      const auto [thread, row, end] = own_of(place, tx, ty, first, part, packs);
      const float mean = end ? args.means[row] : 0, inverse = end ? args.inverses[row] : 0;
      const float level = plain[thread] / float(channels), slope = products[thread] / float(channels);
      TE_UNROLL(2)
      for (int pack = tx; pack < end; pack += width(place)) {
        const i64 index = row * packs + pack;
        float x[N], dy[N], weight[N], before[N] = {};
        load<T, N>(args.x, index, x);
        load<T, N>(args.dy, index, dy);
        if (args.dx_before.at) load<T, N>(args.dx_before, index, before);
        of_channels<N>(args.weight, pack, weight);
        for (int lane = 0; lane < N; ++lane) {
          const float normalized = (x[lane] - mean) * inverse;
          float own = (dy[lane] * weight[lane] - level - normalized * slope) * inverse;
          // In the type of the sum, as where both ways are taken by themselves: the same bits whichever is computed in one.
          if (args.dx_before.at && !args.x.are_single) own = wide(narrow<T>(own));
          x[lane] = own + before[lane];
        }
        store<T, N>(args.dx, index, x);
        if (args.dx_of_added.at) store<T, N>(args.dx_of_added, index, x);
      }
    }
  }
}

struct ColumnSums {
  Source x, dy;
  const float *means, *inverses;
  // For each part: Σ dy·x̂, then Σ dy, of each channel.
  float* parts;
  Rows rows;
};

// Threads in x share the channels here.
template <class T, int N>
TE_DEVICE void column_sums(const ColumnSums& args, Place place) {
  TE_SHARED(float, products, BLOCK * N);
  TE_SHARED(float, plain, BLOCK * N);
  const int channels = args.rows.channels, packs = channels / N;
  const Span part = part_of(args.rows, place);
  TE_EACH_THREAD(tx, ty) {
    const int pack = block_x(place) * width(place) + tx, thread = ty * width(place) + tx;
    float product[N] = {}, sum[N] = {};
    if (pack < packs) {
      TE_UNROLL(4)
      for (i64 row = part.begin + ty; row < part.end; row += height(place)) {
        const float mean = args.means[row], inverse = args.inverses[row];
        float x[N], dy[N];
        load<T, N>(args.x, row * packs + pack, x);
        load<T, N>(args.dy, row * packs + pack, dy);
        for (int lane = 0; lane < N; ++lane) {
          product[lane] += dy[lane] * ((x[lane] - mean) * inverse);
          sum[lane] += dy[lane];
        }
      }
    }
    for (int lane = 0; lane < N; ++lane) {
      products[lane * BLOCK + thread] = product[lane];
      plain[lane * BLOCK + thread] = sum[lane];
    }
  }
  store_sums<N>(products, plain, args.parts, channels, place);
}

struct MergeSums {
  const float* parts;
  // How many parts, and the numbers of each.
  int count, numbers;
  float* sums;
};

// Threads in x have a number each, those in y share the parts.
template <class T, int N>
TE_DEVICE void merge_sums(const MergeSums& args, Place place) {
  TE_SHARED(float, sums, BLOCK);
  TE_EACH_THREAD(tx, ty) {
    const int number = block_x(place) * width(place) + tx;
    float sum = 0;
    if (number < args.numbers) {
      TE_UNROLL(4)
      for (int part = ty; part < args.count; part += height(place)) sum += args.parts[i64(part) * args.numbers + number];
    }
    sums[ty * width(place) + tx] = sum;
  }
  merge_columns(place, [&](int own, int other) { sums[own] += sums[other]; });
  TE_EACH_THREAD(tx, ty) {
    const int number = block_x(place) * width(place) + tx;
    if (ty == 0 && number < args.numbers) args.sums[number] = sums[tx];
  }
}

}  // namespace te_gpu
