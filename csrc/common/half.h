// The 16-bit floats, to float and back, rounded to nearest even; without branches, so that loops vectorise.
#pragma once

#include "lif.h"

namespace neuroav {

struct BFloat16 {
  unsigned short bits;
};
struct Half {  // IEEE 754 binary16
  unsigned short bits;
};

NEUROAV_HD float to_float(BFloat16 from) { return float_of(static_cast<unsigned>(from.bits) << 16); }

template <class To>
To from_float(float from);

template <>
NEUROAV_HD BFloat16 from_float<BFloat16>(float from) {
  const unsigned raw = bits_of(from);
  const unsigned rounded = (raw + 0x7fffu + ((raw >> 16) & 1u)) >> 16;
  return {static_cast<unsigned short>(from != from ? 0x7fc0u : rounded)};
}

#ifdef __CUDA_ARCH__
NEUROAV_HD float to_float(Half from) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(from.bits));
  return value;
}
template <>
NEUROAV_HD Half from_float<Half>(float from) {
  Half value;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(value.bits) : "f"(from));
  return value;
}
#else
NEUROAV_HD float to_float(Half from) {
  const unsigned magnitude = from.bits & 0x7fffu, sign = static_cast<unsigned>(from.bits & 0x8000u) << 16;
  // The exponent is too small by 112, also where it is 0 (subnormal).
  const unsigned scaled = bits_of(float_of(magnitude << 13) * float_of((127u + 112u) << 23));
  return float_of(sign | scaled | (magnitude >= 0x7c00u ? 0x7f800000u : 0u));
}
template <>
NEUROAV_HD Half from_float<Half>(float from) {
  const unsigned raw = bits_of(from), sign = raw & 0x80000000u, magnitude = raw ^ sign;
  const unsigned normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const unsigned subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);  // the sum's last place is 2^-24
  const unsigned huge = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const unsigned finite = magnitude < (113u << 23) ? subnormal : normal;
  return {static_cast<unsigned short>((magnitude >= (143u << 23) ? huge : finite) | (sign >> 16))};
}
#endif

}  // namespace neuroav
