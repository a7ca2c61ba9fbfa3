// Sequences of leaky integrate-and-fire neurons on a CPU. The arithmetic of a neuron is in common/lif.h; this file only
// loops.
//
// The work is cut into tiles of kTile neurons of one batch row. A tile runs through all steps with its membranes in L1,
// and its inner loop over neurons is vectorised; its size does not depend on the number of threads.
// Gradients that are sums (a threshold or decay that was broadcast) are first summed in double, in a fixed order, into
// one part per task and then over the parts, again in order: every number of threads gives the same bits.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "lif.h"

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
#define NEUROAV_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define NEUROAV_CLONES
#endif
#if defined(__GNUC__) || defined(__clang__)
#define NEUROAV_INTO_CLONE __attribute__((always_inline)) inline
#else
#define NEUROAV_INTO_CLONE inline
#endif

namespace py = pybind11;

namespace {

using namespace neuroav;

constexpr int64_t kTile = 1024;       // neurons; a lane buffer of floats is 4 KiB
constexpr int64_t kBatchGroups = 16;  // tasks that the batch is cut into where gradients are summed over it

using Sizes = std::array<int64_t, 3>;  // over (T, B, N)

// A (T, B, N) tensor: contiguous, or broadcast or strided along T and B with stride 0 or 1 along N.
template <class T>
struct Signal {
  T* data;
  Sizes stride;
  T* row(int64_t t, int64_t b, int64_t n) const {
    return data ? data + t * stride[0] + b * stride[1] + n * stride[2] : nullptr;
  }
};

template <class T>
struct Neurons {
  Sizes size;
  Signal<const T> theta;
  const T* decay;  // (N), or (1) with decay_stride 0
  int64_t decay_stride;
  T v_rest;
};

template <class T>
Signal<T> contiguous(uintptr_t data, const Sizes& size) {
  return {reinterpret_cast<T*>(data), {size[1] * size[2], size[2], 1}};
}

int64_t num_tiles(int64_t neurons) { return (neurons + kTile - 1) / kTile; }

// `count` values from `from`, repeated into `buffer` where the stride is 0.
template <class T>
NEUROAV_INTO_CLONE const T* lanes(const T* from, int64_t stride, int64_t count, T* buffer) {
  if (stride) return from;
  std::fill_n(buffer, count, *from);
  return buffer;
}

// ------------------------------------------------------------------------------------------------------------ forward

template <class T>
struct Forward : Neurons<T> {
  Signal<const T> x;
  Signal<T> spikes, membrane;  // membrane.data may be null
  const T* v0;                 // (B, N)
  T* v;                        // (B, N)
};

template <bool kHard, bool kKeep, class T>
NEUROAV_INTO_CLONE void forward_step(const T* __restrict x, const T* __restrict theta, const T* __restrict decay,
                                     T v_rest, int64_t count, T* __restrict v, T* __restrict spikes,
                                     T* __restrict membrane) {
  for (int64_t i = 0; i < count; ++i) {
    const T h = lif_charge(v[i], x[i], decay[i], v_rest);
    spikes[i] = h >= theta[i] ? T(1) : T(0);
    if (kKeep) membrane[i] = h;
    v[i] = lif_after_reset<kHard>(h, theta[i], v_rest);
  }
}

template <bool kHard, class T>
NEUROAV_INTO_CLONE void forward_tile(const Forward<T>& f, int64_t b, int64_t n, int64_t count) {
  T v[kTile], theta_buffer[kTile], decay_buffer[kTile];
  const int64_t first = b * f.size[2] + n;
  std::copy_n(f.v0 + first, count, v);
  const T* decay = lanes(f.decay + n * f.decay_stride, f.decay_stride, count, decay_buffer);
  for (int64_t t = 0; t < f.size[0]; ++t) {
    const T* theta = lanes(f.theta.row(t, b, n), f.theta.stride[2], count, theta_buffer);
    const T* x = f.x.row(t, b, n);
    T* spikes = f.spikes.row(t, b, n);
    T* membrane = f.membrane.row(t, b, n);
    if (membrane) {
      forward_step<kHard, true>(x, theta, decay, f.v_rest, count, v, spikes, membrane);
    } else {
      forward_step<kHard, false>(x, theta, decay, f.v_rest, count, v, spikes, membrane);
    }
  }
  std::copy_n(v, count, f.v + first);
}

NEUROAV_CLONES void run_tile(const Forward<float>& f, bool hard, int64_t b, int64_t n, int64_t count) {
  hard ? forward_tile<true>(f, b, n, count) : forward_tile<false>(f, b, n, count);
}
NEUROAV_CLONES void run_tile(const Forward<double>& f, bool hard, int64_t b, int64_t n, int64_t count) {
  hard ? forward_tile<true>(f, b, n, count) : forward_tile<false>(f, b, n, count);
}

template <class T>
void forward(const Sizes& size, uintptr_t x, uintptr_t theta, const Sizes& theta_stride, uintptr_t v0, uintptr_t decay,
             int64_t decay_size, double v_rest, bool hard, uintptr_t spikes, uintptr_t v, uintptr_t membrane,
             int threads) {
  py::gil_scoped_release unlocked;
  const Forward<T> f{{size,
                      {reinterpret_cast<const T*>(theta), theta_stride},
                      reinterpret_cast<const T*>(decay),
                      decay_size > 1,
                      static_cast<T>(v_rest)},
                     contiguous<const T>(x, size),
                     contiguous<T>(spikes, size),
                     contiguous<T>(membrane, size),
                     reinterpret_cast<const T*>(v0),
                     reinterpret_cast<T*>(v)};
  const int64_t tiles = num_tiles(size[2]), tasks = size[1] * tiles;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t task = 0; task < tasks; ++task) {
    const int64_t n = task % tiles * kTile;
    run_tile(f, hard, task / tiles, n, std::min(kTile, size[2] - n));
  }
}

