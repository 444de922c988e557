// What convolution.cpp asks of convolution_kernels.cpp. Plain data and declarations only, as batch_norm_kernels.h.
#pragma once

#include <stdint.h>

namespace te_kernels {

// A convolution of 3×3 over images with channels last; sizes of one image.
struct Convolution3x3 {
  int64_t height, width, in_channels;
  int64_t out_height, out_width, out_channels;
  int64_t stride, padding;
};

// Some channels of both sides: `in_count` a multiple of 8, `out_count` of 4.
struct Block {
  int64_t in_start, in_count, out_start, out_count;
};

// Adds to the gradient of a block's weights what `samples` images x and the gradients dy of their outputs give. `sums` is
// in_count/8 × 3 rows × out_count × 3 columns × 8; `scratch` has room for scratch_size.
void add_weight_gradient(Convolution3x3 of, Block block, int64_t samples, const float* x, const float* dy, float* scratch,
                         float* sums);
int64_t scratch_size(Convolution3x3 of, Block block);

}  // namespace te_kernels
