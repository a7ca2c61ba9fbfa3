// Linear layer and spiking neurons in one pass, for spikes in: only the weights of inputs that fired are read, so the
// work falls with the spike rate. Inference only. The arithmetic of a neuron is in common/lif.h.
//
// Neurons are cut into tiles of kTile, whose weights lie together, one row of kTile per input. For each tile and sample
// the inputs that fired at a step are summed in registers, with several running sums because an addition takes some
// cycles, and the membranes go straight on from there; no current is stored. The order of the sums depends on the
// spikes alone: every number of threads and every instruction set gives the same bits.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "arrays.h"
#include "clones.h"
#include "lif.h"
#include "memory.h"

namespace py = pybind11;

namespace {

using namespace neuroav;

constexpr int64_t kTile = 32;               // neurons whose weights lie together
constexpr int kSums = 2;                    // running sums of a neuron
constexpr int64_t kInputsAtOnce = 1 << 18;  // of a group of samples, whose lists stay in cache
constexpr int64_t kWorthThreads = 1 << 20;  // additions

#if defined(__GNUC__) || defined(__clang__)
constexpr int kLanes = 16;
typedef float Lanes __attribute__((vector_size(4 * kLanes)));
#else
constexpr int kLanes = 1;
typedef float Lanes;
#endif
constexpr int kParts = kTile / kLanes;

NEUROAV_INTO_CLONE void load(Lanes& lanes, const float* from) { std::memcpy(&lanes, from, sizeof(Lanes)); }
NEUROAV_INTO_CLONE void store(float* to, const Lanes& lanes) { std::memcpy(to, &lanes, sizeof(Lanes)); }

struct Layer {
  int64_t steps, batch, inputs, neurons;
  const float *columns, *bias;  // (tiles, inputs, kTile), (N)
  const float* theta;
  std::array<int64_t, 3> theta_stride;
  const float *v0, *decay;  // (B, N); (N), or (1) with decay_stride 0
  int64_t decay_stride;
  float v_rest;
  int options;  // of Options
  int32_t refractory;
  const int32_t* left0;  // (B, N), may be null
  float *spikes, *v;     // (T, B, N), (B, N)
  int32_t* left;         // (B, N), null where nothing is refractory
};

// ------------------------------------------------------------------------------------------------ inputs that fired

struct Places {
  uint8_t of[256][8];  // the places of the bits of a byte, lowest first
  constexpr Places() : of() {
    for (int mask = 0; mask < 256; ++mask) {
      int found = 0;
      for (int bit = 0; bit < 8; ++bit) {
        if (mask >> bit & 1) of[mask][found++] = static_cast<uint8_t>(bit);
      }
    }
  }
};
constexpr Places kPlaces;

inline int num_bits(unsigned mask) {
#if defined(__GNUC__)
  return __builtin_popcount(mask);
#else
  int bits = 0;
  for (; mask; mask &= mask - 1) ++bits;
  return bits;
#endif
}

// Writes the indices of the inputs that fired, and up to 7 values more; returns where they end.
template <class Spike>
NEUROAV_INTO_CLONE int32_t* list_fired(const Spike* spikes, int64_t count, int32_t* to, bool& binary) {
  constexpr int64_t kBlock = 64;
  unsigned odd = 0;
  for (int64_t start = 0; start < count; start += kBlock) {
    uint8_t fired[kBlock];
    const int64_t size = std::min(kBlock, count - start);
    if (size == kBlock) {
      for (int64_t i = 0; i < kBlock; ++i) {
        const Spike s = spikes[start + i];
        fired[i] = s != Spike(0);
        odd |= (s != Spike(0)) & (s != Spike(1));
      }
    } else {
      std::memset(fired, 0, kBlock);
      for (int64_t i = 0; i < size; ++i) {
        const Spike s = spikes[start + i];
        fired[i] = s != Spike(0);
        odd |= (s != Spike(0)) & (s != Spike(1));
      }
    }
    for (int64_t group = 0; group < size; group += 8) {
      uint64_t flags;  // eight bytes of 0 or 1, gathered into eight bits by one product
      std::memcpy(&flags, fired + group, 8);
      const unsigned mask = static_cast<unsigned>((flags * 0x0102040810204080ull) >> 56);
      const int32_t base = static_cast<int32_t>(start + group);
      for (int i = 0; i < 8; ++i) to[i] = base + kPlaces.of[mask][i];
      to += num_bits(mask);
    }
  }
  binary = binary && odd == 0;
  return to;
}

// Of one sample: the inputs that fired at step t are fired[begin[t]] up to fired[begin[t + 1]].
struct Fired {
  int64_t* begin;
  int32_t* fired;
};

template <class Spike>
NEUROAV_INTO_CLONE bool list_sample(const Layer& layer, const Spike* spikes, int64_t b, const Fired& lists) {
  bool binary = true;
  int32_t* to = lists.fired;
  lists.begin[0] = 0;
  for (int64_t t = 0; t < layer.steps; ++t) {
    to = list_fired(spikes + (t * layer.batch + b) * layer.inputs, layer.inputs, to, binary);
    lists.begin[t + 1] = to - lists.fired;
  }
  return binary;
}

NEUROAV_CLONES bool list_inputs(const Layer& layer, const float* spikes, int64_t b, const Fired& lists) {
  return list_sample(layer, spikes, b, lists);
}
NEUROAV_CLONES bool list_inputs(const Layer& layer, const uint8_t* spikes, int64_t b, const Fired& lists) {
  return list_sample(layer, spikes, b, lists);
}

// ------------------------------------------------------------------------------------------------------------ a tile

// `current` becomes bias plus the weights of the inputs that fired.
NEUROAV_INTO_CLONE void sum_weights(const float* columns, const int32_t* fired, int64_t count, const float* bias,
                                    float* current) {
  Lanes sums[kSums][kParts];
  for (int part = 0; part < kParts; ++part) {
    load(sums[0][part], bias + part * kLanes);
    for (int s = 1; s < kSums; ++s) sums[s][part] = Lanes{};
  }
  int64_t i = 0;
  for (; i + kSums <= count; i += kSums) {
    for (int s = 0; s < kSums; ++s) {
      const float* row = columns + fired[i + s] * kTile;
      for (int part = 0; part < kParts; ++part) {
        Lanes weights;
        load(weights, row + part * kLanes);
        sums[s][part] += weights;
      }
    }
  }
  for (; i < count; ++i) {  // at most kSums - 1
    const float* row = columns + fired[i] * kTile;
    for (int part = 0; part < kParts; ++part) {
      Lanes weights;
      load(weights, row + part * kLanes);
      sums[0][part] += weights;
    }
  }
  for (int part = 0; part < kParts; ++part) {
    Lanes total = sums[0][part];
    for (int s = 1; s < kSums; ++s) total += sums[s][part];
    store(current + part * kLanes, total);
  }
}

// The neurons of a tile on their way through the steps.
struct Neurons {
  float v_rest, decay[kTile], v[kTile];
  int32_t refractory, left[kTile];
};

enum Options { kHard = 1, kStrict = 2, kUnitGain = 4, kRefractory = 8 };

template <int kOptions>
NEUROAV_INTO_CLONE void step(const float* current, const float* theta, Neurons& neurons, float* spikes) {
  const float v_rest = neurons.v_rest;
  for (int64_t i = 0; i < kTile; ++i) {
    const float v = neurons.v[i], x = current[i], decay = neurons.decay[i];
    float h = lif_charge(v, x, decay, v_rest, (kOptions & kUnitGain) != 0);
    bool fired = lif_fires(h, theta[i], (kOptions & kStrict) != 0);
    if (kOptions & kRefractory) {
      const int32_t left = neurons.left[i];
      h = left > 0 ? v : h;
      fired = fired & (left <= 0);
      neurons.left[i] = lif_steps_left(left, fired, neurons.refractory);
    }
    spikes[i] = fired ? 1.0f : 0.0f;
    neurons.v[i] = lif_after(h, theta[i], v_rest, fired, (kOptions & kHard) != 0);
  }
}

// The step of options known at run time.
template <int kOptions = kHard + kStrict + kUnitGain + kRefractory>
NEUROAV_INTO_CLONE void step(int options, const float* current, const float* theta, Neurons& neurons, float* spikes) {
  if (options == kOptions) {
    step<kOptions>(current, theta, neurons, spikes);
  } else if constexpr (kOptions > 0) {
    step<kOptions - 1>(options, current, theta, neurons, spikes);
  }
}

// `size` values from `from`, or the first of them as often; the rest of `to` is 0.
NEUROAV_INTO_CLONE void spread(const float* from, int64_t stride, int64_t size, float* to) {
  if (stride == 0) {
    std::fill_n(to, kTile, *from);
  } else if (size == kTile) {
    std::memcpy(to, from, kTile * sizeof(float));
  } else {
    std::fill(std::copy_n(from, size, to), to + kTile, 0.0f);
  }
}

NEUROAV_CLONES void run_tile(const Layer& layer, int64_t b, int64_t tile, const Fired& lists) {
  const int64_t n = tile * kTile, size = std::min(kTile, layer.neurons - n), at = b * layer.neurons + n;
  const float* columns = layer.columns + tile * layer.inputs * kTile;
  float bias[kTile], current[kTile], theta[kTile], spikes[kTile];
  Neurons neurons{layer.v_rest, {}, {}, layer.refractory, {}};
  spread(layer.bias + n, 1, size, bias);
  spread(layer.decay + n * layer.decay_stride, layer.decay_stride, size, neurons.decay);
  spread(layer.v0 + at, 1, size, neurons.v);
  if (layer.left0) std::copy_n(layer.left0 + at, size, neurons.left);
  const auto& stride = layer.theta_stride;
  for (int64_t t = 0; t < layer.steps; ++t) {
    sum_weights(columns, lists.fired + lists.begin[t], lists.begin[t + 1] - lists.begin[t], bias, current);
    spread(layer.theta + t * stride[0] + b * stride[1] + n * stride[2], stride[2], size, theta);
    step(layer.options, current, theta, neurons, spikes);
    std::memcpy(layer.spikes + (t * layer.batch + b) * layer.neurons + n, spikes, size * sizeof(float));
  }
  std::memcpy(layer.v + at, neurons.v, size * sizeof(float));
  if (layer.left) std::copy_n(neurons.left, size, layer.left + at);
}

// --------------------------------------------------------------------------------------------------------- the layer

// Returns false, with the outputs unfinished, if an input is neither 0 nor 1.
template <class Spike>
bool run(const Layer& layer, const Spike* spikes, int threads) {
  const int64_t tiles = (layer.neurons + kTile - 1) / kTile, per_sample = layer.steps * layer.inputs;
  const int64_t at_once = std::clamp<int64_t>(kInputsAtOnce / std::max<int64_t>(per_sample, 1), 1, layer.batch);
  Buffer<int64_t> begins;
  Buffer<int32_t> fired;
  begins.reserve(at_once * (layer.steps + 1));
  fired.reserve(at_once * (per_sample + 8));
  const auto lists = [&](int64_t sample) -> Fired {
    return {begins.data() + sample * (layer.steps + 1), fired.data() + sample * (per_sample + 8)};
  };
  bool binary = true;
  for (int64_t first = 0; first < layer.batch && binary; first += at_once) {
    const int64_t samples = std::min(at_once, layer.batch - first), tasks = samples * tiles;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(&& : binary) if (threads > 1 && samples > 1)
    for (int64_t s = 0; s < samples; ++s) binary = list_inputs(layer, spikes, first + s, lists(s)) && binary;
    if (!binary) break;
    int64_t sums = 0;
    for (int64_t s = 0; s < samples; ++s) sums += lists(s).begin[layer.steps] * layer.neurons;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && sums > kWorthThreads)
    for (int64_t task = 0; task < tasks; ++task) {
      run_tile(layer, first + task % samples, task / samples, lists(task % samples));
    }
  }
  return binary;
}

