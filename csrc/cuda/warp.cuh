// Sums over the lanes of a warp; all 32 must call them.
#pragma once

#include "contrast.h"

namespace neuroav {

constexpr int kLanes = 32;
constexpr uint32_t kAll = 0xffffffffu;

// The sum over the lanes before this one, and over all lanes in `total`.
__device__ inline uint32_t sum_before(uint32_t value, int lane, uint32_t& total) {
  uint32_t sum = value;
#pragma unroll
  for (int step = 1; step < kLanes; step *= 2) {
    const uint32_t other = __shfl_up_sync(kAll, sum, step);
    if (lane >= step) sum += other;
  }
  total = __shfl_sync(kAll, sum, kLanes - 1);
  return sum - value;
}

// The sum of `value` over the lanes of a warp.
__device__ inline uint32_t warp_sum(uint32_t value) {
  for (int step = kLanes / 2; step > 0; step /= 2) value += __shfl_xor_sync(kAll, value, step);
  return value;
}

}  // namespace neuroav
