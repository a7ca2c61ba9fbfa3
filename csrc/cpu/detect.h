// What the detectors of the ideal camera share: the clip, and the grey levels at which a pixel stays silent.
#pragma once

#include <algorithm>
#include <cstdint>

#include "contrast.h"

namespace neuroav {

struct Clip {
  const uint8_t* frames;    // (F, H, W)
  const int64_t* edges_us;  // (F + 1)
  const int32_t* table;     // (256), never decreasing
  int64_t num_frames, height, width;
  int32_t c_on, c_off;
  int32_t* reference;  // (H, W), moved
  int32_t* last;       // (H, W), moved

  int64_t num_pixels() const { return height * width; }
  uint32_t dt_us(int64_t frame) const { return static_cast<uint32_t>(edges_us[frame + 1] - edges_us[frame]); }
};

// Grey levels at which a pixel surely stays silent, looked up instead of searched for: brightness is cut into cells,
// and a grey level whose cell the threshold shares counts as not silent. (Such a pixel is looked at for nothing.)
class SilentRange {
 public:
  explicit SilentRange(const int32_t* table) : lowest_(table[0]) {
    while (((table[255] - lowest_) >> shift_) >= kCells) ++shift_;
    for (int32_t cell = 0, below = 0, up_to = 0; cell <= kCells; ++cell) {
      const int64_t start = int64_t{cell} << shift_, stop = int64_t{cell + 1} << shift_;
      while (below < 256 && table[below] - lowest_ < start) ++below;
      while (up_to < 256 && table[up_to] - lowest_ < stop) ++up_to;
      hi_[cell] = static_cast<uint8_t>(std::max(below, 1) - 1);
      lo_[cell + 1] = static_cast<uint8_t>(std::min(up_to, 255));
    }
    lo_[0] = 0;
  }

  // Greys up to this one are darker than a level above table[0].
  uint8_t hi(int32_t level) const { return hi_[std::min((level - lowest_) >> shift_, kCells)]; }
  // Greys from this one on are brighter than a level below table[255].
  uint8_t lo(int32_t level) const { return lo_of()[std::max((level - lowest_) >> shift_, -1)]; }

  static constexpr int32_t kCells = 4096;
  int shift() const { return shift_; }
  const uint8_t* lo_of() const { return lo_ + 1; }  // by cell, in [-1, kCells]
  const uint8_t* hi_of() const { return hi_; }      // by cell, in [0, kCells]

 private:
  int32_t lowest_, shift_ = 0;
  uint8_t lo_[kCells + 2], hi_[kCells + 1];
};

// Row and column of the pixels of a tile, without a division. A pixel's place along the first row is below 2^21, so the
// product is further from a whole number (by half a pixel) than its rounding error.
struct TilePlaces {
  TilePlaces(int64_t begin, int64_t width)
      : y(static_cast<uint32_t>(begin / width)), x(static_cast<uint32_t>(begin % width)),
        width(static_cast<uint32_t>(width)), inverse(1.0f / static_cast<float>(width)) {}

  uint32_t operator()(int64_t i) const {
    const uint32_t along = x + static_cast<uint32_t>(i);
    const uint32_t rows = static_cast<uint32_t>((static_cast<float>(along) + 0.5f) * inverse);
    return pack_place(y + rows, along - rows * width);
  }

  uint32_t y, x, width;
  float inverse;
};

}  // namespace neuroav
