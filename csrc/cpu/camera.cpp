// Frames to events on a CPU, for the full camera model. The arithmetic of a pixel is in common/camera.h, what becomes
// of the events in sinks.h; this file finds them.
//
// Plain loops over blocks of pixels, which the compiler vectorises, do what every pixel needs in every frame: low pass,
// noise, leak, and the question whether it may fire. Only those that may are walked event by event.
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

#include "arrays.h"
#include "bins.h"
#include "camera.h"
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
  int32_t a0[kBlock], a1[kBlock], rise[kBlock], leak[kBlock], target[kBlock], lent[kBlock];  // lent: to any loop
  uint8_t may_fire[kBlock], is_due[kBlock];  // 0 or 1; is_due: a candidate for shot noise comes
};

// The first draw of every candidate in a block, in the order of the pixels.
struct Candidates {
  int64_t count;
  int32_t pixels[kBlock];
  uint32_t places[kBlock], a[kBlock], b[kBlock], c[kBlock], d[kBlock];
};

NEUROAV_CLONES
void draw_frames(uint32_t seed_low, uint32_t seed_high, uint32_t frame, uint32_t purpose, const uint32_t* places,
                 int64_t size, uint32_t* a, uint32_t* b, uint32_t* c, uint32_t* d) {
  for (int64_t i = 0; i < size; ++i) {
    const Words words = four_frames(places[i], frame, purpose, seed_low, seed_high);
    a[i] = words.a;
    b[i] = words.b;
    c[i] = words.c;
    d[i] = words.d;
  }
}

NEUROAV_CLONES
void draw_candidates(uint32_t seed_low, uint32_t seed_high, uint32_t frame, Candidates& out) {
  for (int64_t i = 0; i < out.count; ++i) {
    const Words words = philox({out.places[i], frame, kDrawShot, 0}, seed_low, seed_high);
    out.a[i] = words.a;
    out.b[i] = words.b;
    out.c[i] = words.c;
    out.d[i] = words.d;
  }
}

NEUROAV_CLONES
void look_up(const int32_t* table, const uint8_t* greys, int64_t size, int32_t* out) {
  for (int64_t i = 0; i < size; ++i) out[i] = table[greys[i]];
}

// Replaces the brightness in `target` by what it moves `state` to.
NEUROAV_CLONES
void low_pass(const int32_t* share, const int32_t* state, int64_t size, int32_t* target) {
  for (int64_t i = 0; i < size; ++i) target[i] = low_passed(state[i], target[i], share[i]);
}

NEUROAV_CLONES
void gaussians(const int32_t* normal, const uint32_t* words, int64_t size, int32_t* out) {
  for (int64_t i = 0; i < size; ++i) out[i] = gaussian(normal, words[i]);
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
  }
}

NEUROAV_CLONES
void add_voltage(const int32_t* gauss, int32_t share, int32_t gain, int64_t size, int32_t* voltage, Block& block) {
  for (int64_t i = 0; i < size; ++i) {
    block.a0[i] += voltage[i];
    voltage[i] = next_voltage(voltage[i], share, gain, gauss[i]);
    block.a1[i] += voltage[i];
  }
}

NEUROAV_CLONES
void add_leak(const int32_t* leak, const int32_t* gauss, int32_t jitter, uint32_t dt_us, uint32_t frame, int64_t size,
              Block& block) {
  for (int64_t i = 0; i < size; ++i) {
    block.leak[i] = leak_of(leak[i], dt_us, jitter, gauss[i], frame);
    block.a1[i] += block.leak[i];
  }
}

// Whether a pixel is beyond a threshold at either end (between them brightness is linear); the leak comes off already.
NEUROAV_CLONES
void compare(const int32_t* on, const int32_t* off, int64_t size, int32_t* reference, Block& block) {
  for (int64_t i = 0; i < size; ++i) {
    const int32_t before = block.a0[i] - reference[i], after = block.a1[i] - reference[i];
    const int32_t most = before > after ? before : after, least = before > after ? after : before;
    block.lent[i] = (most >= on[i]) | (least <= -off[i]);
    reference[i] -= block.leak[i];
  }
  for (int64_t i = 0; i < size; ++i) block.may_fire[i] = static_cast<uint8_t>(block.lent[i]);
}

