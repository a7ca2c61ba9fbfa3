// The full camera model on a GPU: one thread per pixel walks through all frames with its state in registers. The
// arithmetic of a pixel is in common/camera.h; this file only loops, as cpu/camera.cpp does.
//
// Launch with ceil(HW / 256) blocks of 256 threads. A list takes camera_count, an inclusive sum over its counts
// (F, warps) with warps = ceil(HW / 32), camera_write and sort_events of sort.cu; records are in raster order per frame,
// since a warp knows the numbers of all its pixels before it writes. Bins take one kernel and wait for nothing.
// A null pointer stands for what a camera doesn't have.
#include "bins.cuh"
#include "camera.h"
#include "warp.cuh"

using namespace neuroav;

namespace {

// Arrays (H, W) of what pixels remember.
struct States {
  int32_t *reference, *last, *stage, *voltage;
  int64_t *next_us, *fired_us;
};

struct Camera {
  const uint8_t* greys;     // (F, H, W)
  const int32_t* levels;    // (F, H, W), or null: brightness by grey level
  const int64_t* edges_us;  // (F + 1)
  const int32_t* shares;    // (F, 256)
  const int32_t* steps;     // (F, 2)
  Sensor sensor;
  States before;
  int64_t num_frames, num_pixels, width, top, left;
  uint32_t first_frame;
};

struct Counter {
  uint32_t count;
  __device__ void operator()(uint32_t, bool, bool) { ++count; }
};

// One pixel on its way through the clip.
struct Pixel {
  const Camera& camera;
  int64_t number;
  bool exists;
  uint32_t place;
  PixelState state;
  int32_t last, stage, voltage;
  Words leak_words, voltage_words;  // of four frames
  // What it sees in the current frame.
  Interval interval;
  int32_t leak;
  uint32_t frame;
  int32_t grey;
  bool may_fire;

  __device__ explicit Pixel(const Camera& camera)
      : camera(camera), number(static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x),
        exists(number < camera.num_pixels), may_fire(false) {
    if (!exists) return;
    const uint32_t y = static_cast<uint32_t>(number / camera.width), x = static_cast<uint32_t>(number % camera.width);
    place = pack_place(y + static_cast<uint32_t>(camera.top), x + static_cast<uint32_t>(camera.left));
    const States& before = camera.before;
    state.reference = before.reference[number];
    state.next_us = before.next_us ? before.next_us[number] : kNever;
    state.fired_us = before.fired_us ? before.fired_us[number] : -kNever;
    last = before.last[number];
    stage = before.stage ? before.stage[number] : 0;
    voltage = before.voltage ? before.voltage[number] : 0;
  }

  __device__ void store(const States& after) const {
    if (!exists) return;
    after.reference[number] = state.reference;
    after.last[number] = last;
    if (after.stage) after.stage[number] = stage;
    if (after.voltage) after.voltage[number] = voltage;
    if (after.next_us) after.next_us[number] = state.next_us;
    if (after.fired_us) after.fired_us[number] = state.fired_us;
  }

  // Everything up to the question whether it may fire.
  __device__ void see(int64_t index) {
    if (!exists) return;
    const Sensor& sensor = camera.sensor;
    const int64_t at = index * camera.num_pixels + number;
    frame = camera.first_frame + static_cast<uint32_t>(index);
    grey = camera.greys ? camera.greys[at] : 0;
    interval.start_us = camera.edges_us[index];
    const int64_t stop_us = camera.edges_us[index + 1];
    interval.dt_us = static_cast<uint32_t>(stop_us - interval.start_us);
    int32_t target = camera.levels ? camera.levels[at] : sensor.table[grey];
    if (camera.shares) {
      const int32_t share = camera.shares[256 * index + grey];
      if (camera.before.stage) target = stage = low_passed(stage, target, share);
      target = low_passed(last, target, share);
    }
    const int32_t rise = target - last;
    interval.a0 = last;
    interval.a1 = last = target;
    add_noise(index);
    interval.noise_on = (camera.steps || sensor.leak) && rise <= 0;
    interval.noise_off = camera.steps && rise >= 0;
    const int32_t change0 = interval.a0 - state.reference, change1 = interval.a1 - state.reference;
    const int32_t on = sensor.on[number], off = sensor.off[number];
    may_fire = (change0 > change1 ? change0 : change1) >= on || (change0 < change1 ? change0 : change1) <= -off ||
               state.next_us <= stop_us ||
               (sensor.rule == kBlind && state.fired_us > interval.start_us - sensor.refractory_us);
    may_fire = may_fire && on != kDead;
  }

