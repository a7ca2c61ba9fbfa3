// The ideal camera, pixel by pixel; runs everywhere.
//
// Each pixel keeps a range of grey levels [lo, hi] in which it surely stays silent; a vectorised byte comparison finds
// the few pixels that leave theirs, and only those do arithmetic.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "detect.h"
#include "memory.h"
#include "sinks.h"

namespace neuroav {
namespace portable {

constexpr int64_t kBlock = 64;  // pixels per screening mask

// Bit i of masks[b] says whether pixel b * 64 + i lies outside its silent range. `count` is a multiple of 64.
NEUROAV_CLONES
static void screen(const uint8_t* grey, const uint8_t* lo, const uint8_t* hi, int64_t count, uint64_t* masks) {
  for (int64_t start = 0; start < count; start += kBlock) {
    uint8_t outside[kBlock];
    for (int64_t i = 0; i < kBlock; ++i) {
      outside[i] = static_cast<uint8_t>((grey[start + i] < lo[start + i]) | (grey[start + i] > hi[start + i]));
    }
    uint64_t mask = 0;
    for (int64_t group = 0; group < kBlock / 8; ++group) {
      uint64_t flags;  // eight bytes of 0 or 1, gathered into eight bits by one product
      std::memcpy(&flags, outside + 8 * group, 8);
      mask |= ((flags * 0x0102040810204080ull) >> 56) << (8 * group);
    }
    masks[start / kBlock] = mask;
  }
}

inline int lowest_bit(uint64_t mask) {
#if defined(__GNUC__)
  return __builtin_ctzll(mask);
#else
  int bit = 0;
  while (!(mask >> bit & 1)) ++bit;
  return bit;
#endif
}

class Detector {
 public:
  explicit Detector(const Clip& clip)
      : clip_(clip), silent_(clip.table) {
    lo_.reserve(clip.num_pixels() + kBlock);  // a block more: of that, what is compared is masked
    hi_.reserve(clip.num_pixels() + kBlock);
  }

  void operator()(int64_t begin, int64_t size, int64_t first, int64_t stop, bool counts, Records& records) {
    if (first == 0) start(begin, size);
    const TilePlaces places(begin, clip_.width);
    for (int64_t frame = first; frame < stop; ++frame) {
      walk(begin, size, frame, counts, places, records);
      records.end_frame();
    }
    if (stop == clip_.num_frames) finish(begin, size);
  }

 protected:
  void start(int64_t begin, int64_t size) {
    for (int64_t i = begin; i < begin + size; ++i) set_silent_range(i);
  }

  void finish(int64_t begin, int64_t size) const {
    const uint8_t* grey = clip_.frames + (clip_.num_frames - 1) * clip_.num_pixels();
    for (int64_t i = begin; i < begin + size; ++i) clip_.last[i] = clip_.table[grey[i]];
  }

  void walk(int64_t begin, int64_t size, int64_t frame, bool counts, const TilePlaces& places, Records& records) {
    const uint8_t* grey = clip_.frames + frame * clip_.num_pixels() + begin;
    const int64_t whole = size / kBlock * kBlock, rest = size - whole;
    uint64_t masks[kTile / kBlock];
    screen(grey, lo_.data() + begin, hi_.data() + begin, whole, masks);
    if (rest > 0) {
      uint8_t padded[kBlock] = {};
      std::memcpy(padded, grey + whole, rest);
      screen(padded, lo_.data() + begin + whole, hi_.data() + begin + whole, kBlock, masks + whole / kBlock);
      masks[whole / kBlock] &= (uint64_t{1} << rest) - 1;
    }
    for (int64_t start = 0; start < size; start += kBlock) {
      for (uint64_t mask = masks[start / kBlock]; mask; mask &= mask - 1) {
        const int64_t i = start + lowest_bit(mask);
        fire(frame, begin + i, places(i), counts, records);
      }
    }
  }

  void set_silent_range(int64_t pixel) {
    lo_.data()[pixel] = silent_.lo(clip_.reference[pixel] - clip_.c_off);
    hi_.data()[pixel] = silent_.hi(clip_.reference[pixel] + clip_.c_on);
  }

  void fire(int64_t frame, int64_t pixel, uint32_t place, bool counts, Records& records) {
    const uint8_t* grey = clip_.frames + frame * clip_.num_pixels() + pixel;
    int32_t level = clip_.reference[pixel];
    const int32_t l1 = clip_.table[*grey];
    const int32_t crossings = signed_crossings(l1, level, clip_.c_on, clip_.c_off);
    if (crossings == 0) return;
    const int32_t l0 = frame > 0 ? clip_.table[grey[-clip_.num_pixels()]] : clip_.last[pixel];
    const int32_t step = reference_step(crossings, clip_.c_on, clip_.c_off), number = std::abs(crossings);
    clip_.reference[pixel] = level + number * step;
    set_silent_range(pixel);
    if (counts) return records.push(pack_event(static_cast<uint32_t>(number), place, crossings > 0));
    uint64_t* out = records.room(number);
    for (int32_t nth = 0; nth < number; ++nth) {
      level += step;
      out[nth] = pack_event(crossing_offset_us(level, l0, l1, clip_.dt_us(frame)), place, crossings > 0);
    }
    records.advance(number);
  }

  Clip clip_;
  SilentRange silent_;
  Buffer<uint8_t> lo_, hi_;
};

}  // namespace portable
}  // namespace neuroav
