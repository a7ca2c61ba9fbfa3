// Grey frames to events on a CPU, for the ideal camera. The arithmetic of a pixel is in common/contrast.h, what becomes
// of the events in sinks.h; this file finds them.
//
// Each pixel keeps a range of grey levels [lo, hi] in which it surely stays silent; a vectorised byte comparison finds
// the few pixels that leave theirs, and only those do arithmetic.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "bins.h"
#include "contrast.h"
#include "sinks.h"

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__)
#define NEUROAV_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define NEUROAV_CLONES
#endif

namespace {

using namespace neuroav;

constexpr int64_t kBlock = 64;  // pixels per screening mask

struct Clip {
  const uint8_t* frames;    // (F, H, W)
  const int64_t* edges_us;  // (F + 1)
  const int32_t* table;     // (256), never decreasing
  int64_t num_frames, height, width;
  int32_t c_on, c_off;
  int32_t* reference;   // (H, W), moved
  const int32_t* last;  // (H, W)
};

// Grey levels at which a pixel surely stays silent, looked up instead of searched for: brightness is cut into cells,
// and a grey level whose cell the threshold shares counts as not silent. (Such a pixel is looked at for nothing.)
class SilentRange {
 public:
  explicit SilentRange(const int32_t* table) : lowest_(table[0]) {
    const int32_t range = table[255] - table[0];
    while ((range >> shift_) >= kCells) ++shift_;
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
  uint8_t lo(int32_t level) const { return lo_[std::max((level - lowest_) >> shift_, -1) + 1]; }

 private:
  static constexpr int32_t kCells = 4096;
  int32_t lowest_, shift_ = 0;
  uint8_t lo_[kCells + 2], hi_[kCells + 1];
};

// Bit i of masks[b] says whether pixel b * 64 + i lies outside its silent range. `count` is a multiple of 64.
NEUROAV_CLONES
void screen(const uint8_t* grey, const uint8_t* lo, const uint8_t* hi, int64_t count, uint64_t* masks) {
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

int lowest_bit(uint64_t mask) {
#if defined(__GNUC__)
  return __builtin_ctzll(mask);
#else
  int bit = 0;
  while (!(mask >> bit & 1)) ++bit;
  return bit;
#endif
}

// Walks pixels one by one; runs everywhere.
class Detector {
 public:
  explicit Detector(const Clip& clip)
      : clip_(clip), num_pixels_(clip.height * clip.width), silent_(clip.table), lo_(num_pixels_ + kBlock),
        hi_(num_pixels_ + kBlock) {}

  void operator()(int64_t begin, int64_t size, int64_t first, int64_t stop, bool counts, Records& records) {
    if (first == 0) {
      for (int64_t i = begin; i < begin + size; ++i) set_silent_range(i);
    }
    for (int64_t frame = first; frame < stop; ++frame) {
      const uint8_t* grey = clip_.frames + frame * num_pixels_ + begin;
      const int64_t whole = size / kBlock * kBlock, rest = size - whole;
      uint64_t masks[kTile / kBlock];
      screen(grey, &lo_[begin], &hi_[begin], whole, masks);
      if (rest > 0) {
        uint8_t padded[kBlock] = {};
        std::memcpy(padded, grey + whole, rest);
        screen(padded, &lo_[begin + whole], &hi_[begin + whole], kBlock, masks + whole / kBlock);
        masks[whole / kBlock] &= (uint64_t{1} << rest) - 1;
      }
      for (int64_t start = 0; start < size; start += kBlock) {
        for (uint64_t mask = masks[start / kBlock]; mask; mask &= mask - 1) {
          fire(frame, begin + start + lowest_bit(mask), counts, records);
        }
      }
      records.end_frame();
    }
  }

 private:
  void set_silent_range(int64_t pixel) {
    lo_[pixel] = silent_.lo(clip_.reference[pixel] - clip_.c_off);
    hi_[pixel] = silent_.hi(clip_.reference[pixel] + clip_.c_on);
  }

  void fire(int64_t frame, int64_t pixel, bool counts, Records& records) {
    const uint8_t* grey = clip_.frames + frame * num_pixels_ + pixel;
    int32_t level = clip_.reference[pixel];
    const int32_t l1 = clip_.table[*grey];
    const int32_t crossings = signed_crossings(l1, level, clip_.c_on, clip_.c_off);
    if (crossings == 0) return;
    const int32_t l0 = frame > 0 ? clip_.table[grey[-num_pixels_]] : clip_.last[pixel];
    const uint32_t dt_us = static_cast<uint32_t>(clip_.edges_us[frame + 1] - clip_.edges_us[frame]);
    const uint32_t place = pack_place(static_cast<uint32_t>(pixel / clip_.width),
                                      static_cast<uint32_t>(pixel % clip_.width));
    const int32_t step = reference_step(crossings, clip_.c_on, clip_.c_off), number = std::abs(crossings);
    clip_.reference[pixel] = level + crossings * std::abs(step);
    set_silent_range(pixel);
    if (counts) return records.push(pack_event(static_cast<uint32_t>(number), place, crossings > 0));
    uint64_t* out = records.room(number);
    for (int32_t nth = 0; nth < number; ++nth) {
      level += step;
      out[nth] = pack_event(crossing_offset_us(level, l0, l1, dt_us), place, crossings > 0);
    }
    records.advance(number);
  }

  Clip clip_;
  int64_t num_pixels_;
  SilentRange silent_;
  std::vector<uint8_t> lo_, hi_;
};

template <typename T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

template <typename T>
pybind11::array_t<T> give_away(Column<T>& column, int64_t count) {
  T* data = column.release();
  return pybind11::array_t<T>(count, data, pybind11::capsule(data, [](void* memory) { std::free(memory); }));
}

Clip make_clip(std::uintptr_t frames, int64_t num_frames, int64_t height, int64_t width, std::uintptr_t edges_us,
               std::uintptr_t table, int32_t c_on, int32_t c_off, std::uintptr_t reference, std::uintptr_t last) {
  return {pointer<const uint8_t>(frames), pointer<const int64_t>(edges_us), pointer<const int32_t>(table),
          num_frames, height, width, c_on, c_off, pointer<int32_t>(reference), pointer<const int32_t>(last)};
}

}  // namespace

void bind_events(pybind11::module_& m) {
  namespace py = pybind11;
  py::class_<Clip>(m, "Clip").def(py::init(&make_clip), py::arg("frames"), py::arg("num_frames"), py::arg("height"),
                                  py::arg("width"), py::arg("edges_us"), py::arg("table"), py::arg("c_on"),
                                  py::arg("c_off"), py::arg("reference"), py::arg("last"));
  m.def(
      "contrast_events",
      [](const Clip& clip, int threads) {
        EventColumns events;
        {
          py::gil_scoped_release release;
          Detector detector(clip);
          list_events(clip.edges_us, clip.num_frames, clip.height * clip.width, false, threads, detector, events);
        }
        return py::make_tuple(give_away(events.t_us, events.count), give_away(events.x, events.count),
                              give_away(events.y, events.count), give_away(events.p, events.count));
      },
      "Return the events of contiguous frames, sorted; moves the clip's `reference` in place.", py::arg("clip"),
      py::arg("threads"));
  m.def(
      "contrast_bins",
      [](const Clip& clip, int32_t kind, std::uintptr_t bin_edges_us, int64_t num_edges, int64_t rows, int64_t columns,
         std::uintptr_t values, int threads) {
        py::gil_scoped_release release;
        const BinLayout bins{kind, pointer<const int64_t>(bin_edges_us), num_edges, clip.height, clip.width,
                             rows, columns};
        Detector detector(clip);
        fill_bins(bins, clip.edges_us, clip.num_frames, true, threads, detector, pointer<void>(values));
      },
      "Add the events of contiguous frames to `values`; moves the clip's `reference` in place.", py::arg("clip"),
      py::arg("kind"), py::arg("bin_edges_us"), py::arg("num_edges"), py::arg("rows"), py::arg("columns"),
      py::arg("values"), py::arg("threads"));
}