  // Walks through the interval event by event, from `from` on, which it moves.
  template <class Emit>
  __device__ void walk(PixelState& from, Emit& emit) const {
    const Sensor& sensor = camera.sensor;
    Walk<Emit> walk(sensor, interval, sensor.on[number], sensor.off[number], from, emit);
    if (!sensor.period) return walk.run();
    Words words{};
    if (from.next_us - interval.start_us <= interval.dt_us) {
      words = philox({place, frame, kDrawShot, 0}, sensor.seed_low, sensor.seed_high);
    }
    walk.run_with_shots(place, frame, sensor.period[number], sensor.accept[grey], words);
  }

  __device__ void end_frame() {
    if (exists) state.reference = clamped(static_cast<int64_t>(state.reference) - leak, kMostReference);
  }

 private:
  __device__ uint32_t word_of(const Words& words) const {
    return frame & 2 ? (frame & 1 ? words.d : words.c) : (frame & 1 ? words.b : words.a);
  }

  __device__ void add_noise(int64_t index) {
    const Sensor& sensor = camera.sensor;
    const bool jitter = sensor.leak && sensor.leak_jitter > 0;
    if (index == 0 || frame % 4 == 0) {
      if (jitter) leak_words = four_frames(place, frame, kDrawLeak, sensor.seed_low, sensor.seed_high);
      if (camera.steps) voltage_words = four_frames(place, frame, kDrawVoltage, sensor.seed_low, sensor.seed_high);
    }
    if (camera.steps) {
      interval.a0 += voltage;
      voltage = next_voltage(voltage, camera.steps[2 * index], camera.steps[2 * index + 1],
                             gaussian(sensor.normal, word_of(voltage_words)));
      interval.a1 += voltage;
    }
    leak = 0;
    if (sensor.leak) {
      leak = leak_of(sensor.leak[number], interval.dt_us, sensor.leak_jitter,
                     jitter ? gaussian(sensor.normal, word_of(leak_words)) : 0, frame);
      interval.a1 += leak;
    }
  }
};

__device__ int64_t slot(const Camera& camera, int64_t index, const Pixel& pixel) {
  return index * ((camera.num_pixels + kLanes - 1) / kLanes) + pixel.number / kLanes;
}

struct Writer {
  uint64_t* out;
  uint32_t place;
  __device__ void operator()(uint32_t offset_us, bool is_on, bool is_noise) {
    *out++ = pack_event(offset_us, place | (is_noise ? kNoise : 0), is_on);
  }
};

template <int kKind, class Value>
struct Adder {
  const BinLayout& bins;
  Value* values;
  int64_t start_us;
  uint32_t cell;
  __device__ void operator()(uint32_t offset_us, bool is_on, bool) {
    add_event<kKind>(bins, values, start_us + offset_us, is_on, cell);
  }
};

template <int kKind, class Value>
__device__ void camera_bins(const Camera& camera, const States& after, const BinLayout& bins, Value* values) {
  Cells cells;
  cells.set(bins);
  Pixel pixel(camera);
  const uint32_t cell = pixel.exists ? cells.of_pixel(static_cast<uint32_t>(pixel.number)) : 0;
  for (int64_t index = 0; index < camera.num_frames; ++index) {
    pixel.see(index);
    Adder<kKind, Value> add{bins, values, pixel.interval.start_us, cell};
    if (pixel.may_fire) pixel.walk(pixel.state, add);
    pixel.end_frame();
  }
  pixel.store(after);
}

}  // namespace

// The order in which neuroav/kernels/cuda.py gives clip, sensor, state, sizes and numbers.
#define NEUROAV_CAMERA                                                                                                 \
  const uint8_t *greys, const int32_t *levels, const int64_t *edges_us, const int32_t *shares, const int32_t *steps,   \
      const int32_t *table, const int32_t *on, const int32_t *off, const int32_t *leak, const int64_t *period,         \
      const int32_t *accept, const int32_t *normal, const int32_t *exponential, int32_t *reference, int32_t *last,     \
      int32_t *stage, int32_t *voltage, int64_t *next_us, int64_t *fired_us, int64_t num_frames, int64_t height,       \
      int64_t width, int64_t nominal_on, int64_t nominal_off, int64_t rule, int64_t refractory_us,                     \
      int64_t leak_jitter, int64_t seed, int64_t first_frame, int64_t top, int64_t left