bool sparse_linear_lif(const std::array<int64_t, 4>& size, uintptr_t spikes, bool is_float, uintptr_t columns,
                       uintptr_t bias, uintptr_t theta, const std::array<int64_t, 3>& theta_stride, uintptr_t v0,
                       uintptr_t decay, int64_t decay_size, uintptr_t left0, double v_rest, bool hard, bool strict,
                       bool unit_gain, int32_t refractory, uintptr_t out, uintptr_t v, uintptr_t left, int threads) {
  py::gil_scoped_release unlocked;
  const int options = hard * kHard + strict * kStrict + unit_gain * kUnitGain + (refractory > 0) * kRefractory;
  const Layer layer{size[0], size[1], size[2], size[3], pointer<const float>(columns), pointer<const float>(bias),
                    pointer<const float>(theta), theta_stride, pointer<const float>(v0), pointer<const float>(decay),
                    decay_size > 1, static_cast<float>(v_rest), options, refractory, pointer<const int32_t>(left0),
                    pointer<float>(out), pointer<float>(v), pointer<int32_t>(left)};
  return is_float ? run(layer, pointer<const float>(spikes), threads)
                  : run(layer, pointer<const uint8_t>(spikes), threads);
}

}  // namespace

void bind_sparse(py::module_& m) {
  m.attr("sparse_tile") = kTile;
  m.def("sparse_linear_lif", &sparse_linear_lif);
}
