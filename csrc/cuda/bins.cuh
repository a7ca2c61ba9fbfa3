// Events to bins on a GPU, one at a time: what fused kernels and those for lists share.
#pragma once

#include "bins.h"
#include "divide.cuh"

namespace neuroav {

// The cell of a pixel, as cell_row_start and cell_column of bins.h give it; sides are below 2^15 and so products fit.
struct Cells {
  uint32_t width, rows, columns, plane;
  bool are_pixels;
  Divisor by_width, by_height;

  __device__ void set(const BinLayout& bins) {
    width = static_cast<uint32_t>(bins.width);
    rows = static_cast<uint32_t>(bins.rows);
    columns = static_cast<uint32_t>(bins.columns);
    plane = rows * columns;
    are_pixels = bins.rows == bins.height && bins.columns == bins.width;
    by_width.set(width);
    by_height.set(static_cast<uint32_t>(bins.height));
  }
  __device__ uint32_t of(uint32_t y, uint32_t x) const {
    return by_height.divide(y * rows) * columns + by_width.divide(x * columns);
  }
  __device__ uint32_t of_pixel(uint32_t pixel) const {
    if (are_pixels) return pixel;
    const uint32_t y = by_width.divide(pixel);
    return of(y, pixel - y * width);
  }
};

// Adds one event at time t to the values of one clip.
template <int kKind, class Value>
__device__ void add_event(const BinLayout& bins, Value* values, int64_t t_us, int32_t p, uint32_t cell) {
  const int64_t bin = kKind == BINS_VOXEL ? left_node(bins, t_us) : bin_of(bins, t_us);
  if (bin < 0) return;
  Value* const at = values + bin_place(bins, bin, p, cell);
  if (kKind == BINS_COUNTS) {
    atomicAdd(at, Value{1});
  } else if (kKind == BINS_LATEST) {
    atomicMax(reinterpret_cast<long long*>(at), static_cast<long long>(t_us));
  } else {
    const int64_t right = right_weight(bins, bin, t_us);
    atomicAdd(at, static_cast<Value>((int64_t{1} << BINS_WEIGHT_BITS) - right));
    if (right) atomicAdd(values + bin_place(bins, bin + 1, p, cell), static_cast<Value>(right));
  }
}

}  // namespace neuroav
