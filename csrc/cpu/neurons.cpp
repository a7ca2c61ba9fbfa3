// Sequences of leaky integrate-and-fire neurons on a CPU. The arithmetic of a neuron is in common/lif.h; this file only
// loops.
//
// The work is cut into tasks, each some batch rows by some neurons, that do not depend on the number of threads. A task
// runs through all steps with its membranes in L2, in blocks of at most kBlock neurons of one row, whose inner loop is
// vectorised. Memory is what bounds it: every input is read once and every output written once, in runs that are long
// enough for the prefetchers; thresholds and decays that are single numbers stay in registers.
// Gradients that are sums (a threshold or decay that was broadcast) are first summed in double, in a fixed order, into
// one part per task and then over the parts, again in order: every number of threads gives the same bits.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "arrays.h"
#include "half.h"
#include "lif.h"
#include "memory.h"

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

constexpr int64_t kTile = 16384;        // neurons of a task at once: membranes of 64 KiB, runs of as much memory
constexpr int64_t kBlock = 1024;        // neurons of an inner loop: its buffers stay in L1
constexpr int64_t kRecomputed = 32768;  // membranes that are computed again at once
constexpr int64_t kMostGroups = 16;     // of batch rows
constexpr int64_t kGroup = 4096;        // neurons that are worth a group of their own
constexpr int64_t kThread = 32768;      // neurons times steps that are worth a thread

using Sizes = std::array<int64_t, 3>;  // over (T, B, N)

// A (T, B, N) tensor with any strides along T and B, and 0 or 1 along N.
template <class T>
struct Signal {
  T* data;
  Sizes stride;
  explicit operator bool() const { return data != nullptr; }
  T* at(int64_t t, int64_t b, int64_t n) const { return data + t * stride[0] + b * stride[1] + n * stride[2]; }
};

template <class T>
Signal<T> contiguous(uintptr_t data, const Sizes& size) {
  return {pointer<T>(data), {size[1] * size[2], size[2], 1}};
}

// What the forward and the backward pass share. X is the type of x and of spikes, S that of the state.
template <class X, class S>
struct Neurons {
  Sizes size;
  Signal<const X> x;
  Signal<const S> theta;
  const S* v0;  // (B, N), or null: v_rest
  const S* decay;
  int64_t decay_stride;  // 0 or 1
  S v_rest;
  bool hard, strict, unit_gain;
  int refractory;
  const int32_t* left;  // (B, N), or null: none
  int64_t keep;         // 0: nothing, 1: h of every step, k > 1: v before the steps k, 2k, ...
  bool lanes() const { return theta.stride[2] != 0 || decay_stride != 0; }
};

// Batch rows [b, b + rows) by neurons [n, n + count).
struct Tile {
  int64_t b, rows, n, count;
};

// How the neurons are cut into tasks: groups of batch rows by chunks of neurons, each worked off in tiles.
struct Plan {
  int64_t batch, neurons, groups, chunk, rows;

  Plan(const Sizes& size, int64_t most) : batch(size[1]), neurons(size[2]) {
    groups = std::clamp(batch * neurons / kGroup, int64_t{1}, std::min(kMostGroups, std::max<int64_t>(batch, 1)));
    chunk = std::min(std::max<int64_t>(neurons, 1), most);
    rows = std::max<int64_t>(most / chunk, 1);
  }
  int64_t chunks() const { return (neurons + chunk - 1) / chunk; }
  int64_t tasks() const { return groups * chunks(); }

  template <class Work>
  void for_each_tile(int64_t task, const Work& work) const {
    const int64_t group = task / chunks(), n = task % chunks() * chunk, end = (group + 1) * batch / groups;
    for (int64_t b = group * batch / groups; b < end; b += rows) {
      work(Tile{b, std::min(rows, end - b), n, std::min(chunk, neurons - n)});
    }
  }

