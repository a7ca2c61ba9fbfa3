// Frames to events on a CPU, for the full camera model. The arithmetic of a pixel is in common/camera.h, what becomes of
// the events in sinks.h; this file finds them.
//
// Plain loops over blocks of pixels, which the compiler vectorises, do what every pixel needs in every frame: low pass,
// noise, leak, and the question whether it may fire. Only those that may are walked event by event.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "bins.h"
#include "camera.h"
#include "memory.h"
#include "sinks.h"

namespace {

using namespace neuroav;

constexpr int64_t kBlock = 512;  // pixels whose intermediate values stay in the nearest cache

// A clip, the sensor that sees it and the state of its pixels, as addresses of contiguous arrays (null: not there).
struct CameraClip {
  const uint8_t* greys;     // (F, H, W), or null for float frames whose grey levels nothing needs
  const int32_t* levels;    // (F, H, W) brightness of float frames, or null: looked up by grey level
  const int64_t* edges_us;  // (F + 1)
  const int32_t* shares;    // (F, 256) of the low pass, or null
  const int32_t* steps;     // (F, 2) share and gain of the photoreceptor noise, or null
  Sensor sensor;
  int32_t *reference, *last, *stage, *voltage;  // (H, W), moved
  int64_t *next_us, *fired_us;                  // (H, W), moved
  int64_t num_frames, height, width, top, left;
  uint32_t first_frame;
};

// What one block of pixels sees in one interval.
struct Block {
  int32_t a0[kBlock], a1[kBlock], rise[kBlock], leak[kBlock], target[kBlock];
  uint32_t words[2][kBlock];
  uint8_t may_fire[kBlock];
};

NEUROAV_CLONES
void draw(uint32_t seed_low, uint32_t seed_high, uint32_t frame, const uint32_t* places, int64_t size, Block& block) {
  for (int64_t i = 0; i < size; ++i) {
    const Words words = philox({places[i], frame, kDrawFrame, 0}, seed_low, seed_high);
    block.words[0][i] = words.a;
    block.words[1][i] = words.b;
  }
}

NEUROAV_CLONES
void look_up(const int32_t* table, const uint8_t* greys, int64_t size, int32_t* out) {
  for (int64_t i = 0; i < size; ++i) out[i] = table[greys[i]];
}

// Replaces the brightness in `target` by what it moves `state` to; each grey level has its share.
NEUROAV_CLONES
void low_pass(const int32_t* shares, const uint8_t* greys, const int32_t* state, int64_t size, int32_t* target) {
  for (int64_t i = 0; i < size; ++i) target[i] = low_passed(state[i], target[i], shares[greys[i]]);
}

// Brightness at both ends of the interval; `last` moves on.
NEUROAV_CLONES
void set_ends(int64_t size, int32_t* last, Block& block) {
  for (int64_t i = 0; i < size; ++i) {
    block.a0[i] = last[i];
    block.a1[i] = block.target[i];
    block.rise[i] = block.target[i] - last[i];
    last[i] = block.target[i];
    block.leak[i] = 0;
    block.may_fire[i] = 0;
  }
}

NEUROAV_CLONES
void add_voltage(const int32_t* normal, int32_t share, int32_t gain, int64_t size, int32_t* voltage, Block& block) {
  for (int64_t i = 0; i < size; ++i) {
    block.a0[i] += voltage[i];
    voltage[i] = next_voltage(voltage[i], share, gain, gaussian(normal, block.words[1][i]));
    block.a1[i] += voltage[i];
  }
}

NEUROAV_CLONES
void add_leak(const int32_t* leak, uint32_t dt_us, uint32_t frame, int64_t size, Block& block) {
  for (int64_t i = 0; i < size; ++i) {
    block.leak[i] = leak_of(leak[i], dt_us, 0, 0, frame);
    block.a1[i] += block.leak[i];
  }
}

NEUROAV_CLONES
void add_jittered_leak(const int32_t* leak, const int32_t* normal, uint32_t dt_us, int32_t jitter, uint32_t frame,
                       int64_t size, Block& block) {
  for (int64_t i = 0; i < size; ++i) {
    block.leak[i] = leak_of(leak[i], dt_us, jitter, gaussian(normal, block.words[0][i]), frame);
    block.a1[i] += block.leak[i];
  }
}

// Whether a pixel is beyond a threshold at either end (between them brightness is linear); the leak comes off already.
NEUROAV_CLONES
void compare(const int32_t* on, const int32_t* off, int64_t size, int32_t* reference, Block& block) {
  for (int64_t i = 0; i < size; ++i) {
    const int32_t before = block.a0[i] - reference[i], after = block.a1[i] - reference[i];
    block.may_fire[i] = static_cast<uint8_t>((std::max(before, after) >= on[i]) | (std::min(before, after) <= -off[i]));
    reference[i] -= block.leak[i];
  }
}

// Candidates for shot noise, and the end of periods of blindness.
NEUROAV_CLONES
void mark_due(const int64_t* due_us, int64_t until_us, int64_t size, uint8_t* may_fire) {
  for (int64_t i = 0; i < size; ++i) may_fire[i] |= static_cast<uint8_t>(due_us[i] <= until_us);
}

NEUROAV_CLONES
void mark_blind(const int64_t* fired_us, int64_t after_us, int64_t size, uint8_t* may_fire) {
  for (int64_t i = 0; i < size; ++i) may_fire[i] |= static_cast<uint8_t>(fired_us[i] > after_us);
}

class CameraDetector {
 public:
  explicit CameraDetector(const CameraClip& clip) : clip_(clip), num_pixels_(clip.height * clip.width) {}

