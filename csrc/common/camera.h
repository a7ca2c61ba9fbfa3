// The arithmetic of one pixel of a real event camera, written once for CPU and GPU, in integers; neuroav.events.noise
// says the same in words, neuroav/kernels/reference_camera.py in PyTorch.
//
// Brightness, thresholds and reference are int32 in units of 2^-24 nat. Within an interval of dt microseconds the
// brightness that the pixel compares runs linearly from a0 to a1; a1 includes the leak, which is taken off the
// reference at the end. Bounds (each kept by a clamp here or a check in Python), in nat: brightness behind the low pass
// 32 = 2^29, photoreceptor noise 8 = 2^27, leak of an interval 16 = 2^28, reference 64 = 2^30, threshold 16 = 2^28. So
// |a1| <= 2^29 + 2^27 + 2^28 < 0.94e9, |a1 - a0| < 1.62e9, and |a - reference| < 2.02e9 fits in 32 bits. Times are
// multiplied by |a1 - a0| and by what is no larger than it (see `first_reached`): with dt < 2^32, products stay below
// 1.62e9 * 2^32 = 7.0e18 < 2^63.
#pragma once

#include "contrast.h"
#include "random.h"

namespace neuroav {

constexpr int32_t kAdvance = 0, kHold = 1, kBlind = 2;  // what a pixel does in its refractory period
constexpr int32_t kDead = 0x7fffffff;                   // threshold of a pixel that never fires
constexpr int64_t kNever = int64_t{1} << 62;
constexpr int32_t kMostVoltage = 1 << 27, kMostLeak = 1 << 28, kMostReference = 1 << 30;

// What the pixels of a sensor have in common, and their fixed pattern.
struct Sensor {
  const int32_t* table;        // (256) brightness of the grey levels
  const int32_t *on, *off;     // (H, W) thresholds
  const int32_t* leak;         // (H, W) in 2^-44 nat per microsecond, or null
  const int64_t* period;       // (H, W) between candidates for shot noise in 2^-6 us, below 2^38, or null: none
  const int32_t* accept;       // (256) share of the shot noise at each grey level in 2^-20, or null
  const int32_t* normal;       // (1024), see random.h
  const int32_t* exponential;  // (1025)
  int32_t nominal_on, nominal_off;
  int32_t rule;
  int64_t refractory_us;
  int32_t leak_jitter;     // 2^-16
  uint32_t seed_low, seed_high;
};

NEUROAV_HD int32_t clamped(int64_t value, int32_t most) {
  return static_cast<int32_t>(value > most ? most : value < -most ? -most : value);
}

// value * 2^-bits to the nearest integer, halves away from zero, so that ON and OFF are alike.
NEUROAV_HD int64_t rounded_shift(int64_t value, int bits) {
  return (value + (int64_t{1} << (bits - 1)) + (value >> 63)) >> bits;
}

// One step of a low pass; `share` in units of 2^-24.
NEUROAV_HD int32_t low_passed(int32_t state, int32_t target, int32_t share) {
  return state + static_cast<int32_t>(rounded_shift(static_cast<int64_t>(share) * (target - state), 24));
}

// One step of photoreceptor noise: low-passed with `share`, driven by a Gaussian of `gain` (2^-24 nat).
NEUROAV_HD int32_t next_voltage(int32_t voltage, int32_t share, int32_t gain, int32_t gauss) {
  return clamped(low_passed(voltage, 0, share) + rounded_shift(static_cast<int64_t>(gain) * gauss, 16), kMostVoltage);
}

// By how much the reference leaks in an interval. The remainder that rounding down leaves is spread over the frames by
// an offset that walks evenly through the unit, so that the sum stays right to a few units for any frame rate.
NEUROAV_HD int32_t leak_of(int32_t leak, uint32_t dt_us, int32_t jitter, int32_t gauss, uint32_t frame) {
  int64_t amount = static_cast<int64_t>((static_cast<uint64_t>(static_cast<uint32_t>(leak)) * dt_us) >> 12);  // 2^-32
  if (amount > (static_cast<int64_t>(kMostLeak) << 8)) amount = static_cast<int64_t>(kMostLeak) << 8;
  const int64_t factor = (1 << 16) - ((static_cast<int64_t>(jitter) * gauss) >> 16);
  const int64_t offset = (frame * 0x9E3779B1u) >> 8;
  return clamped((amount * factor + offset) >> 24, kMostLeak);
}

// Time to a pixel's next candidate for shot noise in microseconds, at least 1.
NEUROAV_HD int64_t shot_gap_us(const int32_t* exponential, int64_t period, uint32_t word, uint32_t fraction) {
  const int64_t gap = (waiting_time(exponential, word, fraction) * period + (1 << 25)) >> 26;
  return gap > 1 ? gap : 1;
}

NEUROAV_HD bool shot_accepted(uint32_t word, int32_t accept) { return static_cast<int32_t>(word >> 12) < accept; }

// What one pixel sees in one interval.
struct Interval {
  int32_t a0, a1;
  uint32_t dt_us;
  int64_t start_us;
  bool noise_on, noise_off;  // whether a crossing of this polarity counts as noise
};

NEUROAV_HD int32_t brightness_at(const Interval& interval, int64_t t) {
  const int64_t change = static_cast<int64_t>(interval.a1) - interval.a0;
  return static_cast<int32_t>(interval.a0 + change * t / interval.dt_us);  // towards a0
}

// First whole microsecond from `from` on, up to dt, at which what lacks `way` at time 0 and rises by `rise` until dt is
// there; kNever if it isn't.
NEUROAV_HD int64_t first_reached(int64_t way, int64_t rise, uint32_t dt_us, int64_t from) {
  if (way <= 0) {  // there at time 0, but perhaps no more at `from`
    if (rise >= 0 || way <= rise) return from;
    return -way * static_cast<int64_t>(dt_us) >= -rise * from ? from : kNever;
  }
  if (way > rise) return kNever;
  const int64_t t = static_cast<int64_t>((static_cast<uint64_t>(way) * dt_us + static_cast<uint64_t>(rise) - 1) /
                                         static_cast<uint64_t>(rise));
  return t > from ? t : from;
}

// State of one pixel, as far as events move it. `next_us` is kNever without shot noise.
struct PixelState {
  int32_t reference;
  int64_t next_us, fired_us;
};

// Without shot noise, under the rule `advance`: the reference goes through every threshold up to a1, and those events
// happen that come late enough after the one before.
template <typename Emit>
NEUROAV_HD void cross_all(const Interval& interval, int32_t on, int32_t off, int64_t refractory_us, PixelState& pixel,
                          Emit& emit) {
  const int32_t crossings = signed_crossings(interval.a1, pixel.reference, on, off);
  const int32_t step = reference_step(crossings, on, off);
  const bool is_on = crossings > 0, is_noise = is_on ? interval.noise_on : interval.noise_off;
  int64_t ready = pixel.fired_us + refractory_us - interval.start_us;
  for (int32_t nth = crossings < 0 ? -crossings : crossings; nth > 0; --nth) {
    pixel.reference += step;
    const uint32_t t = crossing_offset_us(pixel.reference, interval.a0, interval.a1, interval.dt_us);
    if (t < ready) continue;
    emit(t, is_on, is_noise);
    ready = t + refractory_us;
  }
  pixel.fired_us = ready - refractory_us + interval.start_us;
}

// Everything one pixel fires in one interval, in order: emit(offset_us, is_on, is_noise).
template <typename Emit>
class Walk {
 public:
  NEUROAV_HD Walk(const Sensor& sensor, const Interval& interval, int32_t on, int32_t off, PixelState& pixel,
                  Emit& emit)
      : sensor_(sensor), interval_(interval), on_(on), off_(off), pixel_(pixel), emit_(emit) {
    ready_ = pixel.fired_us + sensor.refractory_us - interval.start_us;
    blind_ = sensor.rule == kBlind && ready_ > 0;
  }