  template <class Work>
  void run(int64_t steps, int threads, const Work& work) const {
    const int64_t worth = steps * batch * neurons / kThread;
    threads = static_cast<int>(std::clamp<int64_t>(worth, 1, std::max(threads, 1)));
    const int64_t count = tasks();
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t task = 0; task < count; ++task) work(task);
  }
};

// `count` values of type S at `from`: where they are, or repeated or converted in `buffer`.
template <class S>
NEUROAV_INTO_CLONE const S* spread(const S* from, int64_t stride, int64_t count, S* buffer) {
  if (stride) return from;
  std::fill_n(buffer, count, *from);
  return buffer;
}
template <class X, class S>
NEUROAV_INTO_CLONE const S* as_state(const X* from, int64_t count, S* buffer) {
  if constexpr (std::is_same_v<X, S>) {
    return from;
  } else {
    for (int64_t i = 0; i < count; ++i) buffer[i] = to_float(from[i]);
    return buffer;
  }
}
template <class X, class S>
NEUROAV_INTO_CLONE S* place_for(X* to, S* buffer) {
  if constexpr (std::is_same_v<X, S>) {
    return to;
  } else {
    return buffer;
  }
}
template <class X, class S>
NEUROAV_INTO_CLONE void put_away(const S* from, int64_t count, X* to) {
  if constexpr (!std::is_same_v<X, S>) {
    for (int64_t i = 0; i < count; ++i) to[i] = from_float<X>(from[i]);
  }
}

// ------------------------------------------------------------------------------------------------------------ forward

// Where a forward pass writes; null where it doesn't.
template <class X, class S>
struct Outputs {
  Signal<X> spikes;
  Signal<S> h;
  Signal<int32_t> left;  // before each step
};

// kLanes: theta and decay are arrays, otherwise their first value is all neurons'.
template <bool kLanes, bool kRests, bool kSpikes, bool kKeep, class S>
NEUROAV_INTO_CLONE void forward_block(bool hard, bool strict, bool unit_gain, int refractory, S v_rest, int64_t count,
                                      const S* __restrict x, const S* __restrict theta, const S* __restrict decay,
                                      S* __restrict v, int32_t* __restrict left, S* __restrict spikes,
                                      S* __restrict kept, int32_t* __restrict kept_left) {
  const S one_theta = *theta, one_decay = *decay;
  for (int64_t i = 0; i < count; ++i) {
    const S th = kLanes ? theta[i] : one_theta;
    S h = lif_charge(v[i], x[i], kLanes ? decay[i] : one_decay, v_rest, unit_gain);
    bool fired = lif_fires(h, th, strict);
    if (kRests) {
      const bool resting = left[i] > 0;
      h = resting ? v[i] : h;
      fired = fired & !resting;
      if (kKeep) kept_left[i] = left[i];
      left[i] = lif_steps_left(left[i], fired, refractory);
    }
    if (kSpikes) spikes[i] = fired ? S(1) : S(0);
    if (kKeep) kept[i] = h;
    const S reset = lif_after_spike(h, th, v_rest, hard);
    v[i] = fired ? reset : h;
  }
}

// Runs the tile through steps [from, to); v and left hold the state of its neurons, row after row.
template <bool kLanes, bool kRests, bool kSpikes, bool kKeep, class X, class S>
NEUROAV_INTO_CLONE void forward_steps(const Neurons<X, S>& f, const Tile& tile, int64_t from, int64_t to, S* v,
                                      int32_t* left, const Outputs<X, S>& out) {
  alignas(64) S x_buffer[kBlock], theta_buffer[kBlock], decay_buffer[kBlock], spike_buffer[kBlock];
  for (int64_t t = from; t < to; ++t) {
    for (int64_t row = 0; row < tile.rows; ++row) {
      for (int64_t start = 0; start < tile.count; start += kBlock) {
        const int64_t b = tile.b + row, n = tile.n + start, own = row * tile.count + start;
        const int64_t count = std::min(kBlock, tile.count - start);
        const S *theta = f.theta.at(t, b, n), *decay = f.decay + n * f.decay_stride;
        if (kLanes) {
          theta = spread(theta, f.theta.stride[2], count, theta_buffer);
          decay = spread(decay, f.decay_stride, count, decay_buffer);
        }
        X* spikes = kSpikes ? out.spikes.at(t, b, n) : nullptr;
        S* spikes_now = kSpikes ? place_for(spikes, spike_buffer) : nullptr;
        forward_block<kLanes, kRests, kSpikes, kKeep>(
            f.hard, f.strict, f.unit_gain, f.refractory, f.v_rest, count, as_state(f.x.at(t, b, n), count, x_buffer),
            theta, decay, v + own, kRests ? left + own : nullptr, spikes_now, kKeep ? out.h.at(t, b, n) : nullptr,
            kKeep && kRests ? out.left.at(t, b, n) : nullptr);
        if (kSpikes) put_away(spikes_now, count, spikes);
      }
    }
  }
}

