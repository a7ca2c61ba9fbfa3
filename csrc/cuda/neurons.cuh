// Sequences of leaky integrate-and-fire neurons on a GPU. The arithmetic of a neuron is in common/lif.h; this file only
// loops.
//
// A thread runs V neighbouring neurons of a batch row through all steps, their membranes in registers: V = 1, or as many
// as 16 bytes of state hold (lif_*_wide: N a multiple of V, all arrays and rows aligned to V values). Memory bounds it,
// so the inputs of the next kAhead steps are on their way before a step's arithmetic, which waits for the step before.
//
// Launch with blocks of kThreads and one warp per row and chunk of 32 V neurons: ceil(B W / kWarps) blocks, where
// W = ceil(N / 32 V); or, with `across`, where a block's warps are neighbouring rows, W ceil(B / kWarps) blocks. The
// backward pass may have fewer, which take turns, so that membranes that are computed again need little memory.
// Arrays are contiguous (T, B, N) or (B, N), but theta and the gradient of the spikes, which have strides, along N 0 or
// 1. Absent arrays are null. Nothing waits for the host, so all of it can be part of a CUDA graph.
// Gradients that are sums come back as parts in double, which the caller sums: (T', B, W) where theta has one value along
// N, else (T', ceil(B / kWarps), N), with `across`. No atomics: every run gives the same bits.
#pragma once

#include "half.h"

namespace {

using namespace neuroav;

constexpr int kWarp = 32, kWarps = 8, kThreads = kWarp * kWarps;
constexpr int kAhead = 2;  // steps; at least 2

// --------------------------------------------------------------------------------------------------- several at a time

template <class T, int V>
struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) Pack {
  T at[V];
};

template <int V, class T>
__device__ Pack<T, V> load(const T* from) {
  return *reinterpret_cast<const Pack<T, V>*>(from);
}
template <int V, class T>
__device__ void store(T* to, const Pack<T, V>& values) {
  *reinterpret_cast<Pack<T, V>*>(to) = values;
}
template <int V, class T>
__device__ Pack<T, V> filled(T value) {
  Pack<T, V> pack;
#pragma unroll
  for (int i = 0; i < V; ++i) pack.at[i] = value;
  return pack;
}
template <int V, class T>
__device__ Pack<T, V> load_or(const T* from, long long at, T otherwise) {
  return from ? load<V>(from + at) : filled<V>(otherwise);
}

__device__ float to_float(float from) { return from; }
__device__ double to_float(double from) { return from; }
template <class X, class S>
struct Narrow {
  static __device__ X from(S value) { return neuroav::from_float<X>(value); }
};
template <class S>
struct Narrow<S, S> {
  static __device__ S from(S value) { return value; }
};

// A (T, B, N) array, seen from the neurons of a thread.
template <class T>
struct Signal {
  const T* data;  // null: zeros
  long long stride_t, stride_b, stride_n;
  __device__ Signal seen_from(long long b, long long n) const {
    return {data ? data + b * stride_b + n * stride_n : nullptr, stride_t, stride_b, stride_n};
  }
  template <int V>
  __device__ Pack<T, V> at(int t) const {
    if (!data) return filled<V>(T{});
    const T* from = data + t * stride_t;
    return stride_n ? load<V>(from) : filled<V>(*from);
  }
};

struct Sizes {
  int t;
  long long b, n;
};

// The neurons of a thread. One that has none keeps its warp and block company, reads nothing and writes nothing.
struct Place {
  long long b, n, chunk, chunks, group;  // the group of rows with `across`
  bool active;
};

template <int V>
__device__ Place place_of(const Sizes& size, bool across, long long block) {
  const long long chunks = (size.n + kWarp * V - 1) / (kWarp * V), warp = threadIdx.x / kWarp;
  const long long unit = block * kWarps + warp, group = block / chunks;
  const long long chunk = (across ? block : unit) % chunks, b = across ? group * kWarps + warp : unit / chunks;
  const long long n = (chunk * kWarp + threadIdx.x % kWarp) * V;
  return {b, n, chunk, chunks, group, b < size.b && n < size.n};
}

// Calls work(i, inputs, inputs of i + 1 where there is an i + 1) for i = 0, 1, ... with inputs = load(i).
template <class Load, class Work>
__device__ void for_each_ahead(int count, const Load& load, const Work& work) {
  decltype(load(0)) ahead[kAhead];
#pragma unroll
  for (int j = 0; j < kAhead; ++j) {
    if (j < count) ahead[j] = load(j);
  }
  for (int first = 0; first < count; first += kAhead) {
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      const int i = first + j;
      if (i < count) {
        const auto now = ahead[j];
        if (i + kAhead < count) ahead[j] = load(i + kAhead);
        work(i, now, ahead[(j + 1) % kAhead]);
      }
    }
  }
}

