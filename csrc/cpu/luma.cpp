// Luma from a decoder's plane to grey: limited range 16..235 is stretched to 0..255 while it is copied.
//
// grey = clip(floor((Y - 16) 255 / 219 + 1/2), 0, 255); the quotient n / 219 is n * 19152 >> 22, exact for all n used.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>

#include "clones.h"

namespace {

NEUROAV_CLONES void stretch_row(const uint8_t* luma, uint8_t* grey, int64_t width) {
  for (int64_t x = 0; x < width; ++x) {
    const uint32_t level = std::min(std::max(static_cast<uint32_t>(luma[x]), 16u) - 16u, 219u);
    grey[x] = static_cast<uint8_t>(((level * 255u + 109u) * 19152u) >> 22);
  }
}

}  // namespace

void bind_luma(pybind11::module_& m) {
  namespace py = pybind11;
  m.def(
      "stretch_luma",
      [](std::uintptr_t luma, int64_t stride, int64_t height, int64_t width, std::uintptr_t grey) {
        py::gil_scoped_release release;
        for (int64_t y = 0; y < height; ++y) {
          stretch_row(reinterpret_cast<const uint8_t*>(luma) + y * stride, reinterpret_cast<uint8_t*>(grey) + y * width,
                      width);
        }
      },
      "Stretch limited-range luma (rows `stride` bytes apart) into contiguous grey.", py::arg("luma"),
      py::arg("stride"), py::arg("height"), py::arg("width"), py::arg("grey"));
}