template <bool kRests, bool kSpikes, bool kKeep, class X, class S>
NEUROAV_INTO_CLONE void forward_steps(const Neurons<X, S>& f, const Tile& tile, int64_t from, int64_t to, S* v,
                                      int32_t* left, const Outputs<X, S>& out) {
  f.lanes() ? forward_steps<true, kRests, kSpikes, kKeep>(f, tile, from, to, v, left, out)
            : forward_steps<false, kRests, kSpikes, kKeep>(f, tile, from, to, v, left, out);
}

// Spikes, spikes and membranes, or membranes alone.
template <class X, class S>
NEUROAV_INTO_CLONE void forward_any(const Neurons<X, S>& f, const Tile& tile, int64_t from, int64_t to, S* v,
                                    int32_t* left, const Outputs<X, S>& out) {
  if (f.refractory) {
    if (!out.h) return forward_steps<true, true, false>(f, tile, from, to, v, left, out);
    if (!out.spikes) return forward_steps<true, false, true>(f, tile, from, to, v, left, out);
    return forward_steps<true, true, true>(f, tile, from, to, v, left, out);
  }
  if (!out.h) return forward_steps<false, true, false>(f, tile, from, to, v, left, out);
  if (!out.spikes) return forward_steps<false, false, true>(f, tile, from, to, v, left, out);
  return forward_steps<false, true, true>(f, tile, from, to, v, left, out);
}

#define NEUROAV_RUN_STEPS(X, S)                                                                                   \
  NEUROAV_CLONES void run_steps(const Neurons<X, S>& f, const Tile& tile, int64_t from, int64_t to, S* v,         \
                                int32_t* left, const Outputs<X, S>& out) {                                        \
    forward_any(f, tile, from, to, v, left, out);                                                                 \
  }
NEUROAV_RUN_STEPS(float, float)
NEUROAV_RUN_STEPS(double, double)
NEUROAV_RUN_STEPS(BFloat16, float)
NEUROAV_RUN_STEPS(Half, float)

// Copies the tile's rows from (B, N) to one after the other; fills them where there is no source.
template <class T>
void gather(const T* from, int64_t neurons, const Tile& tile, T otherwise, T* to) {
  for (int64_t row = 0; row < tile.rows; ++row, to += tile.count) {
    if (from) {
      std::copy_n(from + (tile.b + row) * neurons + tile.n, tile.count, to);
    } else {
      std::fill_n(to, tile.count, otherwise);
    }
  }
}
template <class T>
void scatter(const T* from, int64_t neurons, const Tile& tile, T* to) {
  for (int64_t row = 0; row < tile.rows; ++row, from += tile.count) {
    std::copy_n(from, tile.count, to + (tile.b + row) * neurons + tile.n);
  }
}

// The state of a tile's neurons, and what is kept of it.
template <class S>
struct State {
  Buffer<S> v;
  Buffer<int32_t> left;