// ------------------------------------------------------------------------------------------------------------- forward

// What the forward and the backward pass share. X is the type of x and of spikes, S that of the state.
template <class X, class S>
struct Neurons {
  Sizes size;
  Signal<X> x;
  Signal<S> theta;
  const S *v0, *decay;
  long long decay_stride;  // 0 or 1
  const int* left;         // (B, N), or null: none
  S v_rest;
  bool hard, strict, unit_gain;
  int refractory;
  int keep;  // 0: nothing, 1: h of every step, k > 1: v before the steps k, 2k, ...
  __device__ long long plane() const { return size.b * size.n; }
};

template <class S, int V>
struct State {
  Pack<S, V> v;
  Pack<int, V> left;
};

template <class X, class S, int V>
struct Step {
  Pack<X, V> x;
  Pack<S, V> theta;
};

template <int V, class X, class S>
__device__ Pack<S, V> decay_at(const Neurons<X, S>& f, const Place& p) {
  return f.decay_stride ? load<V>(f.decay + p.n) : filled<V>(*f.decay);
}

// Runs steps [from, to). Calls before(t, state) at the start of each, after(t, h, left, fired) before its reset.
template <class X, class S, int V, class Before, class After>
__device__ void run_steps(const Neurons<X, S>& f, const Place& p, int from, int to, State<S, V>& state,
                          const Before& before, const After& after) {
  const Signal<X> x = f.x.seen_from(p.b, p.n);
  const Signal<S> theta = f.theta.seen_from(p.b, p.n);
  const Pack<S, V> decay = decay_at<V>(f, p);
  const auto load_step = [&](int i) {
    return Step<X, S, V>{x.template at<V>(from + i), theta.template at<V>(from + i)};
  };
  for_each_ahead(to - from, load_step, [&](int i, const Step<X, S, V>& step, const Step<X, S, V>&) {
    before(from + i, state);
    const Pack<int, V> left = state.left;
    Pack<S, V> h;
    Pack<bool, V> fired;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const bool resting = left.at[j] > 0;
      const S charged = lif_charge(state.v.at[j], S(to_float(step.x.at[j])), decay.at[j], f.v_rest, f.unit_gain);
      h.at[j] = resting ? state.v.at[j] : charged;
      fired.at[j] = lif_fires(h.at[j], step.theta.at[j], f.strict) && !resting;
      state.left.at[j] = lif_steps_left(left.at[j], fired.at[j], f.refractory);
      state.v.at[j] = lif_after(h.at[j], step.theta.at[j], f.v_rest, fired.at[j], f.hard);
    }
    after(from + i, h, left, fired);
  });
}

template <class X, class S>
struct Outputs {
  X* spikes;
  S* v;
  int* left;
  S* kept;
  int* kept_left;
};

template <int V, class X, class S>
__device__ void forward(const Neurons<X, S>& f, const Outputs<X, S>& out) {
  const Place p = place_of<V>(f.size, false, blockIdx.x);
  if (!p.active) return;
  const long long own = p.b * f.size.n + p.n, plane = f.plane();
  const X one = Narrow<X, S>::from(S(1)), zero = Narrow<X, S>::from(S(0));
  State<S, V> state{load_or<V>(f.v0, own, f.v_rest), load_or<V>(f.left, own, 0)};
  int until = f.keep;  // steps until a state is kept
  long long row = own;
  const auto checkpoint = [&](int, const State<S, V>& now) {
    if (f.keep <= 1) return;
    if (until == 0) {
      store<V>(out.kept + row, now.v);
      if (f.refractory) store<V>(out.kept_left + row, now.left);
      row += plane;
      until = f.keep;
    }
    --until;
  };
  run_steps(f, p, 0, f.size.t, state, checkpoint,
            [&](int t, const Pack<S, V>& h, const Pack<int, V>& left, const Pack<bool, V>& fired) {
              const long long at = t * plane + own;
              Pack<X, V> spikes;
#pragma unroll
              for (int j = 0; j < V; ++j) spikes.at[j] = fired.at[j] ? one : zero;
              store<V>(out.spikes + at, spikes);
              if (f.keep == 1) store<V>(out.kept + at, h);
              if (f.keep == 1 && f.refractory) store<V>(out.kept_left + at, left);
            });
  store<V>(out.v + own, state.v);
  if (f.refractory) store<V>(out.left + own, state.left);
}

