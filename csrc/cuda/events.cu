// Grey frames to events on a GPU: index_greys, count_events, a sum over the counts (by the caller), write_events, and
// sort_events of sort.cu. How firing pixels are found is in detect.cuh, the arithmetic in common/contrast.h.
//
// Launch index_greys with one block of 256 threads, the others with ceil(B * tiles / 8) blocks of 256, where
// tiles = ceil(HW / 512). `count_events` fills counts (B, F, tiles); the inclusive sum `ends` of the counts in that
// order gives each tile its place in each frame, so `write_events` puts records in raster order per frame without
// atomics. Exact: the same events as the reference.
#include "detect.cuh"

using namespace neuroav;

namespace {

__device__ int64_t slot(const TileWalk& walk, int64_t frame) {
  const int64_t tiles = tiles_of(walk.clips.num_pixels);
  return (walk.clip * walk.clips.num_frames + frame) * tiles + walk.number;
}

struct CountSink {
  uint32_t* counts;
  uint32_t sum;

  __device__ void begin(const TileWalk&, int64_t) { sum = 0; }
  __device__ void fire(const TileWalk&, int64_t, const Firing& firing, bool active) {
    if (active) sum += firing.count();
  }
  __device__ void end(const TileWalk& walk, int64_t frame) {
    sum = warp_sum(sum);
    if (walk.lane == 0) counts[slot(walk, frame)] = sum;
  }
};

struct WriteSink {
  const int64_t* ends;
  uint64_t* records;
  Divisor width;
  uint64_t* out;  // where the tile's next record goes
  uint32_t dt_us;

  __device__ void begin(const TileWalk& walk, int64_t frame) {
    const int64_t at = slot(walk, frame);
    out = records + (at > 0 ? ends[at - 1] : 0);
    dt_us = static_cast<uint32_t>(walk.edge_us(frame + 1) - walk.edge_us(frame));
  }
  __device__ void fire(const TileWalk& walk, int64_t frame, const Firing& firing, bool active) {
    const int32_t step = reference_step(firing.crossings, walk.clips.c_on, walk.clips.c_off);
    uint32_t total;
    const uint32_t at = sum_before(active ? firing.count() : 0, walk.lane, total);
    if (active) {
      const uint32_t pixel = static_cast<uint32_t>(firing.pixel), y = width.divide(pixel);
      const uint32_t place = pack_place(y, pixel - y * static_cast<uint32_t>(walk.clips.width));
      const int32_t before = walk.before(frame, firing.pixel);
      int32_t level = firing.level;
      for (uint32_t nth = 0; nth < firing.count(); ++nth) {
        level += step;
        out[at + nth] =
            pack_event(crossing_offset_us(level, before, firing.after, dt_us), place, firing.crossings > 0);
      }
    }
    out += total;
  }
  __device__ void end(const TileWalk&, int64_t) {}
};

}  // namespace

// table (256) -> grey_index (4096): for each cell of brightness the first grey level that reaches it, at most 255.
extern "C" __global__ void index_greys(const int32_t* table, uint8_t* grey_index) {
  const int32_t shift = Brightness::shift_of(table);
  for (int cell = threadIdx.x; cell < kCells; cell += blockDim.x) {
    const int64_t start = table[0] + (static_cast<int64_t>(cell) << shift);
    int grey = 0;
    for (int step = 128; step > 0; step /= 2) {
      if (table[grey + step - 1] < start) grey += step;
    }
    grey_index[cell] = static_cast<uint8_t>(grey);
  }
}

// frames (B, F, HW), table, grey_index, reference and last (B, HW)
// -> counts (B, F, tiles), final_reference and final_last (B, HW).
extern "C" __global__ void __launch_bounds__(256)
    count_events(const uint8_t* frames, const int32_t* table, const uint8_t* grey_index, const int32_t* reference,
                 const int32_t* last, int64_t num_clips, int64_t num_frames, int64_t num_pixels, int64_t c_on,
                 int64_t c_off, uint32_t* counts, int32_t* final_reference, int32_t* final_last) {
  const Clips clips{frames, nullptr, table, grey_index, reference, last, num_clips, num_frames, num_pixels, 1,
                    static_cast<int32_t>(c_on), static_cast<int32_t>(c_off)};
  CountSink sink{counts, 0};
  walk_tile(clips, sink, final_reference, final_last);
}

// Same inputs, edges_us (B, F + 1), ends (B, F, tiles) = inclusive sum of counts -> records (E).
extern "C" __global__ void __launch_bounds__(256)
    write_events(const uint8_t* frames, const int64_t* edges_us, const int32_t* table, const uint8_t* grey_index,
                 const int32_t* reference, const int32_t* last, int64_t num_clips, int64_t num_frames,
                 int64_t num_pixels, int64_t width, int64_t c_on, int64_t c_off, const int64_t* ends,
                 uint64_t* records) {
  const Clips clips{frames, edges_us, table, grey_index, reference, last, num_clips, num_frames, num_pixels, width,
                    static_cast<int32_t>(c_on), static_cast<int32_t>(c_off)};
  WriteSink sink{ends, records, {}, records, 0};
  sink.width.set(static_cast<uint32_t>(width));
  walk_tile(clips, sink, nullptr, nullptr);
}