// ----------------------------------------------------------------------------------------------------------- backward

// The sum of `count` values in a fixed order: eight running sums that vectorise.
template <class T>
NEUROAV_INTO_CLONE double ordered_sum(const T* values, int64_t count) {
  double sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int64_t lane = 0; lane < 8; ++lane) sums[lane] += values[i + lane];
  }
  for (; i < count; ++i) sums[i % 8] += values[i];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

// A gradient of sizes 1 or full along T, B and N, summed in double over what was broadcast, one part per task that
// shares an element with others; absent where `data` is null, written straight to `data` where nothing is summed.
template <class T>
class BroadcastGrad {
 public:
  BroadcastGrad(uintptr_t data, const Sizes& grad_size, const Sizes& size)
      : data_(reinterpret_cast<T*>(data)), size_(grad_size), direct_(grad_size == size) {
    group_parts_ = grad_size[1] == 1 ? kBatchGroups : 1;
    tile_parts_ = grad_size[2] == 1 ? num_tiles(size[2]) : 1;
    if (data && !direct_) parts_.resize(group_parts_ * tile_parts_ * elements());
  }

  explicit operator bool() const { return data_ != nullptr; }

  // Adds the gradients of `count` neurons from (t, b, n) on.
  NEUROAV_INTO_CLONE void add(int64_t group, int64_t t, int64_t b, int64_t n, int64_t count, const T* values) {
    const int64_t row = ((size_[0] > 1 ? t : 0) * size_[1] + (size_[1] > 1 ? b : 0)) * size_[2];
    if (direct_) {
      std::copy_n(values, count, data_ + row + n);
      return;
    }
    const int64_t part = (group_parts_ > 1 ? group : 0) * tile_parts_ + (tile_parts_ > 1 ? n / kTile : 0);
    double* sums = parts_.data() + part * elements() + row;
    if (size_[2] == 1) {
      *sums += ordered_sum(values, count);
    } else {
      for (int64_t i = 0; i < count; ++i) sums[n + i] += values[i];
    }
  }

  void finish() {
    if (!data_ || direct_) return;
    for (int64_t i = 0; i < elements(); ++i) {
      double sum = 0;
      for (int64_t part = 0; part < group_parts_ * tile_parts_; ++part) sum += parts_[part * elements() + i];
      data_[i] = static_cast<T>(sum);
    }
  }

