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
#include <utility>
#include <vector>

#include "bins.h"
#include "caught.h"
#include "clones.h"
#include "contrast.h"
#include "kinds.h"
#include "memory.h"

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
    if (used_ + count > data_.capacity()) data_.reserve(std::max<int64_t>(2 * (used_ + count), 2 * kTile), used_);
    return data_.data() + used_;
  }
  void advance(int64_t count) { used_ += count; }

  void push(uint64_t record) {
    *room(1) = record;
    advance(1);
  }

  void end_frame() { ends_.push_back(used_); }

  // Of the frames since `clear`, the first being 0.
  const uint64_t* begin(int64_t frame) const { return data_.data() + (frame > 0 ? ends_[frame - 1] : 0); }
  const uint64_t* end(int64_t frame) const { return data_.data() + ends_[frame]; }
  int64_t count(int64_t frame) const { return end(frame) - begin(frame); }

 private:
  Buffer<uint64_t> data_;
  int64_t used_ = 0;
  std::vector<int64_t> ends_;
};

// Events sorted by time, then row, column and order of emission. `noise` stays empty unless labels are asked for.
struct EventColumns {
  int64_t count = 0;
  bool labels = false;
  Buffer<int64_t> t_us;
  Buffer<int16_t> x, y;
  Buffer<uint8_t> p, noise;

  // Of every column: memory that is used again may be larger than it was asked to be, and differently so.
  int64_t capacity() const {
    const int64_t least = std::min({t_us.capacity(), x.capacity(), y.capacity(), p.capacity()});
    return labels ? std::min(least, noise.capacity()) : least;
  }

  void reserve(int64_t capacity, int64_t kept) {
    t_us.reserve(capacity, kept);
    x.reserve(capacity, kept);
    y.reserve(capacity, kept);
    p.reserve(capacity, kept);
    if (labels) noise.reserve(capacity, kept);
  }
};

struct RecordRange {
  const uint64_t *begin, *end;
};

// The loops over records; compiled for several processors.
namespace loops {

// How many records have each value of each digit of the time; digit d is the `width` bits from d * width on, and its
// counts begin at counts + (d << width). All digits at once, as reading costs more than counting.
template <int digits>
static void count_digits(RecordRange records, int width, uint32_t* counts) {
  const uint32_t mask = (1u << width) - 1;
  for (const uint64_t* record = records.begin; record < records.end; ++record) {
    const uint32_t time = event_offset_us(*record);
    for (int digit = 0; digit < digits; ++digit) {
      ++counts[(digit << width) + (time >> (digit * width) & mask)];
    }
  }
}

// How many records have each value of the bits of the time from `shift` on.
static void count_slices(RecordRange records, int shift, uint32_t* counts) {
  for (const uint64_t* record = records.begin; record < records.end; ++record) {
    ++counts[event_offset_us(*record) >> shift];
  }
}

// Moves every record to the next place of its digit. `far`: that is likely not in cache yet, so is asked for early.
template <bool far = false>
static void scatter(RecordRange records, int shift, uint32_t mask, uint32_t* next, uint64_t* out) {
  for (const uint64_t* record = records.begin; record < records.end; ++record) {
    uint64_t* place = out + next[event_offset_us(*record) >> shift & mask]++;
    *place = *record;
    if (far) __builtin_prefetch(place + 16, 1);
  }
}

NEUROAV_CLONES
static void unpack(const uint64_t* records, int64_t count, int64_t start_us, int64_t* t_us, int16_t* x, int16_t* y,
                   uint8_t* p) {
  for (int64_t i = 0; i < count; ++i) t_us[i] = start_us + event_offset_us(records[i]);
  for (int64_t i = 0; i < count; ++i) x[i] = static_cast<int16_t>(event_x(records[i]));
  for (int64_t i = 0; i < count; ++i) y[i] = static_cast<int16_t>(event_y(records[i]));
  for (int64_t i = 0; i < count; ++i) p[i] = event_p(records[i]);
}

}  // namespace loops

inline int bit_length(uint32_t value) {
  int bits = 0;
  while (bits < 32 && value >> bits) ++bits;
  return bits;
}

// Turns counts into the places where each begins.
inline void start_places(uint32_t* begin, uint32_t* end) {
  uint32_t sum = 0;
  for (uint32_t* count = begin; count < end; ++count) sum += std::exchange(*count, sum);
}

// The records of some consecutive tiles, a few frames of them. Where intervals hold many events, each is cut into
// slices of time at once, while the records are in cache, so that later steps can work on one slice at a time.
class TileGroup {
 public:
  TileGroup() = default;
  TileGroup(int64_t first_tile, int64_t num_tiles) : first_tile_(first_tile), num_tiles_(num_tiles) {}