#define NEUROAV_STATES                                                                                                 \
  int32_t *new_reference, int32_t *new_last, int32_t *new_stage, int32_t *new_voltage, int64_t *new_next_us,           \
      int64_t *new_fired_us
#define NEUROAV_MAKE_CAMERA                                                                                            \
  const Sensor sensor{table, on, off, leak, period, accept, normal, exponential, static_cast<int32_t>(nominal_on),     \
                      static_cast<int32_t>(nominal_off), static_cast<int32_t>(rule), refractory_us,                    \
                      static_cast<int32_t>(leak_jitter), static_cast<uint32_t>(seed),                                  \
                      static_cast<uint32_t>(seed >> 32)};                                                              \
  const Camera camera{greys, levels, edges_us, shares, steps, sensor,                                                  \
                      {reference, last, stage, voltage, next_us, fired_us}, num_frames, height * width, width, top,    \
                      left, static_cast<uint32_t>(first_frame)};
#define NEUROAV_MAKE_STATES \
  const States after{new_reference, new_last, new_stage, new_voltage, new_next_us, new_fired_us};

// -> counts (F, warps) and the state after the clip.
extern "C" __global__ void __launch_bounds__(256) camera_count(NEUROAV_CAMERA, NEUROAV_STATES, uint32_t* counts) {
  NEUROAV_MAKE_CAMERA
  NEUROAV_MAKE_STATES
  Pixel pixel(camera);
  for (int64_t index = 0; index < camera.num_frames; ++index) {
    pixel.see(index);
    Counter counter{0};
    if (pixel.may_fire) pixel.walk(pixel.state, counter);
    pixel.end_frame();
    const uint32_t sum = warp_sum(counter.count);
    if (pixel.exists && threadIdx.x % kLanes == 0) counts[slot(camera, index, pixel)] = sum;
  }
  pixel.store(after);
}

// ends (F, warps) = inclusive sum of counts -> records (E).
extern "C" __global__ void __launch_bounds__(256) camera_write(NEUROAV_CAMERA, const int64_t* ends, uint64_t* records) {
  NEUROAV_MAKE_CAMERA
  Pixel pixel(camera);
  for (int64_t index = 0; index < camera.num_frames; ++index) {
    pixel.see(index);
    Counter counter{0};
    if (pixel.may_fire) {
      PixelState trial = pixel.state;
      pixel.walk(trial, counter);
    }
    uint32_t total;
    const uint32_t before = sum_before(counter.count, threadIdx.x % kLanes, total);
    if (pixel.may_fire) {
      const int64_t at = slot(camera, index, pixel);
      Writer writer{records + (at > 0 ? ends[at - 1] : 0) + before, pixel.place};
      pixel.walk(pixel.state, writer);
    }
    pixel.end_frame();
  }
}

// bin_edges_us (num_edges) -> values (T, P, rows, columns), which come in empty, and the state after the clip.
#define NEUROAV_CAMERA_BINS(NAME, KIND, VALUE)                                                                         \
  extern "C" __global__ void __launch_bounds__(256) camera_bins_##NAME(                                                \
      NEUROAV_CAMERA, NEUROAV_STATES, const int64_t* bin_edges_us, int64_t num_edges, int64_t rows, int64_t columns,   \
      VALUE* values) {                                                                                                 \
    NEUROAV_MAKE_CAMERA                                                                                                \
    NEUROAV_MAKE_STATES                                                                                                \
    camera_bins<KIND>(camera, after, BinLayout{KIND, bin_edges_us, num_edges, height, width, rows, columns}, values);  \
  }

NEUROAV_CAMERA_BINS(counts, BINS_COUNTS, unsigned)
NEUROAV_CAMERA_BINS(voxels, BINS_VOXEL, unsigned long long)
NEUROAV_CAMERA_BINS(latest, BINS_LATEST, unsigned long long)