 private:
  int64_t elements() const { return size_[0] * size_[1] * size_[2]; }

  T* data_;
  Sizes size_;
  bool direct_;
  int64_t group_parts_, tile_parts_;
  std::vector<double> parts_;
};

template <class T>
struct Backward : Neurons<T> {
  Signal<const T> grad_spikes, grad_membrane, x;  // data may be null
  Signal<const T> membrane;
  const T* grad_v;  // (B, N), may be null
  const T* v0;      // (B, N)
  T alpha;
  Signal<T> grad_x;
  T* grad_v0;  // (B, N)
  BroadcastGrad<T>*grad_theta, *grad_decay;
};

struct Options {
  int surrogate;
  bool hard, detach;
};

// One step of one tile, as separate arrays so that the compiler sees that they don't overlap.
template <int kCode, bool kHard, bool kDetach, class T>
NEUROAV_INTO_CLONE void backward_step(const T* __restrict h, const T* __restrict theta, const T* __restrict decay,
                                      T v_rest, T alpha, int64_t count, const T* __restrict grad_spikes,
                                      const T* __restrict grad_h, T* __restrict carry, T* __restrict total,
                                      T* __restrict grad_theta, T* __restrict grad_x) {
  for (int64_t i = 0; i < count; ++i) {
    lif_back<kCode, kHard, kDetach>(h[i], theta[i], v_rest, alpha, grad_spikes[i], grad_h[i], carry[i], total[i],
                                    grad_theta[i]);
    grad_x[i] = total[i] * decay[i];
    carry[i] = total[i] * (1 - decay[i]);
  }
}

template <int kCode, class... Args>
NEUROAV_INTO_CLONE void backward_step(const Options& o, Args... args) {
  if (o.hard) {
    o.detach ? backward_step<kCode, true, true>(args...) : backward_step<kCode, true, false>(args...);
  } else {
    o.detach ? backward_step<kCode, false, true>(args...) : backward_step<kCode, false, false>(args...);
  }
}

template <class... Args>
NEUROAV_INTO_CLONE void backward_step(const Options& o, Args... args) {
  switch (o.surrogate) {
    case kATan: return backward_step<kATan>(o, args...);
    case kSigmoid: return backward_step<kSigmoid>(o, args...);
    case kFastSigmoid: return backward_step<kFastSigmoid>(o, args...);
    default: return backward_step<kTriangle>(o, args...);
  }
}

template <bool kHard, class T>
NEUROAV_INTO_CLONE void reset_all(const T* __restrict h, const T* theta, T v_rest, int64_t count, T* v) {
  for (int64_t i = 0; i < count; ++i) v[i] = lif_after_reset<kHard>(h[i], theta[i], v_rest);
}

// Adds this step's share of the decay's gradient, grad_h * (x - (v - v_rest)), where v is the membrane before the step.
template <class T>
NEUROAV_INTO_CLONE void add_decay_grad(const Backward<T>& f, bool hard, int64_t t, int64_t b, int64_t n, int64_t count,
                                       const T* total, T* buffer, T* __restrict sum) {
  const T* x = f.x.row(t, b, n);
  const T* v = f.v0 + b * f.size[2] + n;
  const T v_rest = f.v_rest;
  if (t > 0) {
    const T* h = f.membrane.row(t - 1, b, n);
    const T* theta = lanes(f.theta.row(t - 1, b, n), f.theta.stride[2], count, buffer);
    hard ? reset_all<true>(h, theta, v_rest, count, buffer) : reset_all<false>(h, theta, v_rest, count, buffer);
    v = buffer;
  }
  for (int64_t i = 0; i < count; ++i) sum[i] += total[i] * (x[i] - (v[i] - v_rest));
}

