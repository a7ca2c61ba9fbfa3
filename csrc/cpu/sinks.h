// What becomes of the events that a detector finds, on a CPU: a list sorted by time, or bins.
//
// A detector is a callable  detect(begin, size, first, stop, counts, records)  that walks the consecutive pixels
// [begin, begin + size) through the frames [first, stop), keeps their state wherever it likes, and appends to `records`
// what they fire, frame after frame: pixels in raster order, the events of one pixel in order of emission. Frame f
// spans (edges_us[f], edges_us[f + 1]]. It is called for growing frames of a tile, for different tiles from different
// threads. Tiles and intervals are independent and of fixed size, so the result is the same for any number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "bins.h"
#include "contrast.h"

namespace neuroav {

constexpr int64_t kTile = 4096;  // pixels handed to a detector at a time

// The records of one tile, frame after frame.
class Records {
 public:
  void clear() {
    used_ = 0;
    ends_.clear();
  }

  // Where to write up to `count` more records; say with `advance` how many there were.
  uint64_t* room(int64_t count) {
    if (used_ + count > capacity_) grow(used_ + count);
    return data_.get() + used_;
  }
  void advance(int64_t count) { used_ += count; }

  void push(uint64_t record) {
    *room(1) = record;
    advance(1);
  }

  void end_frame() { ends_.push_back(used_); }

  // Of the frames since `clear`, the first being 0.
  const uint64_t* begin(int64_t frame) const { return data_.get() + (frame > 0 ? ends_[frame - 1] : 0); }
  const uint64_t* end(int64_t frame) const { return data_.get() + ends_[frame]; }
  int64_t count(int64_t frame) const { return end(frame) - begin(frame); }

 private:
  void grow(int64_t needed) {
    capacity_ = std::max<int64_t>(2 * needed, kTile);
    std::unique_ptr<uint64_t[]> bigger(new uint64_t[capacity_]);
    if (used_ > 0) std::memcpy(bigger.get(), data_.get(), used_ * sizeof(uint64_t));
    data_ = std::move(bigger);
  }

  std::unique_ptr<uint64_t[]> data_;
  int64_t used_ = 0, capacity_ = 0;
  std::vector<int64_t> ends_;
};

// One column of a growing event list, in memory that is not touched before it is written.
template <typename T>
class Column {
 public:
  Column() = default;
  Column(const Column&) = delete;
  Column& operator=(const Column&) = delete;
  ~Column() { std::free(data_); }

  void reserve(int64_t count) {
    T* grown = static_cast<T*>(std::realloc(data_, std::max<size_t>(count * sizeof(T), 1)));
    if (grown == nullptr) throw std::bad_alloc();
    data_ = grown;
    use_large_pages(count);
  }
  T* data() const { return data_; }
  T* release() { return std::exchange(data_, nullptr); }  // the caller frees it with std::free

 private:
  // Touching fresh memory costs more than writing it; pages of 2 MiB make that an order of magnitude cheaper.
  void use_large_pages(int64_t count) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr uintptr_t kPage = 4096, kLarge = 2 << 20;
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(data_) + kPage - 1) / kPage * kPage;
    const uintptr_t end = reinterpret_cast<uintptr_t>(data_ + count) / kPage * kPage;
    if (end > begin + 2 * kLarge) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
    static_cast<void>(count);
#endif
  }

  T* data_ = nullptr;
};

// Events sorted by time, then row, column and order of emission. `noise` stays empty unless labels are asked for.
struct EventColumns {
  int64_t count = 0;
  Column<int64_t> t_us;
  Column<int16_t> x, y;
  Column<uint8_t> p, noise;
};

// Sorts the events of one interval by time, stably, and writes them; holds the working space of one thread.
class IntervalWriter {
 public:
  void clear() { records_.clear(); }
  void add(const uint64_t* begin, const uint64_t* end) { records_.insert(records_.end(), begin, end); }

  void write(int64_t start_us, uint32_t dt_us, bool labels, const EventColumns& events, int64_t at) {
    sort_by_time(dt_us);
    for (size_t i = 0; i < records_.size(); ++i, ++at) {
      events.t_us.data()[at] = start_us + event_offset_us(records_[i]);
      events.x.data()[at] = static_cast<int16_t>(event_x(records_[i]));
      events.y.data()[at] = static_cast<int16_t>(event_y(records_[i]));
      events.p.data()[at] = event_p(records_[i]);
      if (labels) events.noise.data()[at] = event_is_noise(records_[i]);
    }
  }