  // Runs the detector; `scratch` is this thread's. Frame f has up to 2^slice_bits slices of 2^shifts[f - first] us.
  template <typename Detect>
  void detect(int64_t num_pixels, int64_t first, int64_t stop, int slice_bits, const std::vector<int>& shifts,
              std::vector<Records>& scratch, Detect& detect) {
    sliced_ = slice_bits > 0;
    std::vector<Records>& tiles = sliced_ ? scratch : tiles_;
    tiles.resize(std::max<size_t>(tiles.size(), num_tiles_));
    int64_t total = 0;
    for (int64_t tile = 0; tile < num_tiles_; ++tile) {
      tiles[tile].clear();
      const int64_t begin = (first_tile_ + tile) * kTile;
      detect(begin, std::min(kTile, num_pixels - begin), first, stop, false, tiles[tile]);
      total += tiles[tile].end(stop - first - 1) - tiles[tile].begin(0);
    }
    if (sliced_) cut(tiles, stop - first, slice_bits, shifts, total);
  }

  int64_t count(int64_t frame, int64_t slice) const {
    if (sliced_) return starts_[frame][slice + 1] - starts_[frame][slice];
    int64_t sum = 0;
    for (int64_t tile = 0; tile < num_tiles_; ++tile) sum += tiles_[tile].count(frame);
    return sum;
  }

  // Appends the records of one slice, in raster order where times are equal.
  void add_to(std::vector<RecordRange>& parts, int64_t frame, int64_t slice) const {
    if (sliced_) {
      parts.push_back({cut_.data() + starts_[frame][slice], cut_.data() + starts_[frame][slice + 1]});
      return;
    }
    for (int64_t tile = 0; tile < num_tiles_; ++tile) {
      parts.push_back({tiles_[tile].begin(frame), tiles_[tile].end(frame)});
    }
  }

 private:
  void cut(const std::vector<Records>& tiles, int64_t frames, int slice_bits, const std::vector<int>& shifts,
           int64_t total) {
    const size_t slices = size_t{1} << slice_bits;
    cut_.reserve(total);
    starts_.resize(frames);
    uint32_t at = 0;
    for (int64_t frame = 0; frame < frames; ++frame) {
      next_.assign(slices, 0);
      for (int64_t tile = 0; tile < num_tiles_; ++tile) {
        loops::count_slices({tiles[tile].begin(frame), tiles[tile].end(frame)}, shifts[frame], next_.data());
      }
      starts_[frame].assign(1, at);
      for (uint32_t& count : next_) starts_[frame].push_back(at += std::exchange(count, at));
      for (int64_t tile = 0; tile < num_tiles_; ++tile) {
        loops::scatter<true>({tiles[tile].begin(frame), tiles[tile].end(frame)}, shifts[frame], ~0u, next_.data(),
                             cut_.data());
      }
    }
  }

  int64_t first_tile_ = 0, num_tiles_ = 0;
  bool sliced_ = false;
  std::vector<Records> tiles_;                 // if not sliced
  Buffer<uint64_t> cut_;                       // if sliced: by frame, slice and pixel
  std::vector<std::vector<uint32_t>> starts_;  // of the slices of each frame
  std::vector<uint32_t> next_;
};

// Sorts records of one interval by time, stably, and writes them; holds the working space of one thread.
class SliceWriter {
 public:
  // The records of `parts` differ in the lowest `bits` bits of their time; they go to `events` from row `at` on.
  void write(const std::vector<RecordRange>& parts, int64_t size, int bits, int64_t start_us,
             const EventColumns& events, int64_t at) {
    const uint64_t* sorted = sort(parts, size, bits);
    constexpr int64_t kAtOnce = 1024;
    for (int64_t i = 0; i < size; i += kAtOnce) {
      loops::unpack(sorted + i, std::min(kAtOnce, size - i), start_us, events.t_us.data() + at + i,
                    events.x.data() + at + i, events.y.data() + at + i, events.p.data() + at + i);
    }
    if (events.labels) {
      for (int64_t i = 0; i < size; ++i) events.noise.data()[at + i] = event_is_noise(sorted[i]);
    }
  }

 private:
  static constexpr int kMaxBits = 11, kMaxDigits = 3;  // of a digit; together at least 32