  State(const Plan& plan, bool rests) {
    v.reserve(plan.rows * plan.chunk);
    if (rests) left.reserve(plan.rows * plan.chunk);
  }
  void load(const S* from_v, const int32_t* from_left, int64_t neurons, const Tile& tile, S v_rest) {
    gather(from_v, neurons, tile, v_rest, v.data());
    if (left.data()) gather(from_left, neurons, tile, 0, left.data());
  }
  void store(int64_t neurons, const Tile& tile, S* to_v, int32_t* to_left) const {
    scatter(v.data(), neurons, tile, to_v);
    if (left.data()) scatter(left.data(), neurons, tile, to_left);
  }
};

template <class X, class S>
void forward(const Sizes& size, uintptr_t x, uintptr_t theta, const Sizes& theta_stride, uintptr_t v0, uintptr_t decay,
             int64_t decay_size, uintptr_t left, double v_rest, bool hard, bool strict, bool unit_gain, int refractory,
             int64_t keep, uintptr_t spikes, uintptr_t v, uintptr_t left_after, uintptr_t kept, uintptr_t kept_left,
             int threads) {
  py::gil_scoped_release unlocked;
  const Neurons<X, S> f{size, contiguous<const X>(x, size), {pointer<const S>(theta), theta_stride},
                        pointer<const S>(v0), pointer<const S>(decay), decay_size > 1, static_cast<S>(v_rest),
                        hard, strict, unit_gain, refractory, pointer<const int32_t>(left), keep};
  const Outputs<X, S> out{contiguous<X>(spikes, size), contiguous<S>(keep == 1 ? kept : 0, size),
                          contiguous<int32_t>(keep == 1 ? kept_left : 0, size)};
  const int64_t steps = size[0], neurons = size[2], stretch = keep > 1 ? keep : steps, plane = size[1] * neurons;
  const Plan plan(size, kTile);
  plan.run(steps, threads, [&](int64_t task) {
    State<S> state(plan, refractory > 0);
    plan.for_each_tile(task, [&](const Tile& tile) {
      state.load(f.v0, f.left, neurons, tile, f.v_rest);
      for (int64_t t = 0; t < steps; t += stretch) {
        if (t > 0) {
          const int64_t before = (t / keep - 1) * plane;
          state.store(neurons, tile, pointer<S>(kept) + before, pointer<int32_t>(kept_left) + before);
        }
        run_steps(f, tile, t, std::min(t + stretch, steps), state.v.data(), state.left.data(), out);
      }
      state.store(neurons, tile, pointer<S>(v), pointer<int32_t>(left_after));
    });
  });
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
  BroadcastGrad(uintptr_t data, const Sizes& grad_size, const Sizes& size, const Plan& plan)
      : data_(pointer<T>(data)), size_(grad_size), direct_(grad_size == size) {
    group_parts_ = grad_size[1] == 1 ? plan.groups : 1;
    chunk_parts_ = grad_size[2] == 1 ? plan.chunks() : 1;
    if (data && !direct_) parts_.resize(group_parts_ * chunk_parts_ * elements());
  }

  explicit operator bool() const { return data_ != nullptr; }

  // Adds the gradients of `count` neurons from (t, b, n) on, in a task.
  NEUROAV_INTO_CLONE void add(int64_t task, int64_t chunks, int64_t t, int64_t b, int64_t n, int64_t count,
                              const T* values) {
    const int64_t row = ((size_[0] > 1 ? t : 0) * size_[1] + (size_[1] > 1 ? b : 0)) * size_[2];
    if (direct_) {
      std::copy_n(values, count, data_ + row + n);
      return;
    }
    const int64_t group = group_parts_ > 1 ? task / chunks : 0, chunk = chunk_parts_ > 1 ? task % chunks : 0;
    double* sums = parts_.data() + (group * chunk_parts_ + chunk) * elements() + row;
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
      for (int64_t part = 0; part < group_parts_ * chunk_parts_; ++part) sum += parts_[part * elements() + i];
      data_[i] = static_cast<T>(sum);
    }
  }

 private:
  int64_t elements() const { return size_[0] * size_[1] * size_[2]; }

  T* data_;
  Sizes size_;
  bool direct_;
  int64_t group_parts_, chunk_parts_;
  std::vector<double> parts_;
};

