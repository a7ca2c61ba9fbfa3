// The kinds of bins on a CPU: what adding one event to a cell does. Each is a bin, ready for many events.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "bins.h"

namespace neuroav {

// Values of one step: (P, rows, columns).
inline int64_t plane_size(const BinLayout& bins) { return 2 * bins.rows * bins.columns; }

// The bins as half-open ranges of whole microseconds: bin k holds starts[k] <= t < starts[k + 1]. (VOXEL has a bin
// between every two nodes.)
inline std::vector<int64_t> bin_starts(const BinLayout& bins) {
  const bool nodes = bins.kind == BINS_VOXEL;  // closed below, and the last one above as well
  std::vector<int64_t> starts(bins.edges_us, bins.edges_us + bins.num_edges);
  for (size_t k = nodes ? starts.size() - 1 : 0; k < starts.size(); ++k) {
    if (starts[k] != std::numeric_limits<int64_t>::max()) ++starts[k];
  }
  return starts;
}

struct Count {
  using Value = int32_t;
  static constexpr Value kEmpty = 0;
  static constexpr int64_t kPlanes = 1;  // how many steps an event touches
  Count(const BinLayout& bins, int64_t bin, Value* values) : plane(values + bin * plane_size(bins)) {}
  void add(int64_t place, int64_t) const { ++plane[place]; }
  static void join(Value& into, Value value) { into += value; }
  Value* plane;
};

struct Latest {
  using Value = int64_t;
  static constexpr Value kEmpty = BINS_NEVER;
  static constexpr int64_t kPlanes = 1;
  Latest(const BinLayout& bins, int64_t bin, Value* values) : plane(values + bin * plane_size(bins)) {}
  void add(int64_t place, int64_t t_us) const { plane[place] = std::max(plane[place], t_us); }
  static void join(Value& into, Value value) { into = std::max(into, value); }
  Value* plane;
};

struct Voxel {
  using Value = int64_t;
  static constexpr Value kEmpty = 0;
  static constexpr int64_t kPlanes = 2;
  Voxel(const BinLayout& bins, int64_t bin, Value* values)
      : left(values + bin * plane_size(bins)), right(left + plane_size(bins)), start_us(bins.edges_us[bin]),
        gap_us(bins.edges_us[bin + 1] - start_us), inverse(1.0 / static_cast<double>(gap_us)) {}

  // As right_weight(), without its division: the gap is below 2^46 and the weight at most 2^16, so the estimate is off
  // by one at most, and the remainder mends it.
  void add(int64_t place, int64_t t_us) const {
    const int64_t scaled = (t_us - start_us) << BINS_WEIGHT_BITS;
    int64_t weight = static_cast<int64_t>(static_cast<double>(scaled) * inverse);
    const int64_t rest = scaled - weight * gap_us;
    weight += (rest >= gap_us) - (rest < 0);
    right[place] += weight;
    left[place] += (int64_t{1} << BINS_WEIGHT_BITS) - weight;
  }
  static void join(Value& into, Value value) { into += value; }

  Value *left, *right;
  int64_t start_us, gap_us;
  double inverse;
};

}  // namespace neuroav
