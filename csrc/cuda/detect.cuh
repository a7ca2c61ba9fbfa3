// How a GPU finds the pixels that fire: the part that counting, writing and binning events share.
//
// A warp owns 512 consecutive pixels of one clip and walks through all frames; nothing else touches its pixels, so no
// order of blocks matters. Each pixel keeps the range of grey levels [lo, hi] in which it stays silent. Per frame a
// lane compares its 16 pixels, four bytes at a time, with their ranges; the few pixels outside are listed in raster
// order in shared memory and then handled 32 at a time, so that rare events don't leave lanes idle.
// The arithmetic of a pixel is in common/contrast.h. All places are 64 bits wide: (clip, frame, pixel) may exceed 2^31.
#pragma once

#include "contrast.h"
#include "divide.cuh"
#include "warp.cuh"

namespace neuroav {

constexpr int kWarps = 8, kPerLane = 16, kTile = kLanes * kPerLane;  // launch with 256 threads
constexpr int kCells = 4096;                                        // of the index of grey levels

// A batch of clips of equal size, contiguous: frames (B, F, HW), edges_us (B, F + 1), reference and last (B, HW).
struct Clips {
  const uint8_t* frames;
  const int64_t* edges_us;
  const int32_t* table;       // (256), never decreasing
  const uint8_t* grey_index;  // (kCells) of index_greys
  const int32_t* reference;
  const int32_t* last;
  int64_t num_clips, num_frames, num_pixels, width;
  int32_t c_on, c_off;
};

__device__ inline int64_t tiles_of(int64_t num_pixels) { return (num_pixels + kTile - 1) / kTile; }

// The table of brightness in shared memory, its inverse, and the thresholds.
struct Brightness {
  int32_t table[257];  // one more, which no value reaches
  uint8_t index[kCells];
  int32_t shift;
  Divisor thresholds[2];  // OFF, ON

  // Cells of 2^shift units cover the table; cell c holds the first grey level (at most 255) that reaches its start.
  __device__ static int32_t shift_of(const int32_t* table) {
    int32_t shift = 0;
    while ((table[255] - table[0]) >> shift >= kCells) ++shift;
    return shift;
  }

  __device__ void load(const Clips& clips) {  // by all threads of a block, which must wait afterwards
    for (int i = threadIdx.x; i < 256; i += blockDim.x) table[i] = clips.table[i];
    for (int i = threadIdx.x; i < kCells; i += blockDim.x) index[i] = clips.grey_index[i];
    if (threadIdx.x == 0) {
      table[256] = 0x7fffffff;
      shift = shift_of(clips.table);
      thresholds[0].set(clips.c_off);
      thresholds[1].set(clips.c_on);
    }
  }

  // signed_crossings of common/contrast.h
  __device__ int32_t crossings(int32_t brightness, int32_t reference) const {
    const int32_t change = brightness - reference;
    const int32_t count = static_cast<int32_t>(thresholds[change >= 0].divide(change >= 0 ? change : -change));
    return change >= 0 ? count : -count;
  }

  // Smallest grey with table[grey] >= value, or 256.
  __device__ int32_t first_reaching(int32_t value) const {
    const int32_t above = value > table[0] ? (value - table[0]) >> shift : 0;
    int32_t grey = index[above < kCells ? above : kCells - 1];
    while (table[grey] < value) ++grey;
    return grey;
  }
};

// The state of a warp's pixels, in shared memory.
struct Tile {
  int32_t level[kTile];
  uint32_t lo[kTile / 4], hi[kTile / 4];  // four grey levels in a word
  uint16_t active[kTile];                 // the pixels that fire in this frame, in raster order

  __device__ void set(int i, int32_t reference, int32_t lowest, int32_t highest) {
    level[i] = reference;
    reinterpret_cast<uint8_t*>(lo)[i] = static_cast<uint8_t>(lowest);
    reinterpret_cast<uint8_t*>(hi)[i] = static_cast<uint8_t>(highest);
  }
};

// A pixel that fires: the crossings of one frame. `level` is the reference before them.
struct Firing {
  int64_t pixel;  // in its clip
  int32_t level, crossings, after;
  __device__ uint32_t count() const { return static_cast<uint32_t>(crossings > 0 ? crossings : -crossings); }
};

struct Greys {
  uint32_t word[kPerLane / 4];
};

// The greys of `count` pixels (at most 16) from `at`, the rest 0; `whole` is the width of load that `at` allows.
__device__ inline Greys load_greys(const uint8_t* at, int count, int whole) {
  Greys greys = {};
  if (count == kPerLane && whole == 16) {
    const uint4 four = *reinterpret_cast<const uint4*>(at);
    greys.word[0] = four.x, greys.word[1] = four.y, greys.word[2] = four.z, greys.word[3] = four.w;
  } else if (count == kPerLane && whole == 4) {
    for (int i = 0; i < 4; ++i) greys.word[i] = reinterpret_cast<const uint32_t*>(at)[i];
  } else {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (i < count) greys.word[i / 4] |= static_cast<uint32_t>(at[i]) << (i % 4 * 8);
    }
  }
  return greys;
}

// The highest bit of each byte says whether a < b there: of the two's own highest bits, or of the difference below.
__device__ inline uint32_t bytes_below(uint32_t a, uint32_t b) {
  const uint32_t difference = (a | 0x80808080u) - (b & 0x7f7f7f7fu);
  return ((~a & b) | (~(a ^ b) & ~difference)) & 0x80808080u;
}