  NEUROAV_HD void run() {
    cross_until(interval_.dt_us);
    keep();
  }

  // `words` is the draw for the first candidate, if one comes.
  NEUROAV_HD void run_with_shots(uint32_t place, uint32_t frame, int64_t period, int32_t accept, Words words) {
    const int64_t dt = interval_.dt_us;
    int64_t shot = pixel_.next_us - interval_.start_us;
    for (uint32_t draw = 1; shot <= dt; ++draw) {
      cross_until(shot);
      if (ready_ <= shot && shot_accepted(words.c, accept)) fire_shot(shot, words.d >> 12);
      now_ = shot;
      shot += shot_gap_us(sensor_.exponential, period, words.a, words.b);
      if (shot <= dt) words = philox({place, frame, kDrawShot, draw}, sensor_.seed_low, sensor_.seed_high);
    }
    cross_until(dt);
    pixel_.next_us = shot + interval_.start_us;
    keep();
  }

 private:
  NEUROAV_HD void keep() { pixel_.fired_us = ready_ - sensor_.refractory_us + interval_.start_us; }

  // Threshold crossings up to `stop`.
  NEUROAV_HD void cross_until(int64_t stop) {
    for (;;) {
      if (blind_) {
        if (ready_ > stop) return;
        pixel_.reference = brightness_at(interval_, ready_);
        now_ = ready_;
        blind_ = false;
      }
      const int64_t from = sensor_.rule == kHold && ready_ > now_ ? ready_ : now_;
      if (from > stop) return;
      const int64_t rise = static_cast<int64_t>(interval_.a1) - interval_.a0;
      const int64_t change = static_cast<int64_t>(interval_.a0) - pixel_.reference;
      const int64_t up = first_reached(on_ - change, rise, interval_.dt_us, from);
      const int64_t down = first_reached(off_ + change, -rise, interval_.dt_us, from);
      const bool is_on = up < down;
      const int64_t t = is_on ? up : down;
      if (t > stop) return;
      if (sensor_.rule != kAdvance || t >= ready_) fire(t, is_on, is_on ? interval_.noise_on : interval_.noise_off);
      if (sensor_.rule != kBlind) pixel_.reference += is_on ? on_ : -off_;
      now_ = t;
    }
  }

  NEUROAV_HD void fire(int64_t t, bool is_on, bool is_noise) {
    emit_(static_cast<uint32_t>(t), is_on, is_noise);
    ready_ = t + sensor_.refractory_us;
    blind_ = sensor_.rule == kBlind;
  }

  // ON with probability (C_on / on) / (C_on / on + C_off / off); thresholds in 2^-16 nat, so products stay below 2^62.
  NEUROAV_HD void fire_shot(int64_t t, uint32_t word) {
    const int64_t on_weight = static_cast<int64_t>(sensor_.nominal_on >> 8) * (off_ >> 8);
    const int64_t off_weight = static_cast<int64_t>(sensor_.nominal_off >> 8) * (on_ >> 8);
    fire(t, static_cast<int64_t>(word) * (on_weight + off_weight) < (on_weight << 20), true);
    pixel_.reference = brightness_at(interval_, t);
  }

  const Sensor& sensor_;
  const Interval& interval_;
  const int32_t on_, off_;
  PixelState& pixel_;
  Emit& emit_;
  int64_t ready_;    // from when on it may fire, relative to the interval
  int64_t now_ = 1;  // what comes next comes no earlier
  bool blind_;
};

}  // namespace neuroav
