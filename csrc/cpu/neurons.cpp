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
#include "caught.h"
#include "half.h"
#include "lif.h"
#include "memory.h"
#include "neuron_blocks.h"

namespace py = pybind11;

namespace {

using namespace neuroav;

constexpr int64_t kTile = 32768;        // neurons of a task at once: membranes of 128 KiB, runs of as much memory
constexpr int64_t kRecomputed = 32768;  // membranes that are computed again at once
constexpr int64_t kMostParts = 16;      // that a sum over batch rows is cut into
constexpr int64_t kPart = 4096;         // neurons that are worth a part of their own
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
  int64_t steps, batch, neurons, threads, groups, chunk, rows;

  // With `sums`, gradients are summed over tasks, which must not depend on the number of threads then.
  Plan(const Sizes& size, int64_t most, int wanted_threads, bool sums)
      : steps(size[0]), batch(size[1]), neurons(size[2]) {
    const int64_t all = batch * neurons;
    threads = std::clamp<int64_t>(steps * all / kThread, 1, std::max(wanted_threads, 1));
    const int64_t pieces = sums ? std::clamp<int64_t>(all / kPart, 1, kMostParts) : threads;
    groups = std::clamp<int64_t>(batch, 1, pieces);
    const int64_t share = std::max((all + pieces - 1) / pieces, kBlock);
    chunk = std::clamp<int64_t>(neurons, 1, std::min((share + kBlock - 1) / kBlock * kBlock, most));
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
  void run(const Work& work) const {
    const int64_t count = tasks();
    Caught caught;
#pragma omp parallel for schedule(static) num_threads(static_cast<int>(threads)) if (threads > 1)
    for (int64_t task = 0; task < count; ++task) caught.run([&] { work(task); });
    caught.rethrow();
  }
};

// `count` values of type S at `from`: where they are, or repeated or converted in `buffer`.
template <class S>
const S* spread(const S* from, int64_t stride, int64_t count, S* buffer) {
  if (stride) return from;
  std::fill_n(buffer, count, *from);
  return buffer;
}
template <class X, class S>
const S* as_state(const X* from, int64_t count, S* buffer) {
  if constexpr (std::is_same_v<X, S>) {
    return from;
  } else {
    convert(from, count, buffer);
    return buffer;
  }
}
template <class X, class S>
S* place_for(X* to, S* buffer) {
  if constexpr (std::is_same_v<X, S>) {
    return to;
  } else {
    return buffer;
  }
}
template <class X, class S>
void put_away(const S* from, int64_t count, X* to) {
  if constexpr (!std::is_same_v<X, S>) convert(from, count, to);
}

// ------------------------------------------------------------------------------------------------------------ forward

// Where a forward pass writes; null where it doesn't.
template <class X, class S>
struct Outputs {
  Signal<X> spikes;
  Signal<S> h;
  Signal<int32_t> left;  // before each step
};

// Buffers of a block, and what a block of nothing is read from.
template <class S>
struct Buffers {
  alignas(64) S x[2][kBlock], theta[kBlock], decay[kBlock], spikes[2][kBlock];
  alignas(64) S grad_x[kBlock], totals[kBlock], to_theta[kBlock], zeros[kBlock];
  alignas(64) int32_t no_steps[kBlock];
  Buffers() {
    std::fill_n(zeros, kBlock, S(0));
    std::fill_n(no_steps, kBlock, 0);
  }
};

// Calls work(t, b, n, own, count) for the blocks of a tile at step t; `own` is where a block's state is.
template <class Work>
void for_each_block(const Tile& tile, const Work& work) {
  for (int64_t row = 0; row < tile.rows; ++row) {
    for (int64_t start = 0; start < tile.count; start += kBlock) {
      work(tile.b + row, tile.n + start, row * tile.count + start, std::min(kBlock, tile.count - start));
    }
  }
}

// Steps t and t + 1 of a tile without lanes or refractory steps.
template <class X, class S>
void run_pair(const Neurons<X, S>& f, const Tile& tile, int64_t t, S* v, const Outputs<X, S>& out,
              Buffers<S>& buffers) {
  for_each_block(tile, [&](int64_t b, int64_t n, int64_t own, int64_t count) {
    ForwardPair<S> pair{f.hard, f.strict, f.unit_gain, f.v_rest, *f.decay, {}, count, {}, v + own, {}, {}};
    for (int step = 0; step < 2; ++step) {
      pair.theta[step] = *f.theta.at(t + step, b, n);
      pair.x[step] = as_state(f.x.at(t + step, b, n), count, buffers.x[step]);
      pair.spikes[step] = place_for(out.spikes.at(t + step, b, n), buffers.spikes[step]);
      pair.kept[step] = out.h ? out.h.at(t + step, b, n) : nullptr;
    }
    run(pair);
    for (int step = 0; step < 2; ++step) put_away(pair.spikes[step], count, out.spikes.at(t + step, b, n));
  });
}

// One step of a tile.
template <class X, class S>
void run_step(const Neurons<X, S>& f, const Tile& tile, int64_t t, S* v, int32_t* left, const Outputs<X, S>& out,
              Buffers<S>& buffers) {
  const bool lanes = f.lanes() || f.refractory;
  for_each_block(tile, [&](int64_t b, int64_t n, int64_t own, int64_t count) {
    const S *theta = f.theta.at(t, b, n), *decay = f.decay + n * f.decay_stride;
    if (lanes) {
      theta = spread(theta, f.theta.stride[2], count, buffers.theta);
      decay = spread(decay, f.decay_stride, count, buffers.decay);
    }
    X* spikes = out.spikes ? out.spikes.at(t, b, n) : nullptr;
    S* spikes_now = spikes ? place_for(spikes, buffers.spikes[0]) : nullptr;
    run(ForwardBlock<S>{f.hard, f.strict, f.unit_gain, lanes, f.refractory, f.v_rest, count,
                        as_state(f.x.at(t, b, n), count, buffers.x[0]), theta, decay, v + own,
                        left ? left + own : nullptr, spikes_now, out.h ? out.h.at(t, b, n) : nullptr,
                        out.left ? out.left.at(t, b, n) : nullptr});
    if (spikes) put_away(spikes_now, count, spikes);
  });
}

// Runs the tile through steps [from, to); v and left hold the state of its neurons, row after row.
template <class X, class S>
void run_steps(const Neurons<X, S>& f, const Tile& tile, int64_t from, int64_t to, S* v, int32_t* left,
               const Outputs<X, S>& out, Buffers<S>& buffers) {
  const bool pairs = !f.lanes() && !f.refractory && out.spikes;
  int64_t t = from;
  for (; pairs && t + 2 <= to; t += 2) run_pair(f, tile, t, v, out, buffers);
  for (; t < to; ++t) run_step(f, tile, t, v, left, out, buffers);
}

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
  const Plan plan(size, kTile, threads, false);
  plan.run([&](int64_t task) {
    State<S> state(plan, refractory > 0);
    Buffers<S> buffers;
    plan.for_each_tile(task, [&](const Tile& tile) {
      state.load(f.v0, f.left, neurons, tile, f.v_rest);
      for (int64_t t = 0; t < steps; t += stretch) {
        if (t > 0) {
          const int64_t before = (t / keep - 1) * plane;
          state.store(neurons, tile, pointer<S>(kept) + before, pointer<int32_t>(kept_left) + before);
        }
        run_steps(f, tile, t, std::min(t + stretch, steps), state.v.data(), state.left.data(), out,
                  buffers);
      }
      state.store(neurons, tile, pointer<S>(v), pointer<int32_t>(left_after));
    });
  });
}

