// Sequences of leaky integrate-and-fire neurons on a GPU: one thread per neuron runs through all steps with its
// membrane in a register. The arithmetic of a neuron is in common/lif.h; this file only loops.
//
// Launch with grid (ceil(N / blockDim.x), min(B, 65535)) and a blockDim.x that is a multiple of 32, at most 1024.
// Arrays are contiguous (T, B, N) or (B, N), except theta, which has strides (0 where broadcast) and decay, which has a
// stride of 0 or 1. Absent arrays are null.
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

template <bool kHard, class T>
__device__ void forward(Sizes size, const T* x, Theta<T> theta, const T* v0, const T* decay, long long decay_stride,
                        T v_rest, T* spikes, T* v_out, T* membrane) {
  const long long n = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (n >= size.n) return;
  const T leak = decay[n * decay_stride];
  for (long long b = blockIdx.y; b < size.b; b += gridDim.y) {
    T v = v0[b * size.n + n];
    for (long long t = 0; t < size.t; ++t) {
      const long long i = (t * size.b + b) * size.n + n;
      const T th = theta.at(t, b, n);
      const T h = lif_charge(v, x[i], leak, v_rest);
      spikes[i] = h >= th ? T(1) : T(0);
      if (membrane) membrane[i] = h;
      v = lif_after_reset<kHard>(h, th, v_rest);
    }
    v_out[b * size.n + n] = v;
  }
}

template <class T>
struct Backward {
  Sizes size;
  const T *grad_spikes, *grad_v, *grad_membrane, *x, *membrane;
  Theta<T> theta;
  const T *v0, *decay;
  long long decay_stride;
  T v_rest, alpha;
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

template <int kCode, bool kHard, bool kDetach, class T>
__device__ void backward(const Backward<T>& f) {
  const long long own = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  const bool active = own < f.size.n;
  const long long n = active ? own : f.size.n - 1;  // idle threads follow the last neuron and write nothing
  const T leak = f.decay[n * f.decay_stride];
  for (long long b = blockIdx.y; b < f.size.b; b += gridDim.y) {
    T carry = at_or_zero(f.grad_v, b * f.size.n + n);
    double theta_sum = 0, decay_sum = 0;
    for (long long t = f.size.t - 1; t >= 0; --t) {
      const long long i = (t * f.size.b + b) * f.size.n + n;
      T total, to_theta;
      lif_back<kCode, kHard, kDetach>(f.membrane[i], f.theta.at(t, b, n), f.v_rest, f.alpha,
                                      at_or_zero(f.grad_spikes, i), at_or_zero(f.grad_membrane, i), carry, total,
                                      to_theta);
      if (active) f.grad_x[i] = total * leak;
      if (f.x) {
        const long long before = i - f.size.b * f.size.n;
        const T v = t > 0 ? lif_after_reset<kHard>(f.membrane[before], f.theta.at(t - 1, b, n), f.v_rest)
                          : f.v0[b * f.size.n + n];
        decay_sum += total * (f.x[i] - (v - f.v_rest));
      }
      if (f.grad_theta && f.theta.stride_t) put_theta(f, t * f.size.b + b, n, active, to_theta);
      theta_sum += to_theta;
      carry = total * (1 - leak);
    }
    if (f.grad_theta && !f.theta.stride_t) put_theta(f, b, n, active, theta_sum);
    if (active) f.grad_v0[b * f.size.n + n] = carry;
    if (active && f.x) f.grad_decay[b * f.size.n + n] = static_cast<T>(decay_sum);
  }
}

template <int kCode, class T>
__device__ void backward(const Backward<T>& f, bool hard, bool detach) {
  if (hard) {
    detach ? backward<kCode, true, true>(f) : backward<kCode, true, false>(f);
  } else {
    detach ? backward<kCode, false, true>(f) : backward<kCode, false, false>(f);
  }
}

template <class T>
__device__ void backward(const Backward<T>& f, int surrogate, bool hard, bool detach) {
  switch (surrogate) {
    case kATan: return backward<kATan>(f, hard, detach);
    case kSigmoid: return backward<kSigmoid>(f, hard, detach);
    case kFastSigmoid: return backward<kFastSigmoid>(f, hard, detach);
    default: return backward<kTriangle>(f, hard, detach);
  }
}

}  // namespace

#define NEUROAV_LIF_KERNELS(T, SUFFIX)                                                                                 \
  extern "C" __global__ void lif_forward_##SUFFIX(                                                                     \
      long long steps, long long batch, long long neurons, const T* x, const T* theta, long long stride_t,             \
      long long stride_b, long long stride_n, const T* v0, const T* decay, long long decay_stride, T v_rest, int hard, \
      T* spikes, T* v, T* membrane) {                                                                                  \
    const Sizes size{steps, batch, neurons};                                                                           \
    const Theta<T> th{theta, stride_t, stride_b, stride_n};                                                            \
    hard ? forward<true>(size, x, th, v0, decay, decay_stride, v_rest, spikes, v, membrane)                            \
         : forward<false>(size, x, th, v0, decay, decay_stride, v_rest, spikes, v, membrane);                          \
  }                                                                                                                    \
  extern "C" __global__ void lif_backward_##SUFFIX(                                                                    \
      long long steps, long long batch, long long neurons, const T* grad_spikes, const T* grad_v,                      \
      const T* grad_membrane, const T* x, const T* membrane, const T* theta, long long stride_t, long long stride_b,   \
      long long stride_n, const T* v0, const T* decay, long long decay_stride, T v_rest, int hard, int detach,         \
      int surrogate, T alpha, T* grad_x, T* grad_theta, T* grad_v0, T* grad_decay) {                                   \
    const Backward<T> f{{steps, batch, neurons}, grad_spikes, grad_v, grad_membrane, x, membrane,                      \
                        {theta, stride_t, stride_b, stride_n}, v0, decay, decay_stride, v_rest, alpha,                 \
                        grad_x, grad_theta, grad_v0, grad_decay};                                                      \
    backward(f, surrogate, hard, detach);                                                                              \
  }

NEUROAV_LIF_KERNELS(float, f32)
NEUROAV_LIF_KERNELS(double, f64)
