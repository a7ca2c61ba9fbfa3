// Grey frames to events on a GPU: count, scan (by the caller), write. The arithmetic is in common/contrast.h.
//
// One thread owns one pixel and walks through all frames with its state in registers; neighbouring threads read
// neighbouring pixels. `count_events` fills counts (F, H * W); the exclusive sum of counts in that order gives each
// (frame, pixel) its place, so `write_events` puts records in raster order per frame without atomics, and a stable sort
// by the record's upper half within each frame gives the documented order. Exact: same events as the reference.
#include "contrast.h"

using namespace neuroav;

// frames (F, HW) uint8; table (256) int32; reference, last (HW) int32 -> counts (F, HW), final_reference (HW).
extern "C" __global__ void count_events(const uint8_t* __restrict__ frames, const int32_t* __restrict__ table,
                                        int64_t num_frames, int64_t num_pixels, int32_t c_on, int32_t c_off,
                                        const int32_t* __restrict__ reference, uint32_t* __restrict__ counts,
                                        int32_t* __restrict__ final_reference) {
  const int64_t pixel = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pixel >= num_pixels) return;
  int32_t level = reference[pixel];
  for (int64_t frame = 0; frame < num_frames; ++frame) {
    const int32_t brightness = table[frames[frame * num_pixels + pixel]];
    const int32_t crossings = signed_crossings(brightness, level, c_on, c_off);
    level += crossings * (crossings > 0 ? c_on : c_off);
    counts[frame * num_pixels + pixel] = static_cast<uint32_t>(crossings > 0 ? crossings : -crossings);
  }
  final_reference[pixel] = level;
}

// Same inputs, edges_us (F + 1), starts (F, HW) = exclusive sum of counts -> records (E).
extern "C" __global__ void write_events(const uint8_t* __restrict__ frames, const int64_t* __restrict__ edges_us,
                                        const int32_t* __restrict__ table, int64_t num_frames, int64_t num_pixels,
                                        int64_t width, int32_t c_on, int32_t c_off,
                                        const int32_t* __restrict__ reference, const int32_t* __restrict__ last,
                                        const int64_t* __restrict__ starts, uint64_t* __restrict__ records) {
  const int64_t pixel = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pixel >= num_pixels) return;
  const uint32_t place = pack_place(static_cast<uint32_t>(pixel / width), static_cast<uint32_t>(pixel % width));
  int32_t level = reference[pixel];
  int32_t before = last[pixel];
  for (int64_t frame = 0; frame < num_frames; ++frame) {
    const int32_t brightness = table[frames[frame * num_pixels + pixel]];
    const uint32_t dt_us = static_cast<uint32_t>(edges_us[frame + 1] - edges_us[frame]);
    const int32_t crossings = signed_crossings(brightness, level, c_on, c_off);
    const int32_t step = reference_step(crossings, c_on, c_off);
    const int32_t count = crossings > 0 ? crossings : -crossings;
    uint64_t* out = records + starts[frame * num_pixels + pixel];
    for (int32_t nth = 0; nth < count; ++nth) {
      level += step;
      out[nth] = pack_event(crossing_offset_us(level, before, brightness, dt_us), place, crossings > 0);
    }
    before = brightness;
  }
}
