// Integers to byte planes, as HDF5's filter "shuffle" lays them out: the lowest bytes of all values, then the next.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>

#include "arrays.h"
#include "clones.h"

namespace neuroav {

template <class T>
NEUROAV_INTO_CLONE void plane(const T* __restrict values, T offset, int shift, int64_t count, uint8_t* __restrict out) {
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<uint8_t>((values[i] - offset) >> shift);
}

// A block at a time, so that a value is read from memory once.
template <class T>
NEUROAV_INTO_CLONE void planes(const T* values, T offset, int64_t count, int width, uint8_t* out) {
  constexpr int64_t kBlock = 4096;
  for (int64_t first = 0; first < count; first += kBlock) {
    for (int byte = 0; byte < width; ++byte) {
      plane(values + first, offset, 8 * byte, std::min(kBlock, count - first), out + byte * count + first);
    }
  }
}

NEUROAV_CLONES void split(const uint8_t* values, uint8_t offset, int64_t count, int width, uint8_t* out) {
  planes(values, offset, count, width, out);
}
NEUROAV_CLONES void split(const uint16_t* values, uint16_t offset, int64_t count, int width, uint8_t* out) {
  planes(values, offset, count, width, out);
}
NEUROAV_CLONES void split(const uint32_t* values, uint32_t offset, int64_t count, int width, uint8_t* out) {
  planes(values, offset, count, width, out);
}
NEUROAV_CLONES void split(const uint64_t* values, uint64_t offset, int64_t count, int width, uint8_t* out) {
  planes(values, offset, count, width, out);
}

template <class T>
void bind_split(pybind11::module_& m, const char* name) {
  m.def(
      name,
      [](std::uintptr_t values, int64_t count, uint64_t offset, int width, std::uintptr_t out) {
        pybind11::gil_scoped_release release;
        split(pointer<const T>(values), static_cast<T>(offset), count, width, pointer<uint8_t>(out));
      },
      "Write the `width` lowest bytes of values - offset, plane by plane.", pybind11::arg("values"),
      pybind11::arg("count"), pybind11::arg("offset"), pybind11::arg("width"), pybind11::arg("out"));
}

}  // namespace neuroav

void bind_planes(pybind11::module_& m) {
  neuroav::bind_split<uint8_t>(m, "byte_planes_1");
  neuroav::bind_split<uint16_t>(m, "byte_planes_2");
  neuroav::bind_split<uint32_t>(m, "byte_planes_4");
  neuroav::bind_split<uint64_t>(m, "byte_planes_8");
}
