// Bytes of images become what a network takes.
#pragma once

#include "elements.h"

namespace te_gpu {

struct Images {
  // N×H×W×3.
  const byte* bytes;
  // N×3×H×W: channels last, or plane by plane.
  void* y;
  // How many bytes, and how many of one sample.
  i64 count, of_sample;
  float scale[3], shift[3];
  bool is_planar;
};

// Each thread makes four numbers that are neighbours in `y`.
template <class T, int N>
TE_DEVICE void images(const Images& args, Place place) {
  TE_EACH_THREAD(tx, ty) {  // of which there is one row
    const i64 first = (i64(block_x(place)) * width(place) + tx) * 4;
    for (i64 index = first; index < args.count && index < first + 4; ++index) {
      i64 from = index;
      if (args.is_planar) {
        const i64 pixels = args.of_sample / 3, sample = index / args.of_sample, inside = index % args.of_sample;
        from = sample * args.of_sample + inside % pixels * 3 + inside / pixels;
      }
      const int channel = int(from % 3);
      const float scale = channel == 0 ? args.scale[0] : channel == 1 ? args.scale[1] : args.scale[2];
      const float shift = channel == 0 ? args.shift[0] : channel == 1 ? args.shift[1] : args.shift[2];
      const float value = float(args.bytes[from]) * scale + shift;
      static_cast<T*>(args.y)[index] = narrow<T>(value);
    }
  }
}

}  // namespace te_gpu
