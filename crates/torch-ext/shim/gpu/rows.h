// Rows of channels, and how kernels share them.
#pragma once

#include "launch.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

namespace te_gpu {

// How rows are cut into parts, and which threads look at them.
struct Cut {
  Rows rows;
  Variant variant;
  Grid grid;

  Cut(int64_t count, int64_t channels, at::Device device, Variant variant)
      : rows{count, 0, int(channels)}, variant(variant), grid(threads(unsigned(channels / variant.lanes))) {
    // Parts as large as keep the device busy, and no smaller than makes each thread look at a few rows.
    into_parts(device, 4, 2);
  }

  // For kernels whose threads in x share one row after the other.
  static Cut row_by_row(int64_t count, int64_t channels, at::Device device, Variant variant) {
    Cut cut(count, channels, device, variant);
    const auto packs = unsigned(channels / variant.lanes);
    // As many as have all something to do but for an eighth of the time, and read a few neighbours at least.
    cut.grid.wide = 32;
    const auto is_idle = [&](unsigned wide) { return (packs + wide - 1) / wide * wide * 7 > packs * 8; };
    while (cut.grid.wide > 4 && is_idle(cut.grid.wide)) cut.grid.wide /= 2;
    cut.grid.high = BLOCK / cut.grid.wide;
    cut.grid.x = 1;
    cut.into_parts(device, 8, 1);
    return cut;
  }

  // For kernels that merge the parts of each of `numbers`.
  static Grid merging(int numbers, unsigned threads) { return {unsigned(numbers + 15) / 16, 1, 16, threads / 16}; }

 private:
  static Grid threads(unsigned packs) {
    Grid grid{1, 1, 1, 1};
    while (grid.wide < 32 && grid.wide < packs) grid.wide *= 2;
    grid.high = BLOCK / grid.wide;
    grid.x = (packs + grid.wide - 1) / grid.wide;
    return grid;
  }

  void into_parts(at::Device device, unsigned blocks, int64_t least) {
    const auto parts = std::max<int64_t>((blocks_wanted(device, blocks) + grid.x - 1) / grid.x, 1);
    rows.of_part = std::max<int64_t>((rows.count + parts - 1) / parts, std::min<int64_t>(rows.count, least * grid.high));
    grid.y = rows.count ? unsigned((rows.count + rows.of_part - 1) / rows.of_part) : 0;
  }
};

template <class T>
T* data(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<T*>(tensor.mutable_data_ptr()) : nullptr;
}

// So many numbers for each part; zero where there are no rows.
inline at::Tensor of_parts(const Cut& cut, int64_t numbers, const at::TensorOptions& options) {
  return cut.grid.y ? at::empty({cut.grid.y, numbers}, options) : at::zeros({1, numbers}, options);
}

}  // namespace te_gpu