 private:
  // A radix sort, least significant digit first, whose digits are as wide as the interval needs (two of 8 bits at 25
  // frames per second).
  void sort_by_time(uint32_t largest_offset) {
    constexpr int kMaxBits = 11;
    int bits = 1;
    while (bits < 32 && largest_offset >> bits) ++bits;
    const int passes = (bits + kMaxBits - 1) / kMaxBits, width = (bits + passes - 1) / passes;
    const uint32_t num_digits = 1u << width;
    spare_.resize(records_.size());
    for (int shift = 32; shift < 32 + passes * width; shift += width) {
      uint32_t next[1 << kMaxBits] = {};
      for (uint64_t record : records_) ++next[(record >> shift) & (num_digits - 1)];
      uint32_t sum = 0;
      for (uint32_t digit = 0; digit < num_digits; ++digit) sum += std::exchange(next[digit], sum);
      for (uint64_t record : records_) spare_[next[(record >> shift) & (num_digits - 1)]++] = record;
      records_.swap(spare_);
    }
  }

  std::vector<uint64_t> records_, spare_;
};

// All events of a clip, sorted. The work goes by a few frames at a time, so that their records stay in cache.
template <typename Detect>
void list_events(const int64_t* edges_us, int64_t num_frames, int64_t num_pixels, bool labels, int threads,
                 Detect& detect, EventColumns& events) {
  constexpr int64_t kPixelsAtOnce = 1 << 19;
  threads = std::max(threads, 1);
  const int64_t num_tiles = (num_pixels + kTile - 1) / kTile;
  const int64_t step = std::max<int64_t>(kPixelsAtOnce / std::max<int64_t>(num_pixels, 1), threads);
  std::vector<Records> tiles(num_tiles);
  std::vector<IntervalWriter> writers(threads);
  std::vector<int64_t> starts(step + 1);
  int64_t capacity = 0;
  for (int64_t first = 0; first < num_frames; first += step) {
    const int64_t stop = std::min(first + step, num_frames), frames = stop - first;
#pragma omp parallel for schedule(dynamic) num_threads(static_cast<int>(std::min<int64_t>(threads, num_tiles)))
    for (int64_t tile = 0; tile < num_tiles; ++tile) {
      tiles[tile].clear();
      const int64_t begin = tile * kTile;
      detect(begin, std::min(kTile, num_pixels - begin), first, stop, false, tiles[tile]);
    }
    starts[0] = events.count;
    for (int64_t frame = 0; frame < frames; ++frame) {
      starts[frame + 1] = starts[frame];
      for (const Records& tile : tiles) starts[frame + 1] += tile.count(frame);
    }
    events.count = starts[frames];
    if (events.count > capacity) {  // room for the rest of the clip, should it go on like this
      capacity = events.count + events.count / stop * (num_frames - stop) / 8 * 9;
      events.t_us.reserve(capacity);
      events.x.reserve(capacity);
      events.y.reserve(capacity);
      events.p.reserve(capacity);
      if (labels) events.noise.reserve(capacity);
    }
    const int useful = static_cast<int>(std::min<int64_t>({threads, frames, 1 + (starts[frames] - starts[0]) / 32768}));
#pragma omp parallel for schedule(static) num_threads(useful)
    for (int thread = 0; thread < useful; ++thread) {
      IntervalWriter& writer = writers[thread];
      for (int64_t frame = thread; frame < frames; frame += useful) {
        writer.clear();
        for (const Records& tile : tiles) writer.add(tile.begin(frame), tile.end(frame));
        const int64_t start_us = edges_us[first + frame];
        writer.write(start_us, static_cast<uint32_t>(edges_us[first + frame + 1] - start_us), labels, events,
                     starts[frame]);
      }
    }
  }
  events.t_us.reserve(events.count);
  events.x.reserve(events.count);
  events.y.reserve(events.count);
  events.p.reserve(events.count);
  if (labels) events.noise.reserve(events.count);
}

// Adds records to bins (common/bins.h). Threads may share `values` as long as no two add to the same cell.
class BinSink {
 public:
  // `values` (T, P, rows, columns): int32 for COUNTS, else int64; the caller has put in the empty value.
  BinSink(const BinLayout& bins, void* values)
      : bins_(bins), counts_(static_cast<int32_t*>(values)), values_(static_cast<int64_t*>(values)),
        row_start_(bins.height), column_(bins.width) {
    for (int64_t y = 0; y < bins.height; ++y) row_start_[y] = static_cast<int32_t>(cell_row_start(bins, y));
    for (int64_t x = 0; x < bins.width; ++x) column_[x] = static_cast<int32_t>(cell_column(bins, x));
  }

