// The arithmetic of one leaky integrate-and-fire neuron whose threshold is an input, written once for CPU and GPU.
// The meaning is neuroav/kernels/reference.py.
//
//   charge  h = v + (x - (v - v_rest)) * decay        or, with unit gain, h = (v - (v - v_rest) * decay) + x
//   fire    s = h >= theta                            strict: s = h > theta
//   reset   hard: v = s ? v_rest : h                  soft: v = s ? h - theta : h
//   rest    for some steps after a spike: h = v, s = 0
//
// Rounding, decided here: the threshold decides spikes, so charge, comparison and reset are separately rounded IEEE
// operations that keep subnormal numbers, never a fused multiply-add. On a CPU -ffp-contract=off keeps it so (setup.py).
// On a GPU floats go through PTX, whose meaning no option changes: CuPy compiles everything with -ftz=true, which would
// flush subnormals (a membrane at rest decays to those), and it cannot be told otherwise. Spikes and membranes are then
// the same bits everywhere. Gradients differ on a GPU only where they are subnormal, in the exponential of a double, and
// in the order of sums (-fmad=false, kernels/cuda.py).
#pragma once

#ifndef __CUDACC_RTC__
#include <cmath>
#include <cstring>
#endif

#ifndef NEUROAV_HD
#ifdef __CUDACC__
#define NEUROAV_HD __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define NEUROAV_HD __attribute__((always_inline)) inline  // a call in a loop would keep it from becoming vectors
#else
#define NEUROAV_HD inline
#endif
#endif