template <class X, class S>
struct Backward : Neurons<X, S> {
  Signal<const X> grad_spikes;  // data may be null, here and below
  Signal<const S> grad_h;
  Signal<X> grad_x;
  LifBack<S> back;
  int64_t chunks;
  BroadcastGrad<S>*grad_theta, *grad_decay;
  bool general() const {
    return !back.detach || this->refractory || grad_h || *grad_theta || *grad_decay;
  }
};

// The membranes of steps from `first` on, and what came before them; stored or computed again.
template <class S>
struct Trace {
  int64_t first;
  Signal<const S> h;
  Signal<const int32_t> left;  // data null without refractory steps
  const S* before;             // v before the step `first`, the tile's rows one after the other; for the decay only
};

// One step back of a block. Without kGeneral: reset detached, no refractory steps, no gradients of or to h or theta.
template <int kCode, bool kLanes, bool kGeneral, class S>
NEUROAV_INTO_CLONE void backward_block(const LifBack<S>& shared, bool unit_gain, int64_t count, const S* __restrict h,
                                       const int32_t* __restrict left, const S* __restrict theta,
                                       const S* __restrict decay, const S* __restrict grad_spikes,
                                       const S* __restrict grad_h, S* __restrict carry, S* __restrict grad_x,
                                       S* __restrict totals, S* __restrict to_theta) {
  const S one_theta = *theta, one_decay = *decay;
  LifBack<S> back = shared;
  if (!kGeneral) back.detach = true;
  for (int64_t i = 0; i < count; ++i) {
    const S loss = kLanes ? decay[i] : one_decay;
    const bool resting = kGeneral && left[i] > 0;
    S total, grad_theta;
    lif_back<kCode>(back, h[i], kLanes ? theta[i] : one_theta, resting, grad_spikes[i], kGeneral ? grad_h[i] : S(0),
                    carry[i], total, grad_theta);
    const S to_x = unit_gain ? total : total * loss, to_before = total * (1 - loss);
    grad_x[i] = resting ? S(0) : to_x;
    carry[i] = resting ? total : to_before;
    if (kGeneral) {
      totals[i] = resting ? S(0) : total;
      to_theta[i] = grad_theta;
    }
  }
}

// Adds the decay's gradient of one step: that of h, times the force x - (v - v_rest) that the decay multiplies.
template <class S>
NEUROAV_INTO_CLONE void add_decay_grad(bool unit_gain, S v_rest, int64_t count, const S* __restrict totals,
                                       const S* __restrict x, const S* __restrict v, S* __restrict sum) {
  for (int64_t i = 0; i < count; ++i) {
    const S away = v[i] - v_rest, force = (unit_gain ? S(0) : x[i]) - away;
    sum[i] += totals[i] == 0 ? S(0) : totals[i] * force;
  }
}

template <class X, class S>
NEUROAV_INTO_CLONE void after_reset(const Neurons<X, S>& f, int64_t count, const S* h, const int32_t* left,
                                    const S* theta, S* v) {
  for (int64_t i = 0; i < count; ++i) {
    const bool fired = lif_fires(h[i], theta[i], f.strict) & !(left[i] > 0);
    const S reset = lif_after_spike(h[i], theta[i], f.v_rest, f.hard);
    v[i] = fired ? reset : h[i];
  }
}

// Buffers of a block, and what a block of zeros is read from.
template <class S>
struct Block {
  alignas(64) S grad_spikes[kBlock], grad_x[kBlock], theta[kBlock], decay[kBlock], x[kBlock], before[kBlock];
  alignas(64) S totals[kBlock], to_theta[kBlock], zeros[kBlock];
  alignas(64) int32_t no_steps[kBlock];
  Block() {
    std::fill_n(zeros, kBlock, S(0));
    std::fill_n(no_steps, kBlock, 0);
  }
};

