// Grey frames to events on a CPU, for the ideal camera: what Python calls. The arithmetic of a pixel is in
// common/contrast.h, the walk over the pixels in detect_*.h, and what becomes of the events in sinks.h.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "arrays.h"
#include "bins.h"
#include "detect.h"
#include "detect_avx512.h"
#include "detect_portable.h"
#include "sinks.h"

namespace {

using namespace neuroav;

bool use_avx512() {
#ifdef NEUROAV_HAS_AVX512
  const char* wanted = std::getenv("NEUROAV_SIMD");
  return avx512::supported() && !(wanted != nullptr && std::strcmp(wanted, "portable") == 0);
#else
  return false;
#endif
}

// Calls use(detector) with the fastest one this machine can run, or the portable one if the environment says so.
template <typename Use>
void with_detector(const Clip& clip, const Use& use) {
#ifdef NEUROAV_HAS_AVX512
  if (use_avx512()) {
    avx512::Detector detector(clip);
    return use(detector);
  }
#endif
  portable::Detector detector(clip);
  use(detector);
}

Clip make_clip(std::uintptr_t frames, int64_t num_frames, int64_t height, int64_t width, std::uintptr_t edges_us,
               std::uintptr_t table, int32_t c_on, int32_t c_off, std::uintptr_t reference, std::uintptr_t last) {
  return {pointer<const uint8_t>(frames), pointer<const int64_t>(edges_us), pointer<const int32_t>(table),
          num_frames, height, width, c_on, c_off, pointer<int32_t>(reference), pointer<int32_t>(last)};
}

}  // namespace

void bind_events(pybind11::module_& m) {
  namespace py = pybind11;
  m.def("events_simd", [] { return use_avx512() ? "AVX-512" : "portable"; }, "Which detector of events is in use.");
  py::class_<Clip>(m, "Clip").def(py::init(&make_clip), py::arg("frames"), py::arg("num_frames"), py::arg("height"),
                                  py::arg("width"), py::arg("edges_us"), py::arg("table"), py::arg("c_on"),
                                  py::arg("c_off"), py::arg("reference"), py::arg("last"));
  m.def(
      "brightness",
      [](std::uintptr_t grey, int64_t size, std::uintptr_t table, std::uintptr_t levels, int threads) {
        py::gil_scoped_release release;
        const auto* from = pointer<const uint8_t>(grey);
        const auto* level_of = pointer<const int32_t>(table);
        auto* to = pointer<int32_t>(levels);
        const int useful = static_cast<int>(std::clamp<int64_t>(size >> 16, 1, threads));
#pragma omp parallel for schedule(static) num_threads(useful)
        for (int64_t i = 0; i < size; ++i) to[i] = level_of[from[i]];
      },
      "Write table[grey] of contiguous grey levels.", py::arg("grey"), py::arg("size"), py::arg("table"),
      py::arg("levels"), py::arg("threads"));
  m.def(
      "contrast_events",
      [](const Clip& clip, int threads) {
        EventColumns events;
        {
          py::gil_scoped_release release;
          with_detector(clip, [&](auto& detector) {
            list_events(clip.edges_us, clip.num_frames, clip.num_pixels(), threads, detector, events);
          });
        }
        return py::make_tuple(
            give_away(std::move(events.t_us), events.count), give_away(std::move(events.x), events.count),
            give_away(std::move(events.y), events.count), give_away(std::move(events.p), events.count));
      },
      "Return the events of contiguous frames, sorted; moves the clip's `reference` and `last` in place.",
      py::arg("clip"), py::arg("threads"));
  m.def(
      "contrast_bins",
      [](const Clip& clip, int32_t kind, std::uintptr_t bin_edges_us, int64_t num_edges, int64_t rows, int64_t columns,
         int threads) {
        const BinLayout bins{kind, pointer<const int64_t>(bin_edges_us), num_edges, clip.height, clip.width,
                             rows, columns};
        return new_bins(bins, [&](void* values) {
          with_detector(clip, [&](auto& detector) {
            fill_bins(bins, clip.edges_us, clip.num_frames, true, threads, detector, values);
          });
        });
      },
      "Return the events of contiguous frames in bins, flat; moves the clip's `reference` and `last` in place.",
      py::arg("clip"), py::arg("kind"), py::arg("bin_edges_us"), py::arg("num_edges"), py::arg("rows"),
      py::arg("columns"), py::arg("threads"));
}