  // Whether all of (start_us, stop_us] belongs to one bin of counts, or to none: then no event needs its time.
  bool needs_no_times(int64_t start_us, int64_t stop_us) const {
    return bins_.kind == BINS_COUNTS && edges_below(bins_.edges_us, bins_.num_edges, start_us + 1) ==
                                            edges_below(bins_.edges_us, bins_.num_edges, stop_us);
  }

  // Records that hold, in place of a time, the number of a pixel's events in an interval that `needs_no_times`.
  void add_counts(const uint64_t* begin, const uint64_t* end, int64_t stop_us) const {
    const int64_t bin = bin_of(bins_, stop_us);
    if (bin < 0) return;
    int32_t* plane = counts_ + bin_place(bins_, bin, 0, 0);
    const int64_t cells = bins_.rows * bins_.columns;
    for (const uint64_t* record = begin; record < end; ++record) {
      plane[event_p(*record) * cells + cell(*record)] += static_cast<int32_t>(event_offset_us(*record));
    }
  }

  // Records of the interval that begins at start_us.
  void add_events(const uint64_t* begin, const uint64_t* end, int64_t start_us) const {
    for (const uint64_t* record = begin; record < end; ++record) {
      add(start_us + event_offset_us(*record), event_p(*record), cell(*record));
    }
  }

 private:
  int64_t cell(uint64_t record) const { return row_start_[event_y(record)] + column_[event_x(record)]; }

  void add(int64_t t_us, int32_t p, int64_t cell) const {
    if (bins_.kind == BINS_VOXEL) {
      const int64_t left = left_node(bins_, t_us);
      if (left < 0) return;
      const int64_t right_share = right_weight(bins_, left, t_us);
      values_[bin_place(bins_, left, p, cell)] += (int64_t{1} << BINS_WEIGHT_BITS) - right_share;
      values_[bin_place(bins_, left + 1, p, cell)] += right_share;
      return;
    }
    const int64_t bin = bin_of(bins_, t_us);
    if (bin < 0) return;
    const int64_t place = bin_place(bins_, bin, p, cell);
    if (bins_.kind == BINS_COUNTS) ++counts_[place];
    else values_[place] = std::max(values_[place], t_us);
  }

  BinLayout bins_;
  int32_t* counts_;
  int64_t* values_;
  std::vector<int32_t> row_start_, column_;
};

// Image rows at which the sensor may be cut so that no cell lies on both sides, at least a tile apart.
inline std::vector<int64_t> rows_between_cells(const BinLayout& bins) {
  std::vector<int64_t> cuts{0};
  for (int64_t y = 1; y < bins.height; ++y) {
    const bool new_cells = cell_row_start(bins, y) != cell_row_start(bins, y - 1);
    if (new_cells && (y - cuts.back()) * bins.width >= kTile) cuts.push_back(y);
  }
  cuts.push_back(bins.height);
  return cuts;
}

// All events of a clip, straight into bins: no list is made. `may_count` says that the detector knows `counts`, which
// asks it for one record per pixel with the number of its events in place of a time.
template <typename Detect>
void fill_bins(const BinLayout& bins, const int64_t* edges_us, int64_t num_frames, bool may_count, int threads,
               Detect& detect, void* values) {
  constexpr int64_t kFramesAtOnce = 8;
  const BinSink sink(bins, values);
  std::vector<uint8_t> counts(num_frames);
  for (int64_t f = 0; f < num_frames; ++f) counts[f] = may_count && sink.needs_no_times(edges_us[f], edges_us[f + 1]);
  const std::vector<int64_t> cuts = rows_between_cells(bins);
  const int64_t num_bands = static_cast<int64_t>(cuts.size()) - 1;
#pragma omp parallel num_threads(static_cast<int>(std::max<int64_t>(std::min<int64_t>(threads, num_bands), 1)))
  {
    Records records;
#pragma omp for schedule(dynamic)
    for (int64_t band = 0; band < num_bands; ++band) {
      const int64_t end = cuts[band + 1] * bins.width;
      for (int64_t begin = cuts[band] * bins.width; begin < end; begin += kTile) {
        for (int64_t first = 0, stop; first < num_frames; first = stop) {
          stop = first + 1;
          while (stop < num_frames && stop < first + kFramesAtOnce && counts[stop] == counts[first]) ++stop;
          records.clear();
          detect(begin, std::min(kTile, end - begin), first, stop, counts[first] != 0, records);
          for (int64_t f = first; f < stop; ++f) {
            const uint64_t *from = records.begin(f - first), *to = records.end(f - first);
            if (counts[f]) sink.add_counts(from, to, edges_us[f + 1]);
            else sink.add_events(from, to, edges_us[f]);
          }
        }
      }
    }
  }
}

}  // namespace neuroav