template <class T>
NEUROAV_INTO_CLONE void backward_tile(const Backward<T>& f, const Options& o, int64_t group, int64_t b, int64_t n,
                                      int64_t count) {
  T carry[kTile], total[kTile], to_theta[kTile], to_decay[kTile];
  T decay_buffer[kTile], theta_buffer[kTile], zeros[kTile];
  const int64_t first = b * f.size[2] + n;
  std::fill_n(zeros, count, T(0));
  std::fill_n(to_decay, count, T(0));
  std::copy_n(f.grad_v ? f.grad_v + first : zeros, count, carry);
  const T* decay = lanes(f.decay + n * f.decay_stride, f.decay_stride, count, decay_buffer);
  for (int64_t t = f.size[0] - 1; t >= 0; --t) {
    const T* theta = lanes(f.theta.row(t, b, n), f.theta.stride[2], count, theta_buffer);
    const T* grad_spikes = f.grad_spikes.data ? f.grad_spikes.row(t, b, n) : zeros;
    const T* grad_h = f.grad_membrane.data ? f.grad_membrane.row(t, b, n) : zeros;
    backward_step(o, f.membrane.row(t, b, n), theta, decay, f.v_rest, f.alpha, count, grad_spikes, grad_h, &carry[0],
                  &total[0], &to_theta[0], f.grad_x.row(t, b, n));
    if (*f.grad_theta) f.grad_theta->add(group, t, b, n, count, to_theta);
    if (*f.grad_decay) add_decay_grad(f, o.hard, t, b, n, count, total, theta_buffer, to_decay);
  }
  if (*f.grad_decay) f.grad_decay->add(group, 0, b, n, count, to_decay);
  std::copy_n(carry, count, f.grad_v0 + first);
}

NEUROAV_CLONES void run_tile(const Backward<float>& f, const Options& o, int64_t group, int64_t b, int64_t n,
                             int64_t count) {
  backward_tile(f, o, group, b, n, count);
}
NEUROAV_CLONES void run_tile(const Backward<double>& f, const Options& o, int64_t group, int64_t b, int64_t n,
                             int64_t count) {
  backward_tile(f, o, group, b, n, count);
}

template <class T>
void backward(const Sizes& size, uintptr_t grad_spikes, uintptr_t grad_v, uintptr_t grad_membrane, uintptr_t x,
              uintptr_t membrane, uintptr_t theta, const Sizes& theta_size, const Sizes& theta_stride, uintptr_t v0,
              uintptr_t decay, int64_t decay_size, double v_rest, bool hard, bool detach, int surrogate, double alpha,
              uintptr_t grad_x, uintptr_t grad_theta, uintptr_t grad_v0, uintptr_t grad_decay, int threads) {
  py::gil_scoped_release unlocked;
  BroadcastGrad<T> to_theta(grad_theta, theta_size, size), to_decay(grad_decay, {1, 1, decay_size}, size);
  const Backward<T> f{{size,
                       {reinterpret_cast<const T*>(theta), theta_stride},
                       reinterpret_cast<const T*>(decay),
                       decay_size > 1,
                       static_cast<T>(v_rest)},
                      contiguous<const T>(grad_spikes, size),
                      contiguous<const T>(grad_membrane, size),
                      contiguous<const T>(x, size),
                      contiguous<const T>(membrane, size),
                      reinterpret_cast<const T*>(grad_v),
                      reinterpret_cast<const T*>(v0),
                      static_cast<T>(alpha),
                      contiguous<T>(grad_x, size),
                      reinterpret_cast<T*>(grad_v0),
                      &to_theta,
                      &to_decay};
  const Options options{surrogate, hard, detach};
  const int64_t tiles = num_tiles(size[2]), tasks = kBatchGroups * tiles;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t task = 0; task < tasks; ++task) {
    const int64_t group = task / tiles, n = task % tiles * kTile;
    const int64_t end = (group + 1) * size[1] / kBatchGroups;
    for (int64_t b = group * size[1] / kBatchGroups; b < end; ++b) {
      run_tile(f, options, group, b, n, std::min(kTile, size[2] - n));
    }
  }
  to_theta.finish();
  to_decay.finish();
}

}  // namespace

void bind_neurons(py::module_& m) {
  m.def("lif_forward_f32", &forward<float>);
  m.def("lif_forward_f64", &forward<double>);
  m.def("lif_backward_f32", &backward<float>);
  m.def("lif_backward_f64", &backward<double>);
}