template <class X, class S>
NEUROAV_INTO_CLONE const S* grad_of_spikes(const Backward<X, S>& f, int64_t t, int64_t b, int64_t n, int64_t count,
                                           Block<S>& block) {
  if (!f.grad_spikes) return block.zeros;
  const X* from = f.grad_spikes.at(t, b, n);
  if (f.grad_spikes.stride[2]) return as_state(from, count, block.grad_spikes);
  const S one = *as_state(from, 1, block.grad_spikes);
  return spread(&one, 0, count, block.grad_spikes);
}

template <class X, class S>
NEUROAV_INTO_CLONE void block_decay_grad(const Backward<X, S>& f, const Trace<S>& trace, int64_t t, int64_t b,
                                         int64_t n, int64_t own, int64_t count, Block<S>& block, S* to_decay) {
  const S* before = trace.before + own;
  if (t > trace.first) {
    const S* theta = spread(f.theta.at(t - 1, b, n), f.theta.stride[2], count, block.theta);
    const int32_t* left = trace.left ? trace.left.at(t - 1, b, n) : block.no_steps;
    after_reset(f, count, trace.h.at(t - 1, b, n), left, theta, block.before);
    before = block.before;
  }
  const S* x = f.unit_gain ? block.zeros : as_state(f.x.at(t, b, n), count, block.x);
  add_decay_grad(f.unit_gain, f.v_rest, count, block.totals, x, before, to_decay + own);
}

template <int kCode, bool kLanes, bool kGeneral, class X, class S>
NEUROAV_INTO_CLONE void backward_steps(const Backward<X, S>& f, const Tile& tile, int64_t task, const Trace<S>& trace,
                                       int64_t to, S* carry, S* to_decay) {
  Block<S> block;
  for (int64_t t = to - 1; t >= trace.first; --t) {
    for (int64_t row = 0; row < tile.rows; ++row) {
      for (int64_t start = 0; start < tile.count; start += kBlock) {
        const int64_t b = tile.b + row, n = tile.n + start, own = row * tile.count + start;
        const int64_t count = std::min(kBlock, tile.count - start);
        const S *theta = f.theta.at(t, b, n), *decay = f.decay + n * f.decay_stride;
        if (kLanes) {
          theta = spread(theta, f.theta.stride[2], count, block.theta);
          decay = spread(decay, f.decay_stride, count, block.decay);
        }
        X* grad_x = f.grad_x.at(t, b, n);
        S* grad_x_now = place_for(grad_x, block.grad_x);
        backward_block<kCode, kLanes, kGeneral>(
            f.back, f.unit_gain, count, trace.h.at(t, b, n), trace.left ? trace.left.at(t, b, n) : block.no_steps,
            theta, decay, grad_of_spikes(f, t, b, n, count, block), f.grad_h ? f.grad_h.at(t, b, n) : block.zeros,
            carry + own, grad_x_now, block.totals, block.to_theta);
        put_away(grad_x_now, count, grad_x);
        if (kGeneral && *f.grad_theta) f.grad_theta->add(task, f.chunks, t, b, n, count, block.to_theta);
        if (kGeneral && *f.grad_decay) block_decay_grad(f, trace, t, b, n, own, count, block, to_decay);
      }
    }
  }
}

template <int kCode, class X, class S>
NEUROAV_INTO_CLONE void backward_steps(const Backward<X, S>& f, const Tile& tile, int64_t task, const Trace<S>& trace,
                                       int64_t to, S* carry, S* to_decay) {
  if (f.lanes()) {
    f.general() ? backward_steps<kCode, true, true>(f, tile, task, trace, to, carry, to_decay)
                : backward_steps<kCode, true, false>(f, tile, task, trace, to, carry, to_decay);
  } else {
    f.general() ? backward_steps<kCode, false, true>(f, tile, task, trace, to, carry, to_decay)
                : backward_steps<kCode, false, false>(f, tile, task, trace, to, carry, to_decay);
  }
}