// Candidates for shot noise.
NEUROAV_CLONES
void mark_due(const int64_t* next_us, int64_t until_us, int64_t size, Block& block) {
  for (int64_t i = 0; i < size; ++i) block.lent[i] = next_us[i] <= until_us;
  for (int64_t i = 0; i < size; ++i) block.is_due[i] = static_cast<uint8_t>(block.lent[i]);
}

// Ends of periods of blindness.
NEUROAV_CLONES
void mark_blind(const int64_t* fired_us, int64_t after_us, int64_t size, uint8_t* may_fire) {
  for (int64_t i = 0; i < size; ++i) may_fire[i] |= static_cast<uint8_t>(fired_us[i] > after_us);
}

int lowest_bit(uint64_t mask) {
#if defined(__GNUC__)
  return __builtin_ctzll(mask);
#else
  int bit = 0;
  while (!(mask >> bit & 1)) ++bit;
  return bit;
#endif
}

// Calls use(i) for every flag of 1, in order; 64 flags at a time, so that the end of the loop is rarely mispredicted.
template <typename Use>
void for_each_set(const uint8_t* flags, int64_t size, const Use& use) {
  for (int64_t start = 0; start < size; start += 64) {
    uint64_t bits = 0;
    for (int64_t i = start, stop = std::min(start + 64, size); i < stop; i += 8) {
      uint64_t eight = 0;
      std::memcpy(&eight, flags + i, std::min<int64_t>(8, size - i));
      bits |= ((eight * 0x0102040810204080ull) >> 56) << (i - start);  // eight bytes of 0 or 1 become eight bits
    }
    for (; bits; bits &= bits - 1) use(start + lowest_bit(bits));
  }
}

class CameraDetector {
 public:
  explicit CameraDetector(const CameraClip& clip) : clip_(clip), num_pixels_(clip.height * clip.width) {
    if (clip.sensor.leak && clip.sensor.leak_jitter > 0) leak_words_.reserve(4 * num_pixels_);
    if (clip.steps) voltage_words_.reserve(4 * num_pixels_);
  }

  void operator()(int64_t begin, int64_t size, int64_t first, int64_t stop, bool, Records& records) {
    uint32_t places[kTile];
    for (int64_t i = 0, y = begin / clip_.width, x = begin % clip_.width; i < size; ++i) {
      places[i] = pack_place(static_cast<uint32_t>(y + clip_.top), static_cast<uint32_t>(x + clip_.left));
      if (++x == clip_.width) x = 0, ++y;
    }
    Block block;
    Candidates candidates;
    for (int64_t frame = first; frame < stop; ++frame) {
      if (frame == 0 || frame_number(frame) % 4 == 0) draw(frame, begin, size, places);
      for (int64_t start = 0; start < size; start += kBlock) {
        const int64_t count = std::min(kBlock, size - start);
        see(frame, begin + start, count, block);
        if (clip_.next_us) try_candidates(frame, begin + start, count, places + start, block, candidates);
        fire(frame, begin + start, count, places + start, block, candidates, records);
      }
      records.end_frame();
    }
  }

 private:
  // The words of four frames.
  void draw(int64_t frame, int64_t begin, int64_t size, const uint32_t* places) {
    const auto fill = [&](uint32_t purpose, uint32_t* words) {
      draw_frames(clip_.sensor.seed_low, clip_.sensor.seed_high, frame_number(frame), purpose, places, size,
                  words + begin, words + num_pixels_ + begin, words + 2 * num_pixels_ + begin,
                  words + 3 * num_pixels_ + begin);
    };
    if (leak_words_.capacity() > 0) fill(kDrawLeak, leak_words_.data());
    if (voltage_words_.capacity() > 0) fill(kDrawVoltage, voltage_words_.data());
  }