// ----------------------------------------------------------------------------------------------------------- backward

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
  void add(int64_t task, int64_t chunks, int64_t t, int64_t b, int64_t n, int64_t count, const T* values) {
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
  int surrogate;
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

template <class X, class S>
const S* grad_of_spikes(const Backward<X, S>& f, int64_t t, int64_t b, int64_t n, int64_t count, Buffers<S>& buffers) {
  if (!f.grad_spikes) return buffers.zeros;
  const X* from = f.grad_spikes.at(t, b, n);
  if (f.grad_spikes.stride[2]) return as_state(from, count, buffers.spikes[0]);
  const S one = *as_state(from, 1, buffers.spikes[0]);
  return spread(&one, 0, count, buffers.spikes[0]);
}

// Adds the decay's gradients of a block whose gradients of h are in buffers.totals.
template <class X, class S>
void add_to_decay(const Backward<X, S>& f, const Trace<S>& trace, int64_t t, int64_t b, int64_t n, int64_t own,
                  int64_t count, Buffers<S>& buffers, S* to_decay) {
  const S* x = as_state(f.x.at(t, b, n), count, buffers.x[0]);
  DecayBlock<S> block{f.hard, f.strict, f.unit_gain, f.v_rest, count, buffers.totals, x, nullptr, nullptr, nullptr,
                      nullptr, to_decay + own};
  if (t == trace.first) {
    block.v = trace.before + own;
  } else {
    block.h = trace.h.at(t - 1, b, n);
    block.theta = spread(f.theta.at(t - 1, b, n), f.theta.stride[2], count, buffers.theta);
    block.left = trace.left ? trace.left.at(t - 1, b, n) : buffers.no_steps;
  }
  run(block);
}

// Steps back from `to` to the first of the trace; `carry` and `to_decay` hold gradients of the tile's neurons.
template <class X, class S>
void back_steps(const Backward<X, S>& f, const Tile& tile, int64_t task, const Trace<S>& trace, int64_t to, S* carry,
                S* to_decay, Buffers<S>& buffers) {
  const bool general = f.general(), lanes = f.lanes() || general;
  for (int64_t t = to - 1; t >= trace.first; --t) {
    for_each_block(tile, [&](int64_t b, int64_t n, int64_t own, int64_t count) {
      const S *theta = f.theta.at(t, b, n), *decay = f.decay + n * f.decay_stride;
      if (lanes) {
        theta = spread(theta, f.theta.stride[2], count, buffers.theta);
        decay = spread(decay, f.decay_stride, count, buffers.decay);
      }
      X* grad_x = f.grad_x.at(t, b, n);
      S* grad_x_now = place_for(grad_x, buffers.grad_x);
      run(BackwardBlock<S>{f.back, f.surrogate, f.unit_gain, lanes, general, count, trace.h.at(t, b, n),
                           trace.left ? trace.left.at(t, b, n) : buffers.no_steps, theta, decay,
                           grad_of_spikes(f, t, b, n, count, buffers), f.grad_h ? f.grad_h.at(t, b, n) : buffers.zeros,
                           carry + own, grad_x_now, buffers.totals, buffers.to_theta});
      put_away(grad_x_now, count, grad_x);
      if (*f.grad_theta) f.grad_theta->add(task, f.chunks, t, b, n, count, buffers.to_theta);
      if (*f.grad_decay) add_to_decay(f, trace, t, b, n, own, count, buffers, to_decay);
    });
  }
}

// A tile's membranes: those kept of every step, or computed again in stretches from those kept of some.
template <class X, class S>
class Membranes {
 public:
  Membranes(const Backward<X, S>& f, const Plan& plan, uintptr_t kept, uintptr_t kept_left)
      : f_(f), kept_(pointer<const S>(kept)), kept_left_(pointer<const int32_t>(kept_left)),
        state_(plan, f.refractory > 0), stretch_(f.keep > 1 ? std::min(f.keep, f.size[0]) : f.size[0]) {
    if (*f.grad_decay) before_.reserve(plan.rows * plan.chunk);
    if (f.keep == 1) return;
    h_.reserve(stretch_ * plan.rows * plan.chunk);
    if (f.refractory) left_.reserve(stretch_ * plan.rows * plan.chunk);
  }

  int64_t stretch() const { return stretch_; }

  // The membranes of [first, to), first being a multiple of the stretch.
  Trace<S> trace(const Tile& tile, int64_t first, int64_t to, Buffers<S>& buffers) {
    const int64_t neurons = f_.size[2], plane = f_.size[1] * neurons;
    const int64_t row = first > 0 ? (first / stretch_ - 1) * plane : 0;
    state_.load(first > 0 ? kept_ + row : f_.v0, first > 0 ? kept_left_ + row : f_.left, neurons, tile, f_.v_rest);
    if (before_.data()) std::copy_n(state_.v.data(), tile.rows * tile.count, before_.data());
    if (f_.keep == 1) {
      const Sizes stride{plane, neurons, 1};
      return {first, {kept_, stride}, {f_.refractory ? kept_left_ : nullptr, stride}, before_.data()};
    }
    // As if the buffers held all steps and neurons.
    const Sizes stride{tile.rows * tile.count, tile.count, 1};
    const int64_t origin = first * stride[0] + tile.b * stride[1] + tile.n;
    const Outputs<X, S> out{
        {nullptr, {}}, {h_.data() - origin, stride}, {f_.refractory ? left_.data() - origin : nullptr, stride}};
    run_steps(f_, tile, first, to, state_.v.data(), state_.left.data(), out, buffers);
    return {first, {out.h.data, stride}, {out.left.data, stride}, before_.data()};
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
  const bool sums = (grad_theta && theta_size != size) || grad_decay;
  const Plan plan(size, keep > 1 ? std::clamp(kRecomputed / stretch, kBlock, kTile) : kTile, threads, sums);
  BroadcastGrad<S> to_theta(grad_theta, theta_size, size, plan), to_decay(grad_decay, {1, 1, decay_size}, size, plan);
  const Neurons<X, S> neurons{size, contiguous<const X>(x, size), {pointer<const S>(theta), theta_stride},
                              pointer<const S>(v0), pointer<const S>(decay), decay_size > 1, static_cast<S>(v_rest),
                              hard, strict, unit_gain, refractory, pointer<const int32_t>(left), keep};
  const LifBack<S> back{static_cast<S>(v_rest), static_cast<S>(alpha), static_cast<S>(scale), hard, strict, detach};
  const Backward<X, S> f{neurons,
                         {pointer<const X>(grad_spikes), grad_stride},
                         contiguous<const S>(grad_membrane, size),
                         contiguous<X>(grad_x, size), back, surrogate, plan.chunks(), &to_theta, &to_decay};
  plan.run([&](int64_t task) {
    Membranes<X, S> membranes(f, plan, kept, kept_left);
    Buffers<S> buffers;
    Buffer<S> carry, decay_sums;
    carry.reserve(plan.rows * plan.chunk);
    decay_sums.reserve(plan.rows * plan.chunk);
    plan.for_each_tile(task, [&](const Tile& tile) {
      gather(pointer<const S>(grad_v), size[2], tile, S(0), carry.data());
      std::fill_n(decay_sums.data(), tile.rows * tile.count, S(0));
      for (int64_t to = size[0]; to > 0;) {
        const int64_t first = (to - 1) / membranes.stretch() * membranes.stretch();
        const Trace<S> trace = membranes.trace(tile, first, to, buffers);
        back_steps(f, tile, task, trace, to, carry.data(), decay_sums.data(), buffers);
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
