// Grey frames straight to bins on a GPU, and event lists to bins. What a bin holds is in common/bins.h, how firing
// pixels are found in detect.cuh. Everything is added with integer atomics, so the order never matters.
//
// Launch locate_frames with ceil(B * F / 256) blocks of 256 threads, bin_frames_* with ceil(B * tiles / 8) blocks of
// 256, where tiles = ceil(HW / 512), bin_list_* with any number. Values (B, T, P, rows, columns) come in as 0 (counts,
// voxels) or INT64_MIN (latest). Nothing waits for the host, so all of it can be part of a CUDA graph.
#include "bins.cuh"
#include "detect.cuh"

using namespace neuroav;

namespace {

constexpr int64_t kOutside = -1, kSeveral = -2;  // a frame without a bin, or with more than one

// Adds the numbers of all active lanes, those for one place together: neighbours mostly share a coarse cell.
__device__ void add_counts(uint32_t* values, uint32_t place, uint32_t count, bool active) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  const uint32_t peers = __match_any_sync(kAll, active ? place : kAll);
  if (!active) return;
  count = __reduce_add_sync(peers, count);
  active = static_cast<int>(threadIdx.x % kLanes) == __ffs(peers) - 1;
#endif
  if (active) atomicAdd(values + place, count);
}

// What all threads of a block share, in shared memory to spare registers.
struct Binning {
  BinLayout bins;  // its edges are those of the first clip
  Cells cells;
};

template <int kKind, class Value>
struct BinSink {
  const Binning& shared;
  const int64_t* edges_us;  // of the clip
  const int64_t* bin_of_frame;
  Value* values;
  int64_t whole;  // the one bin of this frame, kOutside or kSeveral
  Value* bin;     // its values

  __device__ void begin(const TileWalk& walk, int64_t frame) {
    whole = bin_of_frame[frame];
    bin = values + 2 * whole * shared.cells.plane;
  }
  __device__ void fire(const TileWalk& walk, int64_t frame, const Firing& firing, bool active) {
    if (whole == kOutside) return;
    const uint32_t cell = active ? shared.cells.of_pixel(static_cast<uint32_t>(firing.pixel)) : 0;
    const int32_t p = firing.crossings > 0;
    if (kKind != BINS_COUNTS || whole == kSeveral) {
      if (active) add_events(walk, frame, firing, p, cell);
      return;
    }
    uint32_t* const counts = reinterpret_cast<uint32_t*>(bin);
    const uint32_t place = p * shared.cells.plane + cell;
    if (shared.cells.columns * 4 <= shared.cells.width) {
      add_counts(counts, place, firing.count(), active);
    } else if (active) {
      atomicAdd(counts + place, firing.count());
    }
  }
  __device__ void end(const TileWalk&, int64_t) {}

  __device__ void add_events(const TileWalk& walk, int64_t frame, const Firing& firing, int32_t p, uint32_t cell) const {
    BinLayout bins = shared.bins;
    bins.edges_us = edges_us;
    const int64_t start_us = walk.edge_us(frame);
    const uint32_t dt_us = static_cast<uint32_t>(walk.edge_us(frame + 1) - start_us), count = firing.count();
    const int32_t before = walk.before(frame, firing.pixel);
    const int32_t step = reference_step(firing.crossings, walk.clips.c_on, walk.clips.c_off);
    // The last event of a frame is its latest, so where the frame has one bin it is the only one that matters.
    for (uint32_t nth = kKind == BINS_LATEST && whole != kSeveral ? count : 1; nth <= count; ++nth) {
      const int32_t level = firing.level + static_cast<int32_t>(nth) * step;
      const int64_t t_us = start_us + crossing_offset_us(level, before, firing.after, dt_us);
      add_event<kKind>(bins, values, t_us, p, cell);
    }
  }
};

template <int kKind, class Value>
__device__ void bin_frames(const Clips& clips, const BinLayout& bins, const int64_t* bin_of_frame, Value* values,
                           int32_t* final_reference, int32_t* final_last) {
  __shared__ Binning shared;
  if (threadIdx.x == 0) {  // walk_tile waits for it
    shared.bins = bins;
    shared.cells.set(bins);
  }
  const int64_t tile = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kLanes;
  const int64_t clip = tile / tiles_of(clips.num_pixels);  // beyond the last clip, nothing is read or written
  BinSink<kKind, Value> sink{shared, bins.edges_us + clip * bins.num_edges, bin_of_frame + clip * clips.num_frames,
                             values + clip * bin_place(bins, bin_steps(bins), 0, 0), kOutside, nullptr};
  walk_tile(clips, sink, final_reference, final_last);
}