  // Everything up to the question which pixels may fire.
  void see(int64_t frame, int64_t begin, int64_t size, Block& block) const {
    const Sensor& sensor = clip_.sensor;
    const int64_t offset = frame * num_pixels_ + begin;
    const uint8_t* greys = clip_.greys ? clip_.greys + offset : nullptr;
    const int64_t start_us = clip_.edges_us[frame], stop_us = clip_.edges_us[frame + 1];
    const uint32_t dt_us = static_cast<uint32_t>(stop_us - start_us), number = frame_number(frame);
    if (clip_.levels) std::memcpy(block.target, clip_.levels + offset, size * sizeof(int32_t));
    else look_up(sensor.table, greys, size, block.target);
    if (clip_.shares) {
      look_up(clip_.shares + 256 * frame, greys, size, block.lent);
      if (clip_.stage) {
        low_pass(block.lent, clip_.stage + begin, size, block.target);
        std::memcpy(clip_.stage + begin, block.target, size * sizeof(int32_t));
      }
      low_pass(block.lent, clip_.last + begin, size, block.target);
    }
    set_ends(size, clip_.last + begin, block);
    const int64_t words = number % 4 * num_pixels_ + begin;
    if (clip_.steps) {
      gaussians(sensor.normal, voltage_words_.data() + words, size, block.lent);
      const int32_t* step = clip_.steps + 2 * frame;
      add_voltage(block.lent, step[0], step[1], size, clip_.voltage + begin, block);
    }
    if (sensor.leak) {
      if (sensor.leak_jitter > 0) gaussians(sensor.normal, leak_words_.data() + words, size, block.lent);
      else std::memset(block.lent, 0, sizeof block.lent);
      add_leak(sensor.leak + begin, block.lent, sensor.leak_jitter, dt_us, number, size, block);
    }
    compare(sensor.on + begin, sensor.off + begin, size, clip_.reference + begin, block);
    if (clip_.next_us) mark_due(clip_.next_us + begin, stop_us, size, block);
    if (sensor.rule == kBlind) {
      mark_blind(clip_.fired_us + begin, start_us - sensor.refractory_us, size, block.may_fire);
    }
  }

  // Draws the candidates for shot noise and drops those that don't fire, unless another follows in this interval.
  // Without branches, which would be mispredicted.
  void try_candidates(int64_t frame, int64_t begin, int64_t size, const uint32_t* places, Block& block,
                      Candidates& candidates) const {
    const Sensor& sensor = clip_.sensor;
    candidates.count = 0;
    for_each_set(block.is_due, size, [&](int64_t i) {
      candidates.places[candidates.count] = places[i];
      candidates.pixels[candidates.count++] = static_cast<int32_t>(i);
    });
    draw_candidates(sensor.seed_low, sensor.seed_high, frame_number(frame), candidates);
    const uint8_t* greys = clip_.greys + frame * num_pixels_ + begin;
    int64_t* next_us = clip_.next_us + begin;
    const int64_t stop_us = clip_.edges_us[frame + 1];
    int64_t kept = 0;
    for (int64_t j = 0; j < candidates.count; ++j) {
      const int32_t i = candidates.pixels[j];
      const Words words{candidates.a[j], candidates.b[j], candidates.c[j], candidates.d[j]};
      const int64_t after =
          next_us[i] + shot_gap_us(sensor.exponential, sensor.period[begin + i], words.a, words.b);
      const bool is_over = !shot_accepted(words.c, sensor.accept[greys[i]]) & (after > stop_us);
      next_us[i] = is_over ? after : next_us[i];
      block.is_due[i] = !is_over;
      block.may_fire[i] |= static_cast<uint8_t>(!is_over);
      candidates.a[kept] = words.a;
      candidates.b[kept] = words.b;
      candidates.c[kept] = words.c;
      candidates.d[kept] = words.d;
      kept += !is_over;
    }
  }

  void fire(int64_t frame, int64_t begin, int64_t size, const uint32_t* places, const Block& block,
            const Candidates& candidates, Records& records) const {
    const bool may_be_due = clip_.next_us != nullptr;
    int64_t next = 0;
    for_each_set(block.may_fire, size, [&](int64_t i) {
      const bool is_due = may_be_due && block.is_due[i];
      Words words{};
      if (is_due) {
        words = {candidates.a[next], candidates.b[next], candidates.c[next], candidates.d[next]};
        ++next;
      }
      const int64_t pixel = begin + i;
      if (clip_.sensor.on[pixel] == kDead) return;
      auto emit = [&](uint32_t offset_us, bool is_on, bool is_noise) {
        records.push(pack_event(offset_us, places[i] | (is_noise ? kNoise : 0), is_on));
      };
      walk(frame, interval_of(frame, i, block), pixel, places[i], block.leak[i], is_due ? &words : nullptr, emit);
    });
  }

