// Sequences of leaky integrate-and-fire neurons on a GPU: one thread per neuron runs through all steps with its
// membrane in a register. The arithmetic of a neuron is in common/lif.h; this file only loops.
//
// Launch with grid (ceil(N / blockDim.x), min(B, 65535)) and a blockDim.x that is a multiple of 32, at most 1024.
// Arrays are contiguous (T, B, N) or (B, N), except theta, which has strides (0 where broadcast) and decay, which has a
// stride of 0 or 1. Absent arrays are null. The backward pass takes the membrane before reset of every step, and where
// neurons rest after a spike the refractory steps left before every step.
// Gradients that are sums come back in parts, which the caller sums in order, so every run gives the same bits:
// grad_theta as (T or 1, B, N or gridDim.x) where theta has size (full or 1) along T and N; grad_decay as (B, N).
#include "lif.h"

namespace {

using namespace neuroav;

struct Sizes {
  long long t, b, n;
};

template <class T>
struct Theta {
  const T* data;
  long long stride_t, stride_b, stride_n;
  __device__ T at(long long t, long long b, long long n) const {
    return data[t * stride_t + b * stride_b + n * stride_n];
  }
};

template <class T>
__device__ T at_or_zero(const T* data, long long i) {
  return data ? data[i] : T(0);
}

// The sum over the threads of a block in a fixed order, in the first thread; every thread must call it.
__device__ double block_sum(double value) {
  __shared__ double warps[32];
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
  __syncthreads();  // the previous call's sums have been read
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  double sum = 0;
  if (threadIdx.x == 0) {
    for (int warp = 0; warp < blockDim.x / 32; ++warp) sum += warps[warp];
  }
  return sum;
}

// What a call fixes for all neurons.
template <class T>
struct Rules {
  T v_rest;
  int hard, strict, unit_gain, refractory;
};

template <class T>
__device__ void forward(Sizes size, const Rules<T>& rules, const T* x, Theta<T> theta, const T* v0, const int* left0,
                        const T* decay, long long decay_stride, T* spikes, T* v_out, int* left_out, T* membrane,
                        int* left_kept) {
  const long long n = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (n >= size.n) return;
  const T leak = decay[n * decay_stride];
  for (long long b = blockIdx.y; b < size.b; b += gridDim.y) {
    T v = v0 ? v0[b * size.n + n] : rules.v_rest;
    int left = left0 ? left0[b * size.n + n] : 0;
    for (long long t = 0; t < size.t; ++t) {
      const long long i = (t * size.b + b) * size.n + n;
      const T th = theta.at(t, b, n);
      const bool resting = rules.refractory && left > 0;
      const T charged = lif_charge(v, x[i], leak, rules.v_rest, rules.unit_gain != 0);
      const T h = resting ? v : charged;
      const bool fired = lif_fires(h, th, rules.strict != 0) && !resting;
      spikes[i] = fired ? T(1) : T(0);
      if (membrane) membrane[i] = h;
      if (left_kept) left_kept[i] = left;
      if (rules.refractory) left = lif_steps_left(left, fired, rules.refractory);
      v = lif_after(h, th, rules.v_rest, fired, rules.hard != 0);
    }
    v_out[b * size.n + n] = v;
    if (left_out) left_out[b * size.n + n] = left;
  }
}

template <class T>
struct Backward {
  Sizes size;
  const T *grad_spikes, *grad_v, *grad_membrane, *x, *membrane;
  const int* left_kept;
  Theta<T> theta;
  const T *v0, *decay;
  long long decay_stride;
  Rules<T> rules;
  T alpha, scale;
  int detach;
  T *grad_x, *grad_theta, *grad_v0, *grad_decay;
};

// Writes one neuron's share of the threshold's gradient, or one block's where theta has a single value along N.
template <class T>
__device__ void put_theta(const Backward<T>& f, long long row, long long n, bool active, double value) {
  if (f.theta.stride_n) {
    if (active) f.grad_theta[row * f.size.n + n] = static_cast<T>(value);
    return;
  }
  const double sum = block_sum(active ? value : 0.0);
  if (threadIdx.x == 0) f.grad_theta[row * gridDim.x + blockIdx.x] = static_cast<T>(sum);
}

// The membrane after the step before `t`.
template <class T>
__device__ T membrane_before(const Backward<T>& f, long long t, long long b, long long n) {
  if (t == 0) return f.v0 ? f.v0[b * f.size.n + n] : f.rules.v_rest;
  const long long i = ((t - 1) * f.size.b + b) * f.size.n + n;
  const T h = f.membrane[i], th = f.theta.at(t - 1, b, n);
  const bool fired = lif_fires(h, th, f.rules.strict != 0) && !(f.left_kept && f.left_kept[i] > 0);
  return lif_after(h, th, f.rules.v_rest, fired, f.rules.hard != 0);
}

template <int kCode, class T>
__device__ void backward(const Backward<T>& f) {
  const long long own = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  const bool active = own < f.size.n;
  const long long n = active ? own : f.size.n - 1;  // idle threads follow the last neuron and write nothing
  const T leak = f.decay[n * f.decay_stride];
  const LifBack<T> back{f.rules.v_rest, f.alpha, f.scale, f.rules.hard != 0, f.rules.strict != 0, f.detach != 0};
  for (long long b = blockIdx.y; b < f.size.b; b += gridDim.y) {
    T carry = at_or_zero(f.grad_v, b * f.size.n + n);
    double theta_sum = 0, decay_sum = 0;
    for (long long t = f.size.t - 1; t >= 0; --t) {
      const long long i = (t * f.size.b + b) * f.size.n + n;
      const bool resting = f.left_kept && f.left_kept[i] > 0;
      T total, to_theta;
      lif_back<kCode>(back, f.membrane[i], f.theta.at(t, b, n), resting, at_or_zero(f.grad_spikes, i),
                      at_or_zero(f.grad_membrane, i), carry, total, to_theta);
      if (active) f.grad_x[i] = resting ? T(0) : f.rules.unit_gain ? total : total * leak;
      if (f.grad_decay && !resting) {
        const T away = membrane_before(f, t, b, n) - f.rules.v_rest;
        decay_sum += total * ((f.rules.unit_gain ? T(0) : f.x[i]) - away);
      }
      if (f.grad_theta && f.theta.stride_t) put_theta(f, t * f.size.b + b, n, active, to_theta);
      theta_sum += to_theta;
      carry = resting ? total : total * (1 - leak);
    }
    if (f.grad_theta && !f.theta.stride_t) put_theta(f, b, n, active, theta_sum);
    if (active && f.grad_v0) f.grad_v0[b * f.size.n + n] = carry;
    if (active && f.grad_decay) f.grad_decay[b * f.size.n + n] = static_cast<T>(decay_sum);
  }
}

template <class T>
__device__ void backward(const Backward<T>& f, int surrogate) {
  switch (surrogate) {
    case kATan: return backward<kATan>(f);
    case kSigmoid: return backward<kSigmoid>(f);
    case kFastSigmoid: return backward<kFastSigmoid>(f);
    default: return backward<kTriangle>(f);
  }
}

}  // namespace

