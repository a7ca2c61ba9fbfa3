// Grey frames to sorted events on a CPU. The arithmetic of a pixel is in common/contrast.h; this file only loops.
//
// Detection walks tiles of consecutive pixels through all frames, so a tile's state stays in cache. Each pixel keeps
// the range of grey levels [lo, hi] in which it stays silent; a vectorised byte comparison finds the few pixels that
// leave theirs, and only those do arithmetic. Writing sorts each frame interval by time with a stable radix sort.
// Tiles and intervals are independent and of fixed size, so the result is the same for any number of threads.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "contrast.h"

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__)
#define NEUROAV_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define NEUROAV_CLONES
#endif

namespace {

using namespace neuroav;

constexpr int64_t kTile = 4096;  // pixels; state of 10 bytes each
constexpr int64_t kBlock = 64;   // pixels per screening mask

struct Clip {
  const uint8_t* frames;    // (F, H, W)
  const int64_t* edges_us;  // (F + 1)
  const int32_t* table;     // (256), increasing
  int64_t num_frames, height, width;
  int32_t c_on, c_off;
};

// Finds the first grey level whose log intensity reaches a value, without a search: cells are no wider than the
// smallest step of the table, so at most one grey level begins inside a cell.
class GreyIndex {
 public:
  explicit GreyIndex(const int32_t* table) {
    std::copy(table, table + 256, table_);
    table_[256] = INT32_MAX;
    int32_t smallest = INT32_MAX;
    for (int grey = 1; grey < 256; ++grey) smallest = std::min(smallest, table[grey] - table[grey - 1]);
    while ((2 << shift_) <= smallest) ++shift_;
    for (int32_t value = 0, grey = 0; grey < 256; value += 1 << shift_) {
      if (table[grey] - table[0] < value) ++grey;
      first_.push_back(static_cast<uint16_t>(grey));
    }
  }

  // Smallest grey with table[grey] >= value, or 256.
  int32_t first_reaching(int32_t value) const {
    const int32_t above = std::max(value - table_[0], 0);
    const size_t cell = std::min(static_cast<size_t>(above >> shift_), first_.size() - 1);
    const int32_t grey = first_[cell];
    return grey + (table_[grey] < value);
  }

 private:
  int32_t table_[257];
  int32_t shift_ = 0;
  std::vector<uint16_t> first_;
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

// The pixels [begin, begin + size) and everything they fire; events of frame f are records[ends[f - 1], ends[f]).
class Tile {
 public:
  void detect(const Clip& clip, const GreyIndex& greys, int64_t begin, int64_t size, int32_t* reference,
              const int32_t* last) {
    begin_ = begin;
    size_ = size;
    reference_ = reference + begin;
    start(clip, greys);
    ends_.resize(clip.num_frames);
    for (int64_t frame = 0; frame < clip.num_frames; ++frame) {
      const uint8_t* grey = clip.frames + frame * clip.height * clip.width + begin_;
      const int64_t whole = size_ / kBlock * kBlock, rest = size_ - whole;
      uint64_t masks[kTile / kBlock];
      screen(grey, lo_, hi_, whole, masks);
      if (rest > 0) {
        uint8_t padded[kBlock] = {};
        std::memcpy(padded, grey + whole, rest);
        screen(padded, lo_ + whole, hi_ + whole, kBlock, masks + whole / kBlock);
      }
      for (int64_t start = 0; start < size_; start += kBlock) {
        for (uint64_t mask = masks[start / kBlock]; mask; mask &= mask - 1) {
          fire(clip, greys, frame, start + lowest_bit(mask), grey, last);
        }
      }
      ends_[frame] = static_cast<int64_t>(records_.size());
    }
  }

  const uint64_t* frame_begin(int64_t frame) const { return records_.data() + (frame > 0 ? ends_[frame - 1] : 0); }
  const uint64_t* frame_end(int64_t frame) const { return records_.data() + ends_[frame]; }

 private:
  void start(const Clip& clip, const GreyIndex& greys) {
    std::memset(lo_, 0, sizeof lo_);  // padding never fires
    std::memset(hi_, 255, sizeof hi_);
    for (int64_t i = 0; i < size_; ++i) {
      const int64_t pixel = begin_ + i;
      place_[i] = pack_place(static_cast<uint32_t>(pixel / clip.width), static_cast<uint32_t>(pixel % clip.width));
      set_silent_range(clip, greys, i);
    }
  }

  void set_silent_range(const Clip& clip, const GreyIndex& greys, int64_t i) {
    lo_[i] = static_cast<uint8_t>(greys.first_reaching(reference_[i] - clip.c_off + 1));
    hi_[i] = static_cast<uint8_t>(greys.first_reaching(reference_[i] + clip.c_on) - 1);
  }

  void fire(const Clip& clip, const GreyIndex& greys, int64_t frame, int64_t i, const uint8_t* grey,
            const int32_t* last) {
    const int32_t l0 = frame > 0 ? clip.table[grey[i - clip.height * clip.width]] : last[begin_ + i];
    const int32_t l1 = clip.table[grey[i]];
    const uint32_t dt_us = static_cast<uint32_t>(clip.edges_us[frame + 1] - clip.edges_us[frame]);
    int32_t level = reference_[i];
    const int32_t crossings = signed_crossings(l1, level, clip.c_on, clip.c_off);
    const int32_t step = reference_step(crossings, clip.c_on, clip.c_off);
    for (int32_t left = std::abs(crossings); left > 0; --left) {
      level += step;
      records_.push_back(pack_event(crossing_offset_us(level, l0, l1, dt_us), place_[i], crossings > 0));
    }
    reference_[i] = level;
    set_silent_range(clip, greys, i);
  }