// ------------------------------------------------------------------------------------------------------------ backward

// A gradient of theta's or the decay's shape: written whole, or in parts that the caller sums.
template <class S>
struct Sum {
  S* whole;  // null, with parts null as well: not wanted
  double* parts;
  bool each_step, over_b, over_n;  // a row for every step; one value along B, along N
  __device__ explicit operator bool() const { return whole || parts; }
};

// The sum over a warp, in all its lanes and in the same order.
__device__ double warp_sum(double value) {
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
  return value;
}

// Sums over the rows of a block and writes the part; all threads of a block must call it.
template <int V, class Value>
__device__ void put_rows(double* parts, const Sizes& size, const Place& p, long long row, const Value (&values)[V]) {
  __shared__ Value rows[kWarps][kWarp * V];
  for (int j = 0; j < V; ++j) rows[threadIdx.x / kWarp][threadIdx.x % kWarp * V + j] = p.active ? values[j] : Value(0);
  __syncthreads();
  const long long groups = (size.b + kWarps - 1) / kWarps;
  for (int column = threadIdx.x; column < kWarp * V; column += kThreads) {
    const long long n = p.chunk * kWarp * V + column;
    double sum = 0;
    for (int warp = 0; warp < kWarps; ++warp) sum += rows[warp][column];
    if (n < size.n) parts[(row * groups + p.group) * size.n + n] = sum;
  }
  __syncthreads();
}

// Writes a gradient of one step, or of all where it has one row; all threads of a block must call it.
template <int V, class S, class Value>
__device__ void put(const Sum<S>& sum, const Sizes& size, const Place& p, int t, const Value (&values)[V]) {
  const long long row = sum.each_step ? t : 0;
  if (sum.over_n) {
    double own = 0;
    for (int j = 0; j < V; ++j) own += values[j];
    own = warp_sum(p.active ? own : 0.0);
    if (p.active && threadIdx.x % kWarp == 0) sum.parts[(row * size.b + p.b) * p.chunks + p.chunk] = own;
  } else if (sum.over_b) {
    put_rows(sum.parts, size, p, row, values);
  } else if (p.active) {
    Pack<S, V> pack;
    for (int j = 0; j < V; ++j) pack.at[j] = static_cast<S>(values[j]);
    store<V>(sum.whole + (row * size.b + p.b) * size.n + p.n, pack);
  }
}

template <class X, class S>
struct Backward {
  Neurons<X, S> neurons;
  Signal<X> grad_spikes;
  const S *grad_v, *grad_h, *kept;  // each may be null
  const int* kept_left;
  LifBack<S> back;
  int surrogate;
  bool across;
  long long blocks;  // that there would be if none took turns
  X* grad_x;
  S* grad_v0;
  S* h;       // with keep > 1: (min(keep, T), gridDim.x * kThreads * V) to compute membranes in,
  int* left;  // and refractory steps
  Sum<S> theta, decay;
};

// What a step back reads. Lean: no refractory steps, no gradients but those of x and v0, none given for the membranes.
template <class X, class S, int V>
struct BackStep {
  Pack<S, V> h, theta, grad_h;
  Pack<X, V> grad_spikes, x;
  Pack<int, V> left;
};

// The membranes before reset of steps from `first` on, the steps left, and the membrane before `first`.
template <class S, int V>
struct Trace {
  int first;
  long long plane;  // from step to step
  const S* h;
  const int* left;
  Pack<S, V> start;
};