#define NEUROAV_RUN_BACK(NAME, CODE, X, S)                                                                       \
  NEUROAV_CLONES void NAME(const Backward<X, S>& f, const Tile& tile, int64_t task, const Trace<S>& trace,       \
                           int64_t to, S* carry, S* to_decay) {                                                  \
    backward_steps<CODE>(f, tile, task, trace, to, carry, to_decay);                                             \
  }
#define NEUROAV_RUN_BACKS(X, S)                  \
  NEUROAV_RUN_BACK(back_atan, kATan, X, S)       \
  NEUROAV_RUN_BACK(back_sigmoid, kSigmoid, X, S) \
  NEUROAV_RUN_BACK(back_fast, kFastSigmoid, X, S) \
  NEUROAV_RUN_BACK(back_triangle, kTriangle, X, S)
NEUROAV_RUN_BACKS(float, float)
NEUROAV_RUN_BACKS(double, double)
NEUROAV_RUN_BACKS(BFloat16, float)
NEUROAV_RUN_BACKS(Half, float)

template <class X, class S>
void run_back(int surrogate, const Backward<X, S>& f, const Tile& tile, int64_t task, const Trace<S>& trace, int64_t to,
              S* carry, S* to_decay) {
  switch (surrogate) {
    case kATan: return back_atan(f, tile, task, trace, to, carry, to_decay);
    case kSigmoid: return back_sigmoid(f, tile, task, trace, to, carry, to_decay);
    case kFastSigmoid: return back_fast(f, tile, task, trace, to, carry, to_decay);
    default: return back_triangle(f, tile, task, trace, to, carry, to_decay);
  }
}

// A tile's membranes: those kept of every step, or computed again in stretches from those kept of some.
template <class X, class S>
class Membranes {
 public:
  Membranes(const Backward<X, S>& f, const Plan& plan, uintptr_t kept, uintptr_t kept_left)
      : f_(f), kept_(pointer<const S>(kept)), kept_left_(pointer<const int32_t>(kept_left)),
        state_(plan, f.refractory > 0), stretch_(f.keep > 1 ? std::min(f.keep, f.size[0]) : f.size[0]) {
    before_.reserve(plan.rows * plan.chunk);
    if (f.keep == 1) return;
    h_.reserve(stretch_ * plan.rows * plan.chunk);
    if (f.refractory) left_.reserve(stretch_ * plan.rows * plan.chunk);
  }

  int64_t stretch() const { return stretch_; }

  // The membranes of [first, to), first being a multiple of the stretch.
  Trace<S> trace(const Tile& tile, int64_t first, int64_t to) {
    const int64_t neurons = f_.size[2], plane = f_.size[1] * neurons;
    const int64_t row = first > 0 ? (first / stretch_ - 1) * plane : 0;
    state_.load(first > 0 ? kept_ + row : f_.v0, first > 0 ? kept_left_ + row : f_.left, neurons, tile, f_.v_rest);
    std::copy_n(state_.v.data(), tile.rows * tile.count, before_.data());
    if (f_.keep == 1) {
      const Sizes stride{plane, neurons, 1};
      return {first, {kept_, stride}, {f_.refractory ? kept_left_ : nullptr, stride}, before_.data()};
    }
    // As if the buffers held all steps and neurons.
    const Sizes stride{tile.rows * tile.count, tile.count, 1};
    const int64_t origin = first * stride[0] + tile.b * stride[1] + tile.n;
    const Outputs<X, S> out{{nullptr, {}}, {h_.data() - origin, stride}, {left_.data() - origin, stride}};
    run_steps(f_, tile, first, to, state_.v.data(), state_.left.data(), out);
    return {first, {out.h.data, stride}, {f_.refractory ? out.left.data : nullptr, stride}, before_.data()};
  }

 private:
  const Backward<X, S>& f_;
  const S* kept_;
  const int32_t* kept_left_;
  State<S> state_;
  Buffer<S> before_, h_;
  Buffer<int32_t> left_;
  int64_t stretch_;
};