namespace neuroav {

enum Surrogate { kATan = 0, kSigmoid = 1, kFastSigmoid = 2, kTriangle = 3 };  // as in reference.py

NEUROAV_HD double sum(double a, double b) { return a + b; }
NEUROAV_HD double difference(double a, double b) { return a - b; }
NEUROAV_HD bool at_least(double a, double b) { return a >= b; }
NEUROAV_HD bool above(double a, double b) { return a > b; }
#ifdef __CUDA_ARCH__
NEUROAV_HD double product(double a, double b) { return __dmul_rn(a, b); }
#define NEUROAV_PTX(NAME, INSTRUCTION)                                           \
  NEUROAV_HD float NAME(float a, float b) {                                      \
    float c;                                                                     \
    asm(INSTRUCTION ".rn.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));           \
    return c;                                                                    \
  }
NEUROAV_PTX(product, "mul")
NEUROAV_PTX(sum, "add")
NEUROAV_PTX(difference, "sub")
#undef NEUROAV_PTX
#define NEUROAV_PTX(NAME, RELATION)                                                                                \
  NEUROAV_HD bool NAME(float a, float b) {                                                                         \
    int c;                                                                                                         \
    asm("{ .reg .pred p; setp." RELATION ".f32 p, %1, %2; selp.s32 %0, 1, 0, p; }" : "=r"(c) : "f"(a), "f"(b));    \
    return c != 0;                                                                                                 \
  }
NEUROAV_PTX(at_least, "ge")
NEUROAV_PTX(above, "gt")
#undef NEUROAV_PTX
#else
NEUROAV_HD double product(double a, double b) { return a * b; }
NEUROAV_HD float product(float a, float b) { return a * b; }
NEUROAV_HD float sum(float a, float b) { return a + b; }
NEUROAV_HD float difference(float a, float b) { return a - b; }
NEUROAV_HD bool at_least(float a, float b) { return a >= b; }
NEUROAV_HD bool above(float a, float b) { return a > b; }
#endif
NEUROAV_HD float absolute(float a) { return fabsf(a); }
NEUROAV_HD double absolute(double a) { return fabs(a); }

// exp(-a) for a >= 0, to about an ulp; in float, 0 beyond a = 87, where it would be subnormal.
NEUROAV_HD double exp_of_minus(double a) { return exp(-a); }
NEUROAV_HD unsigned bits_of(float a) {
  unsigned bits;
  memcpy(&bits, &a, sizeof bits);
  return bits;
}
NEUROAV_HD float float_of(unsigned bits) {
  float a;
  memcpy(&a, &bits, sizeof a);
  return a;
}
// Range reduction and the polynomial of Cephes' expf, without branches: compilers vectorise it, unlike the library's.
NEUROAV_HD float exp_of_minus(float a) {
  const float shift = 12582912.0f;                // 1.5 * 2^23: a sum with it ends in the nearest whole number
  const float shifted = a * 1.44269504f + shift;  // a / ln(2)
  const float halvings = shifted - shift;
  const float r = (halvings * 0.693359375f - a) - halvings * 2.12194440e-4f;  // |r| <= ln(2) / 2
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float power = float_of((127u + bits_of(shift) - bits_of(shifted)) << 23);  // 2^-halvings
  const float value = (p * r * r + r + 1.0f) * power;
  // Floats above 0 are in the order of their bits, and not-a-number comes after infinity and stays what it is.
  const unsigned beyond = (bits_of(87.0f) - bits_of(a)) & ~(0x7f800000u - bits_of(a));  // in the highest bit
  return float_of(bits_of(value) & ~static_cast<unsigned>(static_cast<int>(beyond) >> 31));
}

template <class T>
NEUROAV_HD T lif_charge(T v, T x, T decay, T v_rest, bool unit_gain = false) {
  const T away = difference(v, v_rest);
  return unit_gain ? sum(difference(v, product(away, decay)), x) : sum(v, product(difference(x, away), decay));
}

template <class T>
NEUROAV_HD bool lif_fires(T h, T theta, bool strict) {
  return strict ? above(h, theta) : at_least(h, theta);
}

// Written so that no arithmetic depends on the spike: compilers make vectors of that.
template <class T>
NEUROAV_HD T lif_after(T h, T theta, T v_rest, bool fired, bool hard) {
  const T target = fired ? v_rest : h, taken = fired ? theta : T(0);
  return hard ? target : difference(h, taken);
}

// Steps that a neuron still rests, one step on.
NEUROAV_HD int lif_steps_left(int left, bool fired, int refractory) {
  const int one_less = left > 0 ? left - 1 : 0;
  return fired ? refractory : one_less;
}

// Stands for the derivative of the spike at u = h - theta; `alpha` is the surrogate's steepness or width.
template <int kCode, class T>
NEUROAV_HD T surrogate_slope(T u, T alpha, T scale) {
  if (kCode == kATan) {
    const T z = T(1.5707963267948966) * alpha * u;
    return T(0.5) * alpha * scale / (1 + z * z);
  }
  if (kCode == kSigmoid) {
    const T decayed = exp_of_minus(alpha * absolute(u));
    return alpha * scale * decayed / ((1 + decayed) * (1 + decayed));
  }
  if (kCode == kFastSigmoid) {
    const T z = 1 + alpha * absolute(u);
    return scale / (z * z);
  }
  const T z = 1 - absolute(u) / alpha;
  return (z > 0 ? z : T(0)) * (scale / alpha);
}

// What all steps back in time share.
template <class T>
struct LifBack {
  T v_rest, alpha, scale;
  bool hard, strict, detach;
};

// One step back in time. `carry` is the gradient of the membrane after reset, `grad_spike` and `grad_h` those of the
// outputs; gives the gradient of h in `total` and of the threshold in `grad_theta`.
template <int kCode, class T>
NEUROAV_HD void lif_back(const LifBack<T>& o, T h, T theta, bool resting, T grad_spike, T grad_h, T carry, T& total,
                         T& grad_theta) {
  const bool fired = lif_fires(h, theta, o.strict) & !resting;
  const T full_slope = surrogate_slope<kCode>(h - theta, o.alpha, o.scale);
  const T slope = resting ? T(0) : full_slope;
  T through_spike = grad_spike * slope;
  if (!o.detach) {
    const T jump = (o.hard ? o.v_rest - h : -theta) * slope;
    through_spike += carry * (slope > 0 ? jump : T(0));  // an infinite threshold has slope 0, and 0 * inf must stay 0
  }
  grad_theta = -(through_spike + (!o.hard & fired ? carry : T(0)));
  total = through_spike + (o.hard & fired ? T(0) : carry) + grad_h;
}

}  // namespace neuroav