// The membranes of [first, to): those that were kept, or computed again.
template <int V, class X, class S>
__device__ Trace<S, V> trace_of(const Backward<X, S>& f, const Place& p, int first, int to) {
  const Neurons<X, S>& neurons = f.neurons;
  const long long own = p.b * neurons.size.n + p.n, plane = neurons.plane();
  if (!p.active) return {first, 0, nullptr, nullptr, filled<V>(S(0))};
  if (neurons.keep == 1) {
    const int* left = neurons.refractory ? f.kept_left + own : nullptr;
    return {first, plane, f.kept + own, left, load_or<V>(neurons.v0, own, neurons.v_rest)};
  }
  State<S, V> state{load_or<V>(neurons.v0, own, neurons.v_rest), load_or<V>(neurons.left, own, 0)};
  if (first > 0) {
    const long long at = (first / neurons.keep - 1) * plane + own;
    state.v = load<V>(f.kept + at);
    if (neurons.refractory) state.left = load<V>(f.kept_left + at);
  }
  const Pack<S, V> start = state.v;
  const long long threads = gridDim.x * static_cast<long long>(kThreads) * V;
  const long long mine = (blockIdx.x * static_cast<long long>(kThreads) + threadIdx.x) * V;
  run_steps(neurons, p, first, to, state, [](int, const State<S, V>&) {},
            [&](int t, const Pack<S, V>& h, const Pack<int, V>& left, const Pack<bool, V>&) {
              const long long at = (t - first) * threads + mine;
              store<V>(f.h + at, h);
              if (neurons.refractory) store<V>(f.left + at, left);
            });
  return {first, threads, f.h + mine, neurons.refractory ? f.left + mine : nullptr, start};
}

// The gradients of a thread's neurons that go on from step to step.
template <class S, int V>
struct Running {
  Pack<S, V> carry;
  double theta[V], decay[V];
};

template <bool kLean, int kCode, int V, class X, class S>
__device__ void back_steps(const Backward<X, S>& f, const Place& p, const Trace<S, V>& trace, int to,
                           Running<S, V>& running) {
  using Inputs = BackStep<X, S, V>;
  const Neurons<X, S>& neurons = f.neurons;
  const Signal<X> x = neurons.x.seen_from(p.b, p.n), grad_spikes = f.grad_spikes.seen_from(p.b, p.n);
  const Signal<S> theta = neurons.theta.seen_from(p.b, p.n);
  const Pack<S, V> decay = p.active ? decay_at<V>(neurons, p) : filled<V>(S(0));
  const long long own = p.b * neurons.size.n + p.n, plane = neurons.plane();
  const bool decay_wanted = !kLean && f.decay, needs_x = decay_wanted && !neurons.unit_gain;
  const auto load_step = [&](int i) {
    const int t = to - 1 - i;
    const long long at = (t - trace.first) * trace.plane;
    if (!p.active) return Inputs{};
    return Inputs{load<V>(trace.h + at),
                  theta.template at<V>(t),
                  kLean ? filled<V>(S(0)) : load_or<V>(f.grad_h, t * plane + own, S(0)),
                  grad_spikes.template at<V>(t),
                  needs_x ? x.template at<V>(t) : filled<V>(X{}),
                  kLean ? filled<V>(0) : load_or<V>(trace.left, at, 0)};
  };
  for_each_ahead(to - trace.first, load_step, [&](int i, const Inputs& now, const Inputs& earlier) {
    const int t = to - 1 - i;
    Pack<X, V> grad_x;
    S to_theta[V];
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const bool resting = now.left.at[j] > 0;
      S total;
      lif_back<kCode>(f.back, now.h.at[j], now.theta.at[j], resting, S(to_float(now.grad_spikes.at[j])),
                      now.grad_h.at[j], running.carry.at[j], total, to_theta[j]);
      grad_x.at[j] = Narrow<X, S>::from(resting ? S(0) : neurons.unit_gain ? total : total * decay.at[j]);
      running.carry.at[j] = resting ? total : total * (1 - decay.at[j]);
      if (decay_wanted && !resting) {
        const S h = earlier.h.at[j], th = earlier.theta.at[j];
        const bool fired = lif_fires(h, th, neurons.strict) && !(earlier.left.at[j] > 0);
        const S v = t > trace.first ? lif_after(h, th, neurons.v_rest, fired, neurons.hard) : trace.start.at[j];
        const S force = neurons.unit_gain ? neurons.v_rest - v : S(to_float(now.x.at[j])) - (v - neurons.v_rest);
        running.decay[j] += total * force;
      }
      if (!kLean) running.theta[j] += to_theta[j];
    }
    if (p.active) store<V>(f.grad_x + t * plane + own, grad_x);
    if (!kLean && f.theta && f.theta.each_step) put(f.theta, neurons.size, p, t, to_theta);
  });
}