  void operator()(int64_t begin, int64_t size, int64_t first, int64_t stop, bool, Records& records) const {
    uint32_t places[kTile];
    for (int64_t i = 0, y = begin / clip_.width, x = begin % clip_.width; i < size; ++i) {
      places[i] = pack_place(static_cast<uint32_t>(y + clip_.top), static_cast<uint32_t>(x + clip_.left));
      if (++x == clip_.width) x = 0, ++y;
    }
    Block block;
    for (int64_t frame = first; frame < stop; ++frame) {
      for (int64_t start = 0; start < size; start += kBlock) {
        const int64_t count = std::min(kBlock, size - start);
        see(frame, begin + start, count, places + start, block);
        for (int64_t i = 0; i < count; ++i) {
          if (block.may_fire[i]) walk(frame, begin + start + i, i, places[start + i], block, records);
        }
      }
      records.end_frame();
    }
  }

 private:
  // Everything up to the question which pixels may fire.
  void see(int64_t frame, int64_t begin, int64_t size, const uint32_t* places, Block& block) const {
    const Sensor& sensor = clip_.sensor;
    const int64_t offset = frame * num_pixels_ + begin;
    const uint8_t* greys = clip_.greys ? clip_.greys + offset : nullptr;
    const int64_t start_us = clip_.edges_us[frame], stop_us = clip_.edges_us[frame + 1];
    const uint32_t dt_us = static_cast<uint32_t>(stop_us - start_us), number = frame_number(frame);
    if (clip_.levels) std::memcpy(block.target, clip_.levels + offset, size * sizeof(int32_t));
    else look_up(sensor.table, greys, size, block.target);
    if (clip_.stage) {
      low_pass(clip_.shares + 256 * frame, greys, clip_.stage + begin, size, block.target);
      std::memcpy(clip_.stage + begin, block.target, size * sizeof(int32_t));
    }
    if (clip_.shares) low_pass(clip_.shares + 256 * frame, greys, clip_.last + begin, size, block.target);
    set_ends(size, clip_.last + begin, block);
    const bool jitter = sensor.leak && sensor.leak_jitter > 0;
    if (jitter || clip_.steps) draw(sensor.seed_low, sensor.seed_high, number, places, size, block);
    if (clip_.steps) {
      const int32_t* step = clip_.steps + 2 * frame;
      add_voltage(sensor.normal, step[0], step[1], size, clip_.voltage + begin, block);
    }
    if (jitter) {
      add_jittered_leak(sensor.leak + begin, sensor.normal, dt_us, sensor.leak_jitter, number, size, block);
    } else if (sensor.leak) {
      add_leak(sensor.leak + begin, dt_us, number, size, block);
    }
    compare(sensor.on + begin, sensor.off + begin, size, clip_.reference + begin, block);
    if (clip_.next_us) mark_due(clip_.next_us + begin, stop_us, size, block.may_fire);
    if (sensor.rule == kBlind) mark_blind(clip_.fired_us + begin, start_us - sensor.refractory_us, size, block.may_fire);
  }

  void walk(int64_t frame, int64_t pixel, int64_t i, uint32_t place, const Block& block, Records& records) const {
    const Sensor& sensor = clip_.sensor;
    if (sensor.on[pixel] == kDead) return;
    const int64_t start_us = clip_.edges_us[frame];
    const bool voltage = clip_.steps != nullptr, leak = sensor.leak != nullptr;
    const Interval interval{block.a0[i], block.a1[i], static_cast<uint32_t>(clip_.edges_us[frame + 1] - start_us),
                            start_us, (voltage || leak) && block.rise[i] <= 0, voltage && block.rise[i] >= 0};
    PixelState state{clip_.reference[pixel] + block.leak[i], clip_.next_us ? clip_.next_us[pixel] : kNever,
                     clip_.fired_us ? clip_.fired_us[pixel] : -kNever};
    auto emit = [&](uint32_t offset_us, bool is_on, bool is_noise) {
      records.push(pack_event(offset_us, place | (is_noise ? kNoise : 0), is_on));
    };
    Walk<decltype(emit)> walk(sensor, interval, sensor.on[pixel], sensor.off[pixel], state, emit);
    walk.run(place, frame_number(frame), clip_.next_us ? sensor.accept[clip_.greys[frame * num_pixels_ + pixel]] : 0);
    clip_.reference[pixel] = clamped(static_cast<int64_t>(state.reference) - block.leak[i], kMostReference);
    if (clip_.next_us) clip_.next_us[pixel] = state.next_us;
    if (clip_.fired_us) clip_.fired_us[pixel] = state.fired_us;
  }