// Bit i says whether pixel i of the lane's 16 lies outside its silent range.
__device__ inline uint32_t outside(const Greys& greys, const uint32_t* lo, const uint32_t* hi) {
  uint32_t mask = 0;
#pragma unroll
  for (int i = 0; i < kPerLane / 4; ++i) {
    const uint32_t flags = bytes_below(greys.word[i], lo[i]) | bytes_below(hi[i], greys.word[i]);
    mask |= (((flags >> 7) * 0x01020408u) >> 24) << (4 * i);  // bits 0, 8, 16, 24 to 0, 1, 2, 3
  }
  return mask;
}

// One warp on its way through a clip. A Sink is told of every frame and of all that fires:
//   begin(walk, frame), fire(walk, frame, firing, active), end(walk, frame): by all 32 lanes; `firing` if `active`.
struct TileWalk {
  const Clips& clips;
  const Brightness& brightness;
  Tile& tile;
  int lane, size, whole;  // `size` pixels, read `whole` bytes at a time
  int64_t clip, number;   // this is tile `number` of the clip
  int64_t begin;          // its first pixel
  const uint8_t* greys;   // of the frame that it has come to, from that pixel on

  __device__ TileWalk(const Clips& clips, const Brightness& brightness, Tile& tile, int64_t global_tile)
      : clips(clips), brightness(brightness), tile(tile), lane(threadIdx.x % kLanes) {
    const int64_t per_clip = tiles_of(clips.num_pixels);
    clip = global_tile / per_clip;
    number = global_tile % per_clip;
    begin = number * kTile;
    size = static_cast<int>(clips.num_pixels - begin < kTile ? clips.num_pixels - begin : kTile);
    const uint64_t alignment = reinterpret_cast<uint64_t>(clips.frames) | static_cast<uint64_t>(clips.num_pixels);
    whole = alignment % 16 == 0 ? 16 : alignment % 4 == 0 ? 4 : 1;
    greys = clips.frames + clip * clips.num_frames * clips.num_pixels + begin;
  }

  __device__ int64_t edge_us(int64_t edge) const { return clips.edges_us[clip * (clips.num_frames + 1) + edge]; }
  __device__ int64_t place(int64_t pixel) const { return clip * clips.num_pixels + pixel; }

  // Brightness at the start of a frame's interval.
  __device__ int32_t before(int64_t frame, int64_t pixel) const {
    return frame > 0 ? brightness.table[*(greys + (pixel - begin) - clips.num_pixels)] : clips.last[place(pixel)];
  }

  template <class Sink>
  __device__ void run(Sink& sink) {
    for (int i = lane; i < kTile; i += kLanes) {
      if (i < size) {
        set(i, clips.reference[place(begin + i)]);
      } else {
        tile.set(i, 0, 0, 255);  // never fires
      }
    }
    __syncwarp();
    const int mine = size - lane * kPerLane, count = mine < 0 ? 0 : mine < kPerLane ? mine : kPerLane;
    Greys next = load_greys(greys + lane * kPerLane, clips.num_frames > 0 ? count : 0, whole);
    for (int64_t frame = 0; frame < clips.num_frames; ++frame, greys += clips.num_pixels) {
      const Greys now = next;  // and the next one is on its way while this frame is handled
      if (frame + 1 < clips.num_frames) next = load_greys(greys + clips.num_pixels + lane * kPerLane, count, whole);
      const uint32_t mask = outside(now, tile.lo + lane * kPerLane / 4, tile.hi + lane * kPerLane / 4);
      sink.begin(*this, frame);
      if (__any_sync(kAll, mask != 0)) fire(sink, frame, mask);
      sink.end(*this, frame);
    }
  }

  // The state after the last frame; other arrays than the state before.
  __device__ void store(int32_t* reference, int32_t* last) const {
    for (int i = lane; i < size; i += kLanes) {
      reference[place(begin + i)] = tile.level[i];
      last[place(begin + i)] = before(clips.num_frames, begin + i);
    }
  }

 private:
  __device__ void set(int i, int32_t level) {
    tile.set(i, level, brightness.first_reaching(level - clips.c_off + 1),
             brightness.first_reaching(level + clips.c_on) - 1);
  }

  template <class Sink>
  __device__ void fire(Sink& sink, int64_t frame, uint32_t mask) {
    uint32_t total;
    uint32_t at = sum_before(__popc(mask), lane, total);
    for (; mask; mask &= mask - 1) tile.active[at++] = static_cast<uint16_t>(lane * kPerLane + __ffs(mask) - 1);
    __syncwarp();
    for (uint32_t start = 0; start < total; start += kLanes) {
      const bool active = start + lane < total;
      Firing firing = {};
      if (active) {
        const int i = tile.active[start + lane];
        firing.pixel = begin + i;
        firing.level = tile.level[i];
        firing.after = brightness.table[greys[i]];
        firing.crossings = brightness.crossings(firing.after, firing.level);
        set(i, firing.level + static_cast<int32_t>(firing.count()) *
                                  reference_step(firing.crossings, clips.c_on, clips.c_off));
      }
      sink.fire(*this, frame, firing, active);
    }
    __syncwarp();
  }
};

// Runs this warp's tile, if there is one. Every thread of the block must call it.
template <class Sink>
__device__ void walk_tile(const Clips& clips, Sink& sink, int32_t* final_reference, int32_t* final_last) {
  __shared__ Brightness brightness;
  __shared__ __align__(16) Tile tiles[kWarps];
  brightness.load(clips);
  __syncthreads();
  const int warp = threadIdx.x / kLanes;
  const int64_t tile = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  if (tile >= clips.num_clips * tiles_of(clips.num_pixels)) return;
  TileWalk walk(clips, brightness, tiles[warp], tile);
  walk.run(sink);
  if (final_reference) walk.store(final_reference, final_last);
}

}  // namespace neuroav