  int64_t begin_ = 0, size_ = 0;
  int32_t* reference_ = nullptr;
  uint8_t lo_[kTile], hi_[kTile];
  uint32_t place_[kTile];
  std::vector<uint64_t> records_;
  std::vector<int64_t> ends_;
};

// Sorts the records of one interval by time offset, stably: a radix sort, least significant digit first, whose digits
// are as wide as the interval needs (two of 8 bits at 25 frames per second). `spare` is working space.
void sort_by_time(std::vector<uint64_t>& records, std::vector<uint64_t>& spare, uint32_t largest_offset) {
  constexpr int kMaxBits = 11;
  int bits = 1;
  while (bits < 32 && largest_offset >> bits) ++bits;
  const int passes = (bits + kMaxBits - 1) / kMaxBits, width = (bits + passes - 1) / passes;
  const uint32_t num_digits = 1u << width;
  spare.resize(records.size());
  for (int shift = 32; shift < 32 + passes * width; shift += width) {
    uint32_t next[1 << kMaxBits] = {};
    for (uint64_t record : records) ++next[(record >> shift) & (num_digits - 1)];
    uint32_t sum = 0;
    for (uint32_t digit = 0; digit < num_digits; ++digit) sum += std::exchange(next[digit], sum);
    for (uint64_t record : records) spare[next[(record >> shift) & (num_digits - 1)]++] = record;
    records.swap(spare);
  }
}

// The events of one call, held between counting (so that the caller can allocate) and writing.
class DetectedEvents {
 public:
  DetectedEvents(const Clip& clip, int32_t* reference, const int32_t* last, int threads)
      : edges_us_(clip.edges_us, clip.edges_us + clip.num_frames + 1), threads_(std::max(threads, 1)) {
    const int64_t num_pixels = clip.height * clip.width;
    const int64_t num_tiles = (num_pixels + kTile - 1) / kTile;
    const GreyIndex greys(clip.table);
    tiles_.resize(num_tiles);
    const int useful = static_cast<int>(std::min<int64_t>(threads_, num_tiles));
#pragma omp parallel for schedule(dynamic) num_threads(useful)
    for (int64_t tile = 0; tile < num_tiles; ++tile) {
      tiles_[tile] = std::make_unique<Tile>();
      const int64_t begin = tile * kTile;
      tiles_[tile]->detect(clip, greys, begin, std::min(kTile, num_pixels - begin), reference, last);
    }
    starts_.assign(clip.num_frames + 1, 0);
    for (int64_t frame = 0; frame < clip.num_frames; ++frame) {
      starts_[frame + 1] = starts_[frame];
      for (const auto& tile : tiles_) starts_[frame + 1] += tile->frame_end(frame) - tile->frame_begin(frame);
    }
  }

  int64_t count() const { return starts_.back(); }

  void write(int64_t* t_us, int16_t* x, int16_t* y, uint8_t* p) const {
    const int64_t num_frames = static_cast<int64_t>(starts_.size()) - 1;
    const int useful = static_cast<int>(std::min<int64_t>({threads_, num_frames, 1 + count() / 32768}));
#pragma omp parallel num_threads(useful)
    {
      std::vector<uint64_t> records, spare;
#pragma omp for schedule(dynamic)
      for (int64_t frame = 0; frame < num_frames; ++frame) {
        records.clear();
        for (const auto& tile : tiles_) {
          records.insert(records.end(), tile->frame_begin(frame), tile->frame_end(frame));
        }
        sort_by_time(records, spare, static_cast<uint32_t>(edges_us_[frame + 1] - edges_us_[frame]));
        for (size_t i = 0; i < records.size(); ++i) {
          const int64_t at = starts_[frame] + static_cast<int64_t>(i);
          t_us[at] = edges_us_[frame] + event_offset_us(records[i]);
          x[at] = static_cast<int16_t>(event_x(records[i]));
          y[at] = static_cast<int16_t>(event_y(records[i]));
          p[at] = event_p(records[i]);
        }
      }
    }
  }

 private:
  std::vector<std::unique_ptr<Tile>> tiles_;
  std::vector<int64_t> edges_us_, starts_;
  int threads_;
};

template <typename T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

}  // namespace

void bind_events(pybind11::module_& m) {
  namespace py = pybind11;
  py::class_<DetectedEvents>(m, "DetectedEvents")
      .def_property_readonly("count", &DetectedEvents::count)
      .def("write", [](const DetectedEvents& events, std::uintptr_t t_us, std::uintptr_t x, std::uintptr_t y,
                       std::uintptr_t p) {
        py::gil_scoped_release release;
        events.write(pointer<int64_t>(t_us), pointer<int16_t>(x), pointer<int16_t>(y), pointer<uint8_t>(p));
      });
  m.def(
      "detect_events",
      [](std::uintptr_t frames, int64_t num_frames, int64_t height, int64_t width, std::uintptr_t edges_us,
         std::uintptr_t table, int32_t c_on, int32_t c_off, std::uintptr_t reference, std::uintptr_t last,
         int threads) {
        py::gil_scoped_release release;
        const Clip clip{pointer<const uint8_t>(frames), pointer<const int64_t>(edges_us), pointer<const int32_t>(table),
                        num_frames, height, width, c_on, c_off};
        return std::make_unique<DetectedEvents>(clip, pointer<int32_t>(reference), pointer<const int32_t>(last),
                                                threads);
      },
      "Find the events of contiguous frames; moves `reference` (H, W) int32 in place.", py::arg("frames"),
      py::arg("num_frames"), py::arg("height"), py::arg("width"), py::arg("edges_us"), py::arg("table"),
      py::arg("c_on"), py::arg("c_off"), py::arg("reference"), py::arg("last"), py::arg("threads"));
}