template <int kKind, class Value>
__device__ void bin_list(const int64_t* t_us, const int16_t* x, const int16_t* y, const uint8_t* p, int64_t count,
                         const BinLayout& bins, Value* values) {
  Cells cells;
  cells.set(bins);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    const uint32_t row = static_cast<uint16_t>(y[i]), column = static_cast<uint16_t>(x[i]);
    if (row < bins.height && column < bins.width && p[i] < 2) {  // the caller says which are not
      add_event<kKind>(bins, values, t_us[i], p[i], cells.of(row, column));
    }
  }
}

}  // namespace

// edges_us (B, F + 1), bin_edges_us (B, num_edges) -> bin_of_frame (B, F): the one bin (counts, latest) that all events
// of the frame's interval fall into, kOutside or kSeveral.
extern "C" __global__ void locate_frames(const int64_t* edges_us, const int64_t* bin_edges_us, int64_t num_clips,
                                         int64_t num_frames, int64_t num_edges, int64_t is_voxel,
                                         int64_t* bin_of_frame) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= num_clips * num_frames) return;
  const int64_t clip = i / num_frames;
  const int64_t* const edge = edges_us + clip * (num_frames + 1) + i % num_frames;
  const int64_t* const bins = bin_edges_us + clip * num_edges;
  const int64_t first = edges_below(bins, num_edges, edge[0] + 1), last = edges_below(bins, num_edges, edge[1]);
  if (is_voxel || first != last) {
    bin_of_frame[i] = kSeveral;
  } else {
    bin_of_frame[i] = first == 0 || first == num_edges ? kOutside : first - 1;
  }
}

// Arguments as of count_events in events.cu, with edges_us (B, F + 1); bin_edges_us (B, num_edges); bin_of_frame (B, F)
// -> values (B, T, P, rows, columns), final_reference and final_last (B, HW).
#define NEUROAV_BIN_FRAMES(NAME, KIND, VALUE)                                                                         \
  extern "C" __global__ void __launch_bounds__(256) bin_frames_##NAME(                                                \
      const uint8_t* frames, const int64_t* edges_us, const int32_t* table, const uint8_t* grey_index,                \
      const int32_t* reference, const int32_t* last, int64_t num_clips, int64_t num_frames, int64_t num_pixels,       \
      int64_t width, int64_t c_on, int64_t c_off, const int64_t* bin_edges_us, int64_t num_edges, int64_t rows,       \
      int64_t columns, const int64_t* bin_of_frame, VALUE* values, int32_t* final_reference, int32_t* final_last) {   \
    const Clips clips{frames, edges_us, table, grey_index, reference, last, num_clips, num_frames, num_pixels, width, \
                      static_cast<int32_t>(c_on), static_cast<int32_t>(c_off)};                                       \
    bin_frames<KIND>(clips, BinLayout{KIND, bin_edges_us, num_edges, num_pixels / width, width, rows, columns},       \
                     bin_of_frame, values, final_reference, final_last);                                              \
  }

// t_us, x, y, p (E), bin_edges_us (num_edges) -> values (T, P, rows, columns).
#define NEUROAV_BIN_LIST(NAME, KIND, VALUE)                                                                           \
  extern "C" __global__ void __launch_bounds__(256) bin_list_##NAME(                                                  \
      const int64_t* t_us, const int16_t* x, const int16_t* y, const uint8_t* p, int64_t count, int64_t height,       \
      int64_t width, const int64_t* bin_edges_us, int64_t num_edges, int64_t rows, int64_t columns, VALUE* values) {  \
    bin_list<KIND>(t_us, x, y, p, count, BinLayout{KIND, bin_edges_us, num_edges, height, width, rows, columns},      \
                   values);                                                                                           \
  }

NEUROAV_BIN_FRAMES(counts, BINS_COUNTS, unsigned)
NEUROAV_BIN_FRAMES(voxels, BINS_VOXEL, unsigned long long)
NEUROAV_BIN_FRAMES(latest, BINS_LATEST, unsigned long long)
NEUROAV_BIN_LIST(counts, BINS_COUNTS, unsigned)
NEUROAV_BIN_LIST(voxels, BINS_VOXEL, unsigned long long)
NEUROAV_BIN_LIST(latest, BINS_LATEST, unsigned long long)
