// Bytes of images on a GPU become what a network takes, in one pass.

#include "launch.h"

#include "../shim.h"

#include <ATen/ops/empty.h>

extern "C" {

// `bytes`: N×H×W×3. `out` becomes a new tensor N×3×H×W of this type, on the same device.
char* te_gpu_images(const at::Tensor* bytes, const float* scale, const float* shift, int32_t type, bool channels_last,
                    at::Tensor** out) {
  TE_CATCH({
    using namespace te_gpu;
    const auto& from = te_tensor(bytes);
    const auto element = at::ScalarType(type);
    TORCH_CHECK(te_dense(from) && from.is_contiguous() && from.dim() == 4 && from.size(3) == 3 &&
                    from.scalar_type() == at::kByte && has_kernels(element),
                "images want bytes N×H×W×3, got ", from.toString(), " of ", from.sizes());
    auto y = at::empty({from.size(0), 3, from.size(1), from.size(2)}, from.options().dtype(element),
                       channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
    Images args{from.const_data_ptr<byte>(), y.mutable_data_ptr(), from.numel(), from.size(1) * from.size(2) * 3,
                {scale[0], scale[1], scale[2]}, {shift[0], shift[1], shift[2]}, !channels_last};
    launch(from.device(), {element, 4}, {unsigned((args.count + 4 * BLOCK - 1) / (4 * BLOCK)), 1, BLOCK, 1}, args);
    *out = new at::Tensor(y);
  })
}

}  // extern "C"
