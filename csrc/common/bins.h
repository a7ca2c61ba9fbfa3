// How events become bins (T, P, rows, columns): the arithmetic, written once for CPU and GPU. All of it is integers, so
// the order in which events are added never matters. neuroav.events.types.Bins says the same in words.
//
//   COUNTS  edges (T + 1), never decreasing: bin k counts the events with edges[k] < t <= edges[k + 1].
//   VOXEL   nodes (T), T >= 2, increasing and less than 2^46 apart: an event between two nodes gives its weight of
//           2^16 to both, to the later one floor((t - left) * 2^16 / (right - left)); outside the nodes nothing.
//   LATEST  edges as for COUNTS: the largest t of the bin, INT64_MIN where there is none.
#pragma once

#include "contrast.h"

namespace neuroav {

constexpr int32_t BINS_COUNTS = 0, BINS_VOXEL = 1, BINS_LATEST = 2;
constexpr int64_t BINS_NEVER = -9223372036854775807ll - 1;  // LATEST of a cell without an event
constexpr int32_t BINS_WEIGHT_BITS = 16;

struct BinLayout {
  int32_t kind;
  const int64_t* edges_us;  // (T + 1), or (T) nodes
  int64_t num_edges;        // T + 1, or T
  int64_t height, width;    // of the sensor
  int64_t rows, columns;    // of the grid
};

NEUROAV_HD int64_t bin_steps(const BinLayout& bins) { return bins.num_edges - (bins.kind != BINS_VOXEL); }

// The cell of a pixel is row_start(y) + column_of(x), in [0, rows * columns).
NEUROAV_HD int64_t cell_row_start(const BinLayout& bins, int64_t y) {
  return y * bins.rows / bins.height * bins.columns;
}
NEUROAV_HD int64_t cell_column(const BinLayout& bins, int64_t x) { return x * bins.columns / bins.width; }

// Place of a value in (T, P, rows, columns).
NEUROAV_HD int64_t bin_place(const BinLayout& bins, int64_t step, int32_t p, int64_t cell) {
  return (step * 2 + p) * bins.rows * bins.columns + cell;
}

// Number of edges below t.
NEUROAV_HD int64_t edges_below(const int64_t* edges_us, int64_t num_edges, int64_t t_us) {
  int64_t low = 0, high = num_edges;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (edges_us[middle] < t_us) low = middle + 1;
    else high = middle;
  }
  return low;
}

// COUNTS and LATEST: the bin k with edges[k] < t <= edges[k + 1], or -1.
NEUROAV_HD int64_t bin_of(const BinLayout& bins, int64_t t_us) {
  const int64_t below = edges_below(bins.edges_us, bins.num_edges, t_us);
  return below < bins.num_edges ? below - 1 : -1;
}

// VOXEL: the largest node b < T - 1 with node[b] <= t <= node[b + 1], or -1.
NEUROAV_HD int64_t left_node(const BinLayout& bins, int64_t t_us) {
  const int64_t below = edges_below(bins.edges_us, bins.num_edges, t_us);
  if (below == bins.num_edges) return -1;
  if (bins.edges_us[below] > t_us) return below - 1;      // strictly between two nodes, or before all
  return below < bins.num_edges - 1 ? below : below - 1;  // on a node
}

// VOXEL: what an event gives to node b + 1; node b gets the rest of 2^16.
NEUROAV_HD int64_t right_weight(const BinLayout& bins, int64_t b, int64_t t_us) {
  return ((t_us - bins.edges_us[b]) << BINS_WEIGHT_BITS) / (bins.edges_us[b + 1] - bins.edges_us[b]);
}

}  // namespace neuroav