  uint32_t frame_number(int64_t frame) const { return clip_.first_frame + static_cast<uint32_t>(frame); }

  CameraClip clip_;
  int64_t num_pixels_;
};

// The order in which neuroav/kernels/camera.py gives addresses and numbers.
CameraClip camera_clip(const std::vector<std::uintptr_t>& address, const std::vector<int64_t>& number) {
  if (address.size() != 18 || number.size() != 13) throw std::invalid_argument("CameraClip: 18 addresses, 13 numbers");
  size_t next = 0;
  CameraClip clip{};
  const auto take = [&](auto*& pointer) {
    pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(address[next++]);
  };
  take(clip.greys), take(clip.levels), take(clip.edges_us), take(clip.shares), take(clip.steps);
  Sensor& sensor = clip.sensor;
  take(sensor.table), take(sensor.on), take(sensor.off), take(sensor.leak), take(sensor.accept), take(sensor.normal);
  take(sensor.exponential);
  take(clip.reference), take(clip.last), take(clip.stage), take(clip.voltage), take(clip.next_us), take(clip.fired_us);
  clip.num_frames = number[0], clip.height = number[1], clip.width = number[2];
  sensor.nominal_on = static_cast<int32_t>(number[3]), sensor.nominal_off = static_cast<int32_t>(number[4]);
  sensor.rule = static_cast<int32_t>(number[5]), sensor.refractory_us = number[6];
  sensor.leak_jitter = static_cast<int32_t>(number[7]), sensor.shot_period = number[8];
  sensor.seed_low = static_cast<uint32_t>(number[9]), sensor.seed_high = static_cast<uint32_t>(number[9] >> 32);
  clip.first_frame = static_cast<uint32_t>(number[10]), clip.top = number[11], clip.left = number[12];
  return clip;
}

// An array that owns the buffer's memory.
template <typename T>
pybind11::array_t<T> give_away(Buffer<T>&& buffer, int64_t count) {
  auto* owner = new Buffer<T>(std::move(buffer));
  pybind11::capsule capsule(owner, [](void* owned) { delete static_cast<Buffer<T>*>(owned); });
  return pybind11::array_t<T>(count, owner->data(), capsule);
}

}  // namespace

namespace py = pybind11;

void bind_camera(py::module_& m) {
  py::class_<CameraClip>(m, "CameraClip", "A clip, a sensor and the state of its pixels: addresses, then numbers.")
      .def(py::init(&camera_clip), py::arg("addresses"), py::arg("numbers"));
  m.def(
      "camera_events",
      [](const CameraClip& clip, bool labels, int threads) {
        EventColumns events;
        events.labels = labels;
        {
          py::gil_scoped_release release;
          const CameraDetector detector(clip);
          list_events(clip.edges_us, clip.num_frames, clip.height * clip.width, threads, detector, events);
        }
        return py::make_tuple(
            give_away(std::move(events.t_us), events.count), give_away(std::move(events.x), events.count),
            give_away(std::move(events.y), events.count), give_away(std::move(events.p), events.count),
            give_away(std::move(events.noise), labels ? events.count : 0));
      },
      "Return the events of a clip, sorted; moves the state in place.", py::arg("clip"), py::arg("labels"),
      py::arg("threads"));
  m.def(
      "camera_bins",
      [](const CameraClip& clip, int32_t kind, std::uintptr_t bin_edges_us, int64_t num_edges, int64_t rows,
         int64_t columns, std::uintptr_t values, int threads) {
        py::gil_scoped_release release;
        const BinLayout bins{kind, reinterpret_cast<const int64_t*>(bin_edges_us), num_edges, clip.height, clip.width,
                             rows, columns};
        const CameraDetector detector(clip);
        fill_bins(bins, clip.edges_us, clip.num_frames, false, threads, detector, reinterpret_cast<void*>(values));
      },
      "Add the events of a clip to `values`; moves the state in place.", py::arg("clip"), py::arg("kind"),
      py::arg("bin_edges_us"), py::arg("num_edges"), py::arg("rows"), py::arg("columns"), py::arg("values"),
      py::arg("threads"));
}
