// The 16-bit floats, to float and back, rounded to nearest even; without branches, so that loops vectorise.
#pragma once

#include <cstdint>
#include <cstring>

namespace neuroav {

struct BFloat16 {
  uint16_t bits;
};
struct Half {  // IEEE 754 binary16
  uint16_t bits;
};

namespace half_detail {
inline uint32_t bits(float value) {
  uint32_t as_bits;
  std::memcpy(&as_bits, &value, sizeof as_bits);
  return as_bits;
}
inline float value(uint32_t bits) {
  float as_value;
  std::memcpy(&as_value, &bits, sizeof as_value);
  return as_value;
}
}  // namespace half_detail

inline float to_float(BFloat16 from) { return half_detail::value(uint32_t{from.bits} << 16); }

inline float to_float(Half from) {
  using namespace half_detail;
  const uint32_t magnitude = from.bits & 0x7fffu, sign = uint32_t{from.bits & 0x8000u} << 16;
  // The exponent is too small by 112, also where it is 0 (subnormal).
  const uint32_t scaled = bits(value(magnitude << 13) * value((127u + 112u) << 23));
  return value(sign | scaled | (magnitude >= 0x7c00u ? 0x7f800000u : 0u));
}

template <class To>
To from_float(float from);

template <>
inline BFloat16 from_float<BFloat16>(float from) {
  const uint32_t raw = half_detail::bits(from);
  const uint32_t rounded = (raw + 0x7fffu + ((raw >> 16) & 1u)) >> 16;
  return {static_cast<uint16_t>(from != from ? 0x7fc0u : rounded)};
}

template <>
inline Half from_float<Half>(float from) {
  using namespace half_detail;
  const uint32_t raw = bits(from), sign = raw & 0x80000000u, magnitude = raw ^ sign;
  const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint32_t subnormal = bits(value(magnitude) + 0.5f) - bits(0.5f);  // the sum's last place is 2^-24
  const uint32_t huge = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t finite = magnitude < (113u << 23) ? subnormal : normal;
  return {static_cast<uint16_t>((magnitude >= (143u << 23) ? huge : finite) | (sign >> 16))};
}

}  // namespace neuroav
