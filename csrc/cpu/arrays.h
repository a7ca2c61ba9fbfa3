// What passes between Python and C++: addresses in, arrays that own their memory out.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <utility>

#include "bins.h"
#include "kinds.h"
#include "memory.h"

namespace neuroav {

template <typename T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// An array that owns the buffer's memory.
template <typename T>
pybind11::array_t<T> give_away(Buffer<T>&& buffer, int64_t count) {
  auto* owner = new Buffer<T>(std::move(buffer));
  pybind11::capsule capsule(owner, [](void* owned) { delete static_cast<Buffer<T>*>(owned); });
  return pybind11::array_t<T>(count, owner->data(), capsule);
}

// The values (T, P, rows, columns) of bins as a flat array, which `fill` writes all of, without Python's lock.
template <typename Fill>
pybind11::array new_bins(const BinLayout& bins, const Fill& fill) {
  const int64_t size = bin_steps(bins) * plane_size(bins);
  const auto filled = [&](auto buffer) -> pybind11::array {
    {
      pybind11::gil_scoped_release release;
      buffer.reserve(size);
      fill(static_cast<void*>(buffer.data()));
    }
    return give_away(std::move(buffer), size);
  };
  if (bins.kind == BINS_COUNTS) return filled(Buffer<Count::Value>());
  return filled(Buffer<Voxel::Value>());  // as Latest::Value
}

}  // namespace neuroav