  // A radix sort, least significant digit first.
  const uint64_t* sort(const std::vector<RecordRange>& parts, int64_t size, int bits) {
    a_.reserve(size);
    b_.reserve(size);
    const int digits = std::max((bits + kMaxBits - 1) / kMaxBits, 1), width = (bits + digits - 1) / digits;
    const uint32_t mask = (1u << width) - 1;
    next_.assign(static_cast<size_t>(digits) << width, 0);
    for (const RecordRange& part : parts) {
      if (digits == 1) loops::count_digits<1>(part, width, next_.data());
      else if (digits == 2) loops::count_digits<2>(part, width, next_.data());
      else loops::count_digits<kMaxDigits>(part, width, next_.data());
    }
    uint64_t *out = a_.data(), *spare = b_.data();
    for (int digit = 0; digit < digits; ++digit) {
      const RecordRange all{spare, spare + size};
      const RecordRange *first = digit > 0 ? &all : parts.data(), *last = digit > 0 ? &all + 1 : first + parts.size();
      uint32_t* next = next_.data() + (digit << width);
      start_places(next, next + mask + 1);
      for (const RecordRange* part = first; part < last; ++part) {
        loops::scatter(*part, digit * width, mask, next, out);
      }
      std::swap(out, spare);
    }
    return spare;
  }

  Buffer<uint64_t> a_, b_;
  std::vector<uint32_t> next_;
};

// The whole of making a list: a few frames at a time, so that their records stay in cache.
template <typename Detect>
class ListMaker {
 public:
  ListMaker(const int64_t* edges_us, int64_t num_frames, int64_t num_pixels, int threads, Detect& detect,
            EventColumns& events)
      : edges_us_(edges_us), num_frames_(num_frames), num_pixels_(num_pixels), threads_(std::max(threads, 1)),
        detect_(detect), events_(events), writers_(threads_) {
    const int64_t num_tiles = (num_pixels + kTile - 1) / kTile;
    const int64_t per_group = std::clamp<int64_t>(num_tiles / (16 * threads_), 1, kGroup);
    for (int64_t tile = 0; tile < num_tiles; tile += per_group) {
      groups_.emplace_back(tile, std::min(per_group, num_tiles - tile));
    }
  }

  void run() {
    int64_t expected = num_pixels_ / 4;  // events in an interval: a guess that decides nothing but speed
    for (int64_t first = 0, stop; num_pixels_ > 0 && first < num_frames_; first = stop) {
      const int64_t before = events_.count;
      stop = first > 0 ? std::min(first + frames_at_once(expected), num_frames_) : 1;
      while (expected > 16 * kSlice && slice_bits_ < kMaxSliceBits && expected >> slice_bits_ > kSlice) ++slice_bits_;
      detect(first, stop);
      make_room(stop);
      write(first);
      expected = (events_.count - before) / (stop - first);
    }
    events_.reserve(events_.count, events_.count);
  }

 private:
  static constexpr int64_t kGroup = 8;  // tiles whose records stay in the second-level cache
  static constexpr int64_t kPixelsAtOnce = 1 << 21, kEventsAtOnce = 1 << 19;  // per thread
  static constexpr int64_t kSlice = 1 << 12, kMaxSliceBits = 8;
  static constexpr int64_t kFreeRoom = 1 << 24;  // events; what is not used is not touched

  int64_t frames_at_once(int64_t expected) const {
    const int64_t by_pixels = kPixelsAtOnce / num_pixels_, by_events = kEventsAtOnce / std::max<int64_t>(expected, 1);
    return threads_ * std::max<int64_t>(std::min(by_pixels, by_events), 1);
  }

  struct Job {
    int64_t frame, slice, at, size;
  };

  void detect(int64_t first, int64_t stop) {
    shifts_.clear();
    for (int64_t frame = first; frame < stop; ++frame) shifts_.push_back(std::max(bits_of(frame) - slice_bits_, 0));
    const int64_t num_groups = static_cast<int64_t>(groups_.size());
    Caught caught;
#pragma omp parallel num_threads(static_cast<int>(std::min<int64_t>(threads_, num_groups)))
    {
      std::vector<Records> scratch;
#pragma omp for schedule(dynamic)
      for (int64_t group = 0; group < num_groups; ++group) {
        caught.run([&] { groups_[group].detect(num_pixels_, first, stop, slice_bits_, shifts_, scratch, detect_); });
      }
    }
    caught.rethrow();
    jobs_.clear();
    for (int64_t frame = 0; frame < stop - first; ++frame) {
      for (int64_t slice = 0; slice < int64_t{1} << slice_bits_; ++slice) {
        int64_t size = 0;
        for (const TileGroup& group : groups_) size += group.count(frame, slice);
        jobs_.push_back({frame, slice, events_.count, size});
        events_.count += size;
      }
    }
  }