template <bool kLean, int kCode, int V, class X, class S>
__device__ void back(const Backward<X, S>& f, const Place& p) {
  const Sizes size = f.neurons.size;
  const long long own = p.b * size.n + p.n;
  Running<S, V> running{p.active ? load_or<V>(f.grad_v, own, S(0)) : filled<V>(S(0)), {}, {}};
  for (int to = size.t; to > 0;) {
    const int first = f.neurons.keep > 1 ? (to - 1) / f.neurons.keep * f.neurons.keep : 0;
    back_steps<kLean, kCode>(f, p, trace_of<V>(f, p, first, to), to, running);
    to = first;
  }
  if (!kLean && f.theta && !f.theta.each_step) put(f.theta, size, p, 0, running.theta);
  if (!kLean && f.decay) put(f.decay, size, p, 0, running.decay);
  if (p.active && f.grad_v0) store<V>(f.grad_v0 + own, running.carry);
}

template <bool kLean, int kCode, int V, class X, class S>
__device__ void backward(const Backward<X, S>& f) {
  for (long long block = blockIdx.x; block < f.blocks; block += gridDim.x) {
    back<kLean, kCode, V>(f, place_of<V>(f.neurons.size, f.across, block));
  }
}

template <bool kLean, int V, class X, class S>
__device__ void backward(const Backward<X, S>& f) {
  switch (f.surrogate) {
    case kATan: return backward<kLean, kATan, V>(f);
    case kSigmoid: return backward<kLean, kSigmoid, V>(f);
    case kFastSigmoid: return backward<kLean, kFastSigmoid, V>(f);
    default: return backward<kLean, kTriangle, V>(f);
  }
}

}  // namespace

// Every argument takes 8 bytes. The first ones are those of `Neurons`.
#define NEUROAV_NEURONS(X, S)                                                                                          \
  long long steps, long long batch, long long neurons, const X *x, const S *theta, long long theta_t,                  \
      long long theta_b, long long theta_n, const S *v0, const S *decay, long long decay_n, const int *left,           \
      double v_rest, long long hard, long long strict, long long unit_gain, long long refractory, long long keep
#define NEUROAV_NEURONS_OF(X, S)                                                                                       \
  const Neurons<X, S> f{{static_cast<int>(steps), batch, neurons},                                                                       \
                        {x, batch * neurons, neurons, 1},                                                              \
                        {theta, theta_t, theta_b, theta_n},                                                            \
                        v0, decay, decay_n, left, static_cast<S>(v_rest), hard != 0, strict != 0, unit_gain != 0,      \
                        static_cast<int>(refractory), static_cast<int>(keep)}

#define NEUROAV_LIF_KERNELS(NAME, V, X, S)                                                                             \
  extern "C" __global__ void __launch_bounds__(kThreads) lif_forward_##NAME(                                           \
      NEUROAV_NEURONS(X, S), X* spikes, S* v, int* left_after, S* kept, int* kept_left) {                              \
    NEUROAV_NEURONS_OF(X, S);                                                                                          \
    forward<V>(f, Outputs<X, S>{spikes, v, left_after, kept, kept_left});                                              \
  }                                                                                                                    \
  NEUROAV_LIF_BACKWARD(NAME, V, X, S, true)                                                                            \
  NEUROAV_LIF_BACKWARD(NAME##_all, V, X, S, false)
#define NEUROAV_LIF_BACKWARD(NAME, V, X, S, LEAN)                                                                      \
  extern "C" __global__ void __launch_bounds__(kThreads) lif_backward_##NAME(                            \
      NEUROAV_NEURONS(X, S), const X* grad_spikes, long long grad_t, long long grad_b, long long grad_n,               \
      const S* grad_v, const S* grad_h, const S* kept, const int* kept_left, long long detach, long long surrogate,    \
      double alpha, double scale, long long across, long long blocks, X* grad_x, S* grad_v0, S* h, int* h_left, S* grad_theta,           \
      double* theta_parts, long long theta_each_step, long long theta_over_b, long long theta_over_n, S* grad_decay,   \
      double* decay_parts, long long decay_over_b, long long decay_over_n) {                                           \
    NEUROAV_NEURONS_OF(X, S);                                                                                          \
    backward<LEAN, V>(Backward<X, S>{                                                                                     \
        f, {grad_spikes, grad_t, grad_b, grad_n}, grad_v, grad_h, kept, kept_left,                                     \
        {f.v_rest, static_cast<S>(alpha), static_cast<S>(scale), f.hard, f.strict, detach != 0},                       \
        static_cast<int>(surrogate), across != 0, blocks, grad_x, grad_v0, h, h_left,                                          \
        {grad_theta, theta_parts, theta_each_step != 0, theta_over_b != 0, theta_over_n != 0},                         \
        {grad_decay, decay_parts, false, decay_over_b != 0, decay_over_n != 0}});                                      \
  }