#define NEUROAV_LIF_KERNELS(T, SUFFIX)                                                                                 \
  extern "C" __global__ void lif_forward_##SUFFIX(                                                                     \
      long long steps, long long batch, long long neurons, const T* x, const T* theta, long long stride_t,             \
      long long stride_b, long long stride_n, const T* v0, const int* left0, const T* decay, long long decay_stride,   \
      T v_rest, int hard, int strict, int unit_gain, int refractory, T* spikes, T* v, int* left, T* membrane,          \
      int* left_kept) {                                                                                                \
    forward<T>({steps, batch, neurons}, {v_rest, hard, strict, unit_gain, refractory}, x,                              \
               {theta, stride_t, stride_b, stride_n}, v0, left0, decay, decay_stride, spikes, v, left, membrane,       \
               left_kept);                                                                                             \
  }                                                                                                                    \
  extern "C" __global__ void lif_backward_##SUFFIX(                                                                    \
      long long steps, long long batch, long long neurons, const T* grad_spikes, const T* grad_v,                      \
      const T* grad_membrane, const T* x, const T* membrane, const int* left_kept, const T* theta, long long stride_t, \
      long long stride_b, long long stride_n, const T* v0, const T* decay, long long decay_stride, T v_rest, int hard, \
      int strict, int unit_gain, int refractory, int detach, int surrogate, T alpha, T scale, T* grad_x,               \
      T* grad_theta, T* grad_v0, T* grad_decay) {                                                                      \
    const Backward<T> f{{steps, batch, neurons}, grad_spikes, grad_v, grad_membrane, x, membrane, left_kept,           \
                        {theta, stride_t, stride_b, stride_n}, v0, decay, decay_stride,                                \
                        {v_rest, hard, strict, unit_gain, refractory}, alpha, scale, detach,                           \
                        grad_x, grad_theta, grad_v0, grad_decay};                                                      \
    backward(f, surrogate);                                                                                            \
  }

NEUROAV_LIF_KERNELS(float, f32)
NEUROAV_LIF_KERNELS(double, f64)