  // Makes room for the rest of the clip as well, should it go on like this, but not for far more than there is already.
  void make_room(int64_t stop) {
    if (events_.count <= events_.capacity()) return;
    const int64_t rest = events_.count / stop * (num_frames_ - stop) / 8 * 9;
    events_.reserve(events_.count + std::min(rest, std::max(events_.count, kFreeRoom)), jobs_[0].at);
  }

  void write(int64_t first) {
    const int64_t num_jobs = static_cast<int64_t>(jobs_.size()), size = events_.count - jobs_[0].at;
    const int useful = static_cast<int>(std::min<int64_t>({threads_, num_jobs, 1 + size / 32768}));
    Caught caught;
#pragma omp parallel for schedule(static, 1) num_threads(useful)
    for (int thread = 0; thread < useful; ++thread) {
      caught.run([&] {
        std::vector<RecordRange> parts;
        for (int64_t i = thread; i < num_jobs; i += useful) {
          const Job& job = jobs_[i];
          parts.clear();
          for (const TileGroup& group : groups_) group.add_to(parts, job.frame, job.slice);
          const int bits = slice_bits_ > 0 ? shifts_[job.frame] : bits_of(first + job.frame);
          writers_[thread].write(parts, job.size, bits, edges_us_[first + job.frame], events_, job.at);
        }
      });
    }
    caught.rethrow();
  }

  int bits_of(int64_t frame) const {
    return bit_length(static_cast<uint32_t>(edges_us_[frame + 1] - edges_us_[frame]));
  }

  const int64_t* edges_us_;
  int64_t num_frames_, num_pixels_;
  int threads_, slice_bits_ = 0;
  Detect& detect_;
  EventColumns& events_;
  std::vector<TileGroup> groups_;
  std::vector<SliceWriter> writers_;
  std::vector<int> shifts_;  // of the frames at hand
  std::vector<Job> jobs_;
};

// All events of a clip, sorted.
template <typename Detect>
void list_events(const int64_t* edges_us, int64_t num_frames, int64_t num_pixels, int threads, Detect& detect,
                 EventColumns& events) {
  ListMaker<Detect>(edges_us, num_frames, num_pixels, threads, detect, events).run();
}

// Bins being filled with records. Threads may share them, each in bands of rows of its own.
template <typename Kind>
class BinSink {
 public:
  // Cells of some sensor rows. Their values are emptied step by step, just before events come, to be in cache then.
  struct Band {
    int64_t first_cell, end_cell, emptied;
  };

  BinSink(const BinLayout& bins, typename Kind::Value* values)
      : bins_(bins), plane_(bins.rows * bins.columns), values_(values), starts_(bin_starts(bins)),
        num_bins_(static_cast<int64_t>(starts_.size()) - 1), row_start_(bins.height), column_(bins.width) {
    for (int64_t y = 0; y < bins.height; ++y) row_start_[y] = static_cast<int32_t>(cell_row_start(bins, y));
    for (int64_t x = 0; x < bins.width; ++x) column_[x] = static_cast<int32_t>(cell_column(bins, x));
    for (int64_t bin = 0; bin < num_bins_; ++bin) kinds_.emplace_back(bins, bin, values);
  }

  // Whether all of (start_us, stop_us] belongs to one bin of counts, or to none: then no event needs its time.
  bool needs_no_times(int64_t start_us, int64_t stop_us) const {
    return bins_.kind == BINS_COUNTS && bin_at(start_us + 1) == bin_at(stop_us);
  }

  // Rows [top, bottom) share no cell with others.
  Band band(int64_t top, int64_t bottom) const {
    return {row_start_[top], bottom < bins_.height ? row_start_[bottom] : plane_, 0};
  }

  // Records that hold, in place of a time, the number of a pixel's events in an interval that `needs_no_times`.
  void add_counts(RecordRange records, int64_t stop_us, Band& band) const {
    const int64_t bin = bin_at(stop_us);
    if (bin < 0 || bin == num_bins_) return;
    empty(band, bin + 1);
    typename Kind::Value* const values = values_ + bin * 2 * plane_;
    for (const uint64_t* record = records.begin; record < records.end; ++record) {
      values[place(*record)] += static_cast<typename Kind::Value>(event_offset_us(*record));
    }
  }

