// The arithmetic of one event pixel, written once for CPU and GPU, in integers, so every device gives the same events.
//
// Brightness, reference and thresholds are int32 in units of 2^-16 nat (a 256-entry table maps grey levels to them).
// Between two frames brightness runs linearly from l0 (at time 0) to l1 (at time dt). The pixel holds a reference r
// with r - c_off < l0 < r + c_on. It fires ON whenever brightness reaches r + c_on and OFF whenever it reaches
// r - c_off (a tie fires), and each event moves r by exactly its threshold. Hence every level that fires lies in
// (l0, l1], and an event's time lies in (0, dt].
//
// Rounding, decided here: the time is the first whole microsecond at which the level has been reached, that is
// ceil(|level - l0| * dt / |l1 - l0|). |l1 - l0| < 2^21 and dt < 2^32, so the product fits in 53 bits.
#pragma once

#ifdef __CUDACC_RTC__
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <cstdint>
#endif

#ifdef __CUDACC__
#define NEUROAV_HD __host__ __device__ __forceinline__
#else
#define NEUROAV_HD inline
#endif

namespace neuroav {

// Number of thresholds crossed on the way from reference to brightness: positive ON, negative OFF.
NEUROAV_HD int32_t signed_crossings(int32_t brightness, int32_t reference, int32_t c_on, int32_t c_off) {
  const int32_t change = brightness - reference;
  return change >= 0 ? change / c_on : -(-change / c_off);
}

// The signed amount by which one event of this polarity moves the reference.
NEUROAV_HD int32_t reference_step(int32_t crossings, int32_t c_on, int32_t c_off) {
  return crossings > 0 ? c_on : -c_off;
}

// Microseconds after the previous frame, in [1, dt_us], at which brightness reaches `level`; l0 != l1.
NEUROAV_HD uint32_t crossing_offset_us(int32_t level, int32_t l0, int32_t l1, uint32_t dt_us) {
  const uint32_t way = static_cast<uint32_t>(level > l0 ? level - l0 : l0 - level);
  const uint32_t span = static_cast<uint32_t>(l1 > l0 ? l1 - l0 : l0 - l1);
  return static_cast<uint32_t>((static_cast<uint64_t>(way) * dt_us + span - 1) / span);
}

// One event of one interval in 64 bits: time offset (32), noise (1), row (15), column (15), polarity (1).
// Records that were written in raster order and are sorted stably by their upper half are in the documented order.
constexpr uint32_t kNoise = 0x80000000u;  // to be added to a place: not caused by the scene (never set here)
NEUROAV_HD uint64_t pack_event(uint32_t offset_us, uint32_t place, bool on) {
  return (static_cast<uint64_t>(offset_us) << 32) | place | static_cast<uint32_t>(on);
}
NEUROAV_HD uint32_t pack_place(uint32_t y, uint32_t x) { return (y << 16) | (x << 1); }
NEUROAV_HD uint32_t event_offset_us(uint64_t record) { return static_cast<uint32_t>(record >> 32); }
NEUROAV_HD int32_t event_y(uint64_t record) { return static_cast<int32_t>((record >> 16) & 0x7fff); }
NEUROAV_HD int32_t event_x(uint64_t record) { return static_cast<int32_t>((record >> 1) & 0x7fff); }
NEUROAV_HD uint8_t event_p(uint64_t record) { return static_cast<uint8_t>(record & 1); }
NEUROAV_HD uint8_t event_is_noise(uint64_t record) { return static_cast<uint8_t>((record >> 31) & 1); }

}  // namespace neuroav
