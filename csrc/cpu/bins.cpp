// Event lists to bins on a CPU. What a bin means is in common/bins.h; this file only loops.
//
// Events mostly come sorted by time, so the loop stays in one bin until an event falls outside it, and only then looks
// for the next; unsorted events give the same values, more slowly. Every thread fills bins of its own, which are then
// joined: integers, so the result is the same for any number of threads.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "arrays.h"
#include "bins.h"
#include "kinds.h"

namespace {

using namespace neuroav;

struct EventList {
  const int64_t* t_us;
  const int16_t* x;
  const int16_t* y;
  const uint8_t* p;
  int64_t count;
};

// Where in a plane (P, rows, columns) each row and column of the sensor lies.
class Places {
 public:
  explicit Places(const BinLayout& bins)
      : row_(bins.height), column_(bins.width), polarity_(bins.rows * bins.columns) {
    for (int64_t y = 0; y < bins.height; ++y) row_[y] = cell_row_start(bins, y);
    for (int64_t x = 0; x < bins.width; ++x) column_[x] = cell_column(bins, x);
  }

  // Place of event i in the plane, or -1 if it lies outside the sensor.
  int64_t of(const EventList& events, int64_t i) const {
    const size_t y = static_cast<uint16_t>(events.y[i]), x = static_cast<uint16_t>(events.x[i]);
    if (y >= row_.size() || x >= column_.size() || events.p[i] > 1) return -1;
    return row_[y] + column_[x] + events.p[i] * polarity_;
  }

 private:
  std::vector<int64_t> row_, column_;
  int64_t polarity_;
};

// Puts events [begin, end) into fresh `values`; returns the first one that lies outside the sensor, or -1. Planes are
// emptied when the events come to them, so that they are in cache when they are needed.
template <typename Kind>
int64_t fill(const EventList& events, const BinLayout& bins, const Places& places, const std::vector<int64_t>& starts,
             int64_t begin, int64_t end, typename Kind::Value* values) {
  const int64_t plane = plane_size(bins), steps = bin_steps(bins);
  int64_t emptied = 0;
  const auto empty_up_to = [&](int64_t step) {
    if (step > emptied) std::fill(values + emptied * plane, values + step * plane, Kind::kEmpty);
    emptied = std::max(emptied, step);
  };
  for (int64_t i = begin; i < end;) {
    const auto next = std::upper_bound(starts.begin(), starts.end(), events.t_us[i]);
    if (next == starts.begin() || next == starts.end()) {  // outside all bins
      if (places.of(events, i) < 0) return i;
      ++i;
      continue;
    }
    const int64_t bin = next - starts.begin() - 1;
    empty_up_to(bin + Kind::kPlanes);
    const Kind kind(bins, bin, values);
    const int64_t first = next[-1];
    const uint64_t span = static_cast<uint64_t>(*next) - static_cast<uint64_t>(first);
    for (; i < end && static_cast<uint64_t>(events.t_us[i]) - static_cast<uint64_t>(first) < span; ++i) {
      const int64_t place = places.of(events, i);
      if (place < 0) return i;
      kind.add(place, events.t_us[i]);
    }
  }
  empty_up_to(steps);
  return -1;
}

template <typename Kind>
int64_t bin_events(const EventList& events, const BinLayout& bins, typename Kind::Value* values, int threads) {
  using Value = typename Kind::Value;
  const Places places(bins);
  const std::vector<int64_t> starts = bin_starts(bins);
  const int64_t size = bin_steps(bins) * plane_size(bins);
  // A thread pays for filling and joining bins of its own: worth it for several events per cell.
  const int64_t useful = std::min<int64_t>(std::max(threads, 1), 1 + events.count / (2 * size + 65536));
  std::vector<int64_t> bad(useful, -1);
  std::vector<std::unique_ptr<Value[]>> own(useful);
  for (int64_t thread = 1; thread < useful; ++thread) own[thread].reset(new Value[size]);
#pragma omp parallel for schedule(static) num_threads(static_cast<int>(useful))
  for (int64_t thread = 0; thread < useful; ++thread) {
    bad[thread] = fill<Kind>(events, bins, places, starts, events.count * thread / useful,
                             events.count * (thread + 1) / useful, thread > 0 ? own[thread].get() : values);
  }
  for (int64_t thread = 1; thread < useful; ++thread) {
    for (int64_t i = 0; i < size; ++i) Kind::join(values[i], own[thread][i]);
  }
  const auto found = std::find_if(bad.begin(), bad.end(), [](int64_t i) { return i >= 0; });
  return found == bad.end() ? -1 : *found;
}

}  // namespace

void bind_bins(pybind11::module_& m) {
  namespace py = pybind11;
  m.def(
      "bin_events",
      [](std::uintptr_t t_us, std::uintptr_t x, std::uintptr_t y, std::uintptr_t p, int64_t count, int64_t height,
         int64_t width, int32_t kind, std::uintptr_t edges_us, int64_t num_edges, int64_t rows, int64_t columns,
         int threads) {
        const EventList events{pointer<const int64_t>(t_us), pointer<const int16_t>(x), pointer<const int16_t>(y),
                               pointer<const uint8_t>(p), count};
        const BinLayout bins{kind, pointer<const int64_t>(edges_us), num_edges, height, width, rows, columns};
        int64_t bad = -1;
        py::array values = new_bins(bins, [&](void* to) {
          if (kind == BINS_COUNTS) bad = bin_events<Count>(events, bins, static_cast<Count::Value*>(to), threads);
          else if (kind == BINS_VOXEL) bad = bin_events<Voxel>(events, bins, static_cast<Voxel::Value*>(to), threads);
          else bad = bin_events<Latest>(events, bins, static_cast<Latest::Value*>(to), threads);
        });
        return py::make_tuple(values, bad);
      },
      "Return the bins (T, 2, rows, columns), flat, and the first event outside the sensor, or -1.",
      py::arg("t_us"), py::arg("x"), py::arg("y"), py::arg("p"), py::arg("count"), py::arg("height"),
      py::arg("width"), py::arg("kind"), py::arg("edges_us"), py::arg("num_edges"), py::arg("rows"), py::arg("columns"),
      py::arg("threads"));
}