  // Records of the interval (start_us, stop_us].
  void add_events(RecordRange records, int64_t start_us, int64_t stop_us, Band& band) const {
    const int64_t first = bin_at(start_us + 1), last = bin_at(stop_us);
    if (last < 0 || first == num_bins_) return;
    empty(band, std::min(last, num_bins_ - 1) + Kind::kPlanes);
    if (first == last) {
      const Kind kind = kinds_[first];
      for (const uint64_t* record = records.begin; record < records.end; ++record) {
        kind.add(place(*record), start_us + event_offset_us(*record));
      }
      return;
    }
    for (const uint64_t* record = records.begin; record < records.end; ++record) {
      const int64_t t_us = start_us + event_offset_us(*record), bin = bin_between(first, last, t_us);
      if (bin >= 0 && bin < num_bins_) kinds_[bin].add(place(*record), t_us);
    }
  }

  // Makes sure that the first `steps` planes of the band hold values; to be called with all of them at the end.
  void empty(Band& band, int64_t steps) const {
    for (; band.emptied < steps; ++band.emptied) {
      for (int p = 0; p < 2; ++p) {
        typename Kind::Value* const plane = values_ + (2 * band.emptied + p) * plane_;
        std::fill(plane + band.first_cell, plane + band.end_cell, Kind::kEmpty);
      }
    }
  }

 private:
  // The bin of a time, -1 before all and num_bins_ after.
  int64_t bin_at(int64_t t_us) const { return bin_between(-1, num_bins_, t_us); }

  // The same where it must lie in [first, last].
  int64_t bin_between(int64_t first, int64_t last, int64_t t_us) const {
    const int64_t *begin = starts_.data() + first + 1, *end = starts_.data() + last + 1;
    if (end - begin > 8) return first + (std::upper_bound(begin, end, t_us) - begin);
    for (; begin < end; ++begin) first += t_us >= *begin;  // no branch, as times are in no order here
    return first;
  }

  // In a plane (P, rows, columns).
  int64_t place(uint64_t record) const {
    return event_p(record) * plane_ + row_start_[event_y(record)] + column_[event_x(record)];
  }

  BinLayout bins_;
  int64_t plane_;  // cells of one polarity
  typename Kind::Value* values_;
  std::vector<int64_t> starts_;
  int64_t num_bins_;
  std::vector<int32_t> row_start_, column_;
  std::vector<Kind> kinds_;
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

template <typename Kind, typename Detect>
void fill_bins_of(const BinLayout& bins, const int64_t* edges_us, int64_t num_frames, bool may_count, int threads,
                  Detect& detect, void* values) {
  constexpr int64_t kFramesAtOnce = 8;
  const BinSink<Kind> sink(bins, static_cast<typename Kind::Value*>(values));
  std::vector<uint8_t> counts(num_frames);
  for (int64_t f = 0; f < num_frames; ++f) counts[f] = may_count && sink.needs_no_times(edges_us[f], edges_us[f + 1]);
  const std::vector<int64_t> cuts = rows_between_cells(bins);
  const int64_t num_bands = static_cast<int64_t>(cuts.size()) - 1;
  Caught caught;
#pragma omp parallel num_threads(static_cast<int>(std::max<int64_t>(std::min<int64_t>(threads, num_bands), 1)))
  {
    Records records;
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < num_bands; ++i) {
      caught.run([&] {
        auto band = sink.band(cuts[i], cuts[i + 1]);
        const int64_t end = cuts[i + 1] * bins.width;
        for (int64_t begin = cuts[i] * bins.width; begin < end; begin += kTile) {
          for (int64_t first = 0, stop; first < num_frames; first = stop) {
            stop = first + 1;
            while (stop < num_frames && stop < first + kFramesAtOnce && counts[stop] == counts[first]) ++stop;
            records.clear();
            detect(begin, std::min(kTile, end - begin), first, stop, counts[first] != 0, records);
            for (int64_t f = first; f < stop; ++f) {
              const RecordRange range{records.begin(f - first), records.end(f - first)};
              if (counts[f]) sink.add_counts(range, edges_us[f + 1], band);
              else sink.add_events(range, edges_us[f], edges_us[f + 1], band);
            }
          }
        }
        sink.empty(band, bin_steps(bins));
      });
    }
  }
  caught.rethrow();
}

// All events of a clip, straight into bins: no list is made. Writes all `values` (T, P, rows, columns). `may_count`
// says that the detector knows `counts`, which asks it for one record per pixel with the number of its events in place
// of a time.
template <typename Detect>
void fill_bins(const BinLayout& bins, const int64_t* edges_us, int64_t num_frames, bool may_count, int threads,
               Detect& detect, void* values) {
  const auto fill = bins.kind == BINS_COUNTS  ? fill_bins_of<Count, Detect>
                    : bins.kind == BINS_VOXEL ? fill_bins_of<Voxel, Detect>
                                              : fill_bins_of<Latest, Detect>;
  fill(bins, edges_us, num_frames, may_count, threads, detect, values);
}

}  // namespace neuroav