  Interval interval_of(int64_t frame, int64_t i, const Block& block) const {
    const bool voltage = clip_.steps != nullptr, leak = clip_.sensor.leak != nullptr;
    const int64_t start_us = clip_.edges_us[frame];
    return {block.a0[i], block.a1[i], static_cast<uint32_t>(clip_.edges_us[frame + 1] - start_us), start_us,
            (voltage || leak) && block.rise[i] <= 0, voltage && block.rise[i] >= 0};
  }

  // `words`: the draw for the candidate, if one comes.
  template <typename Emit>
  void walk(int64_t frame, const Interval& interval, int64_t pixel, uint32_t place, int32_t leak, const Words* words,
            Emit& emit) const {
    const Sensor& sensor = clip_.sensor;
    const int32_t on = sensor.on[pixel], off = sensor.off[pixel];
    PixelState state{clip_.reference[pixel] + leak, clip_.next_us ? clip_.next_us[pixel] : kNever,
                     clip_.fired_us ? clip_.fired_us[pixel] : -kNever};
    if (words) {
      const int32_t accept = sensor.accept[clip_.greys[frame * num_pixels_ + pixel]];
      Walk<Emit>(sensor, interval, on, off, state, emit)
          .run_with_shots(place, frame_number(frame), sensor.period[pixel], accept, *words);
      clip_.next_us[pixel] = state.next_us;
    } else if (sensor.rule == kAdvance) {
      cross_all(interval, on, off, sensor.refractory_us, state, emit);
    } else {
      Walk<Emit>(sensor, interval, on, off, state, emit).run();
    }
    clip_.reference[pixel] = clamped(static_cast<int64_t>(state.reference) - leak, kMostReference);
    if (clip_.fired_us) clip_.fired_us[pixel] = state.fired_us;
  }

  uint32_t frame_number(int64_t frame) const { return clip_.first_frame + static_cast<uint32_t>(frame); }

  CameraClip clip_;
  int64_t num_pixels_;
  Buffer<uint32_t> leak_words_, voltage_words_;  // (4, H, W): of four frames
};

// The order in which neuroav/kernels/camera.py gives addresses and numbers.
CameraClip camera_clip(const std::vector<std::uintptr_t>& address, const std::vector<int64_t>& number) {
  if (address.size() != 19 || number.size() != 12) throw std::invalid_argument("CameraClip: 19 addresses, 12 numbers");
  size_t next = 0;
  CameraClip clip{};
  const auto take = [&](auto*& pointer) {
    pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(address[next++]);
  };
  take(clip.greys), take(clip.levels), take(clip.edges_us), take(clip.shares), take(clip.steps);
  Sensor& sensor = clip.sensor;
  take(sensor.table), take(sensor.on), take(sensor.off), take(sensor.leak), take(sensor.period), take(sensor.accept);
  take(sensor.normal), take(sensor.exponential);
  take(clip.reference), take(clip.last), take(clip.stage), take(clip.voltage), take(clip.next_us), take(clip.fired_us);
  clip.num_frames = number[0], clip.height = number[1], clip.width = number[2];
  sensor.nominal_on = static_cast<int32_t>(number[3]), sensor.nominal_off = static_cast<int32_t>(number[4]);
  sensor.rule = static_cast<int32_t>(number[5]), sensor.refractory_us = number[6];
  sensor.leak_jitter = static_cast<int32_t>(number[7]);
  sensor.seed_low = static_cast<uint32_t>(number[8]), sensor.seed_high = static_cast<uint32_t>(number[8] >> 32);
  clip.first_frame = static_cast<uint32_t>(number[9]), clip.top = number[10], clip.left = number[11];
  return clip;
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
          CameraDetector detector(clip);
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
         int64_t columns, int threads) {
        const BinLayout bins{kind, pointer<const int64_t>(bin_edges_us), num_edges, clip.height, clip.width,
                             rows, columns};
        return new_bins(bins, [&](void* values) {
          CameraDetector detector(clip);
          fill_bins(bins, clip.edges_us, clip.num_frames, false, threads, detector, values);
        });
      },
      "Return the events of a clip in bins, flat; moves the state in place.", py::arg("clip"), py::arg("kind"),
      py::arg("bin_edges_us"), py::arg("num_edges"), py::arg("rows"), py::arg("columns"), py::arg("threads"));
}
