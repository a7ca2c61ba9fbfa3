// Random numbers without a state: the generator Philox-4x32-10 [salmon2011] turns a counter and a key into four words,
// the same on every device. A camera's counter is (place of the pixel, frame, purpose, number of the draw), its key the
// seed; so noise does not depend on how a clip is cut into calls, regions, batches or threads.
#pragma once

#include "contrast.h"

namespace neuroav {

// What a draw is for: the third word of the counter. neuroav.events.noise uses the others.
constexpr uint32_t kDrawLeak = 0, kDrawShot = 1, kDrawVoltage = 2;

struct Words {
  uint32_t a, b, c, d;
};

NEUROAV_HD Words philox(Words counter, uint32_t key_low, uint32_t key_high) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t left = static_cast<uint64_t>(counter.a) * 0xD2511F53u;
    const uint64_t right = static_cast<uint64_t>(counter.c) * 0xCD9E8D57u;
    counter = {static_cast<uint32_t>(right >> 32) ^ counter.b ^ key_low, static_cast<uint32_t>(right),
               static_cast<uint32_t>(left >> 32) ^ counter.d ^ key_high, static_cast<uint32_t>(left)};
    key_low += 0x9E3779B9u;
    key_high += 0xBB67AE85u;
  }
  return counter;
}

// What each pixel needs once per frame comes four frames at a time: word `frame % 4` of this draw.
NEUROAV_HD Words four_frames(uint32_t place, uint32_t frame, uint32_t purpose, uint32_t seed_low, uint32_t seed_high) {
  return philox({place, frame >> 2, purpose, 0}, seed_low, seed_high);
}

// A Gaussian of variance 1 in units of 2^-16: the sum of two quantiles of variance 1/2 (1024 of them in the table).
NEUROAV_HD int32_t gaussian(const int32_t* normal, uint32_t word) {
  return normal[word & 1023] + normal[(word >> 10) & 1023];
}

NEUROAV_HD int32_t leading_zeros(uint32_t word) {
#if defined(__CUDA_ARCH__)
  return __clz(static_cast<int>(word));
#elif defined(__GNUC__)
  return word == 0 ? 32 : __builtin_clz(word);
#else
  int32_t zeros = 32;
  for (; word; word >>= 1) --zeros;
  return zeros;
#endif
}

// A waiting time of mean 1 in units of 2^-20, below 2^25: -ln(2^-(zeros + 1) (1 + f)) with f uniform in [0, 1). The
// table holds ln 2 - ln(1 + i / 1024) for i = 0 ... 1024, between which f interpolates.
NEUROAV_HD int64_t waiting_time(const int32_t* exponential, uint32_t word, uint32_t fraction) {
  const int32_t i = static_cast<int32_t>(fraction >> 22), between = static_cast<int32_t>((fraction >> 6) & 0xffff);
  const int32_t rest = exponential[i] + (((exponential[i + 1] - exponential[i]) * between) >> 16);
  return static_cast<int64_t>(leading_zeros(word)) * exponential[0] + rest;
}

}  // namespace neuroav