template <class X, class S>
void backward(const Sizes& size, uintptr_t grad_spikes, const Sizes& grad_stride, uintptr_t grad_v,
              uintptr_t grad_membrane, uintptr_t x, uintptr_t kept, uintptr_t kept_left, uintptr_t theta,
              const Sizes& theta_size, const Sizes& theta_stride, uintptr_t v0, uintptr_t decay, int64_t decay_size,
              uintptr_t left, double v_rest, bool hard, bool strict, bool unit_gain, int refractory, bool detach,
              int surrogate, double alpha, double scale, int64_t keep, uintptr_t grad_x, uintptr_t grad_theta,
              uintptr_t grad_v0, uintptr_t grad_decay, int threads) {
  py::gil_scoped_release unlocked;
  const int64_t stretch = std::clamp<int64_t>(keep, 1, std::max<int64_t>(size[0], 1));
  const Plan plan(size, keep > 1 ? std::clamp(kRecomputed / stretch, int64_t{256}, kTile) : kTile);
  BroadcastGrad<S> to_theta(grad_theta, theta_size, size, plan), to_decay(grad_decay, {1, 1, decay_size}, size, plan);
  const Neurons<X, S> neurons{size, contiguous<const X>(x, size), {pointer<const S>(theta), theta_stride},
                              pointer<const S>(v0), pointer<const S>(decay), decay_size > 1, static_cast<S>(v_rest),
                              hard, strict, unit_gain, refractory, pointer<const int32_t>(left), keep};
  const LifBack<S> back{static_cast<S>(v_rest), static_cast<S>(alpha), static_cast<S>(scale), hard, strict, detach};
  const Backward<X, S> f{neurons, {pointer<const X>(grad_spikes), grad_stride}, contiguous<const S>(grad_membrane, size),
                         contiguous<X>(grad_x, size), back, plan.chunks(), &to_theta, &to_decay};
  plan.run(size[0], threads, [&](int64_t task) {
    Membranes<X, S> membranes(f, plan, kept, kept_left);
    Buffer<S> carry, decay_sums;
    carry.reserve(plan.rows * plan.chunk);
    decay_sums.reserve(plan.rows * plan.chunk);
    plan.for_each_tile(task, [&](const Tile& tile) {
      gather(pointer<const S>(grad_v), size[2], tile, S(0), carry.data());
      std::fill_n(decay_sums.data(), tile.rows * tile.count, S(0));
      for (int64_t to = size[0]; to > 0;) {
        const int64_t first = (to - 1) / membranes.stretch() * membranes.stretch();
        run_back(surrogate, f, tile, task, membranes.trace(tile, first, to), to, carry.data(), decay_sums.data());
        to = first;
      }
      if (to_decay) {
        for (int64_t row = 0; row < tile.rows; ++row) {
          to_decay.add(task, plan.chunks(), 0, tile.b + row, tile.n, tile.count, &decay_sums.data()[row * tile.count]);
        }
      }
      if (grad_v0) scatter(carry.data(), size[2], tile, pointer<S>(grad_v0));
    });
  });
  to_theta.finish();
  to_decay.finish();
}

// Memory for a large tensor, which was used before where there is some.
py::array_t<uint8_t> pooled_bytes(int64_t count) {
  Buffer<uint8_t> buffer;
  buffer.reserve(count);
  return give_away(std::move(buffer), count);
}

}  // namespace

void bind_neurons(py::module_& m) {
  m.def("pooled_bytes", &pooled_bytes);
  m.def("lif_forward_float32", &forward<float, float>);
  m.def("lif_forward_float64", &forward<double, double>);
  m.def("lif_forward_bfloat16", &forward<BFloat16, float>);
  m.def("lif_forward_float16", &forward<Half, float>);
  m.def("lif_backward_float32", &backward<float, float>);
  m.def("lif_backward_float64", &backward<double, double>);
  m.def("lif_backward_bfloat16", &backward<BFloat16, float>);
  m.def("lif_backward_float16", &backward<Half, float>);
}
