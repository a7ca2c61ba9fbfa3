// Division by a number that a whole launch shares.
#pragma once

#include "contrast.h"

namespace neuroav {

// Exact for 0 <= n < 2^31 and 1 <= d < 2^31.
// With 2^(b-1) < d <= 2^b and m = floor(2^(31+b) / d) + 1, m d exceeds 2^(31+b) by at most 2^b, so n m / 2^(31+b)
// exceeds n / d by less than 1 / d, which never reaches the next whole number; and n m < 2^63.
struct Divisor {
  uint64_t factor;
  int32_t bits;

  __device__ void set(uint32_t d) {
    bits = 31;
    while ((uint64_t{1} << (bits - 31)) < d) ++bits;
    factor = (uint64_t{1} << bits) / d + 1;
  }
  __device__ uint32_t divide(uint32_t n) const { return static_cast<uint32_t>(n * factor >> bits); }
};

}  // namespace neuroav
