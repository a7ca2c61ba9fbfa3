// The inner loops over neurons. What doesn't vary over a loop is a template's constant, and nothing here is in an
// unnamed namespace, where GCC 12 leaves these loops scalar.
#include "neuron_blocks.h"

#include "clones.h"

#undef NEUROAV_CLONES
#define NEUROAV_CLONES NEUROAV_CLONES_FOR("avx512f")

namespace neuroav {

template <bool kHard, bool kStrict, bool kUnitGain, bool kLanes, bool kRests, bool kSpikes, bool kKeep, class S>
NEUROAV_INTO_CLONE void forward_loop(int refractory, S v_rest, int64_t count, const S* __restrict x,
                                     const S* __restrict theta, const S* __restrict decay, S* __restrict v,
                                     int32_t* __restrict left, S* __restrict spikes, S* __restrict kept,
                                     int32_t* __restrict kept_left) {
  const S one_theta = *theta, one_decay = *decay;
  for (int64_t i = 0; i < count; ++i) {
    const S th = kLanes ? theta[i] : one_theta;
    S h = lif_charge(v[i], x[i], kLanes ? decay[i] : one_decay, v_rest, kUnitGain);
    bool fired = lif_fires(h, th, kStrict);
    if (kRests) {
      const int32_t steps = left[i];
      const bool resting = steps > 0;
      h = resting ? v[i] : h;
      fired = fired & !resting;
      if (kKeep) kept_left[i] = steps;
      left[i] = lif_steps_left(steps, fired, refractory);
    }
    if (kSpikes) spikes[i] = fired ? S(1) : S(0);
    if (kKeep) kept[i] = h;
    v[i] = lif_after(h, th, v_rest, fired, kHard);
  }
}

template <bool kHard, bool kStrict, bool kUnitGain, bool kLanes, bool kRests, class S>
NEUROAV_INTO_CLONE void forward_block(const ForwardBlock<S>& o) {
#define NEUROAV_LOOP(SPIKES, KEEP)                                                                                \
  forward_loop<kHard, kStrict, kUnitGain, kLanes, kRests, SPIKES, KEEP>(o.refractory, o.v_rest, o.count, o.x,     \
                                                                        o.theta, o.decay, o.v, o.left, o.spikes,  \
                                                                        o.kept, o.kept_left)
  if (o.kept == nullptr) return NEUROAV_LOOP(true, false);
  o.spikes ? NEUROAV_LOOP(true, true) : NEUROAV_LOOP(false, true);
#undef NEUROAV_LOOP
}

template <bool kHard, bool kStrict, bool kUnitGain, class S>
NEUROAV_INTO_CLONE void forward_block(const ForwardBlock<S>& o) {
  if (o.refractory) return forward_block<kHard, kStrict, kUnitGain, true, true>(o);
  o.lanes ? forward_block<kHard, kStrict, kUnitGain, true, false>(o)
          : forward_block<kHard, kStrict, kUnitGain, false, false>(o);
}

template <bool kHard, bool kStrict, class S>
NEUROAV_INTO_CLONE void forward_block(const ForwardBlock<S>& o) {
  o.unit_gain ? forward_block<kHard, kStrict, true>(o) : forward_block<kHard, kStrict, false>(o);
}

template <class S>
NEUROAV_INTO_CLONE void forward_block(const ForwardBlock<S>& o) {
  if (o.hard) {
    o.strict ? forward_block<true, true>(o) : forward_block<true, false>(o);
  } else {
    o.strict ? forward_block<false, true>(o) : forward_block<false, false>(o);
  }
}

NEUROAV_CLONES void run(const ForwardBlock<float>& o) { forward_block(o); }
NEUROAV_CLONES void run(const ForwardBlock<double>& o) { forward_block(o); }

template <bool kHard, bool kStrict, bool kUnitGain, bool kKeep, class S>
NEUROAV_INTO_CLONE void pair_loop(const ForwardPair<S>& o, const S* __restrict x0, const S* __restrict x1,
                                  S* __restrict v, S* __restrict spikes0, S* __restrict spikes1, S* __restrict kept0,
                                  S* __restrict kept1) {
  const S v_rest = o.v_rest, decay = o.decay, theta0 = o.theta[0], theta1 = o.theta[1];
  const int64_t count = o.count;
  for (int64_t i = 0; i < count; ++i) {
    const S h0 = lif_charge(v[i], x0[i], decay, v_rest, kUnitGain);
    const bool fired0 = lif_fires(h0, theta0, kStrict);
    const S between = lif_after(h0, theta0, v_rest, fired0, kHard);
    const S h1 = lif_charge(between, x1[i], decay, v_rest, kUnitGain);
    const bool fired1 = lif_fires(h1, theta1, kStrict);
    v[i] = lif_after(h1, theta1, v_rest, fired1, kHard);
    spikes0[i] = fired0 ? S(1) : S(0);
    spikes1[i] = fired1 ? S(1) : S(0);
    if (kKeep) kept0[i] = h0;
    if (kKeep) kept1[i] = h1;
  }
}

template <bool kHard, bool kStrict, bool kUnitGain, class S>
NEUROAV_INTO_CLONE void forward_pair(const ForwardPair<S>& o) {
  if (o.kept[0]) {
    pair_loop<kHard, kStrict, kUnitGain, true>(o, o.x[0], o.x[1], o.v, o.spikes[0], o.spikes[1], o.kept[0], o.kept[1]);
  } else {
    pair_loop<kHard, kStrict, kUnitGain, false>(o, o.x[0], o.x[1], o.v, o.spikes[0], o.spikes[1], o.kept[0], o.kept[1]);
  }
}

template <bool kHard, bool kStrict, class S>
NEUROAV_INTO_CLONE void forward_pair(const ForwardPair<S>& o) {
  o.unit_gain ? forward_pair<kHard, kStrict, true>(o) : forward_pair<kHard, kStrict, false>(o);
}

template <class S>
NEUROAV_INTO_CLONE void forward_pair(const ForwardPair<S>& o) {
  if (o.hard) {
    o.strict ? forward_pair<true, true>(o) : forward_pair<true, false>(o);
  } else {
    o.strict ? forward_pair<false, true>(o) : forward_pair<false, false>(o);
  }
}

NEUROAV_CLONES void run(const ForwardPair<float>& o) { forward_pair(o); }
NEUROAV_CLONES void run(const ForwardPair<double>& o) { forward_pair(o); }

template <int kCode, bool kHard, bool kStrict, bool kDetach, bool kLanes, bool kGeneral, class S>
NEUROAV_INTO_CLONE void backward_loop(const BackwardBlock<S>& o, const S* __restrict h, const int32_t* __restrict left,
                                      const S* __restrict theta, const S* __restrict decay,
                                      const S* __restrict grad_spikes, const S* __restrict grad_h, S* __restrict carry,
                                      S* __restrict grad_x, S* __restrict totals, S* __restrict to_theta) {
  const S one_theta = *theta, one_keep = 1 - *decay, one_gain = o.unit_gain ? S(1) : *decay;
  const S gain_of_decay = o.unit_gain ? S(0) : S(1), gain_of_one = 1 - gain_of_decay;
  const LifBack<S> back{o.back.v_rest, o.back.alpha, o.back.scale, kHard, kStrict, kDetach};
  const int64_t count = o.count;
  for (int64_t i = 0; i < count; ++i) {
    const S keep = kLanes ? 1 - decay[i] : one_keep;
    const S gain = kLanes ? decay[i] * gain_of_decay + gain_of_one : one_gain;
    const bool resting = kGeneral && left[i] > 0;
    S total, grad_theta;
    lif_back<kCode>(back, h[i], kLanes ? theta[i] : one_theta, resting, grad_spikes[i], kGeneral ? grad_h[i] : S(0),
                    carry[i], total, grad_theta);
    const S to_x = total * gain;
    grad_x[i] = resting ? S(0) : to_x;
    carry[i] = total * (resting ? S(1) : keep);
    if (kGeneral) {
      totals[i] = resting ? S(0) : total;
      to_theta[i] = grad_theta;
    }
  }
}

template <int kCode, bool kHard, bool kStrict, class S>
NEUROAV_INTO_CLONE void backward_block(const BackwardBlock<S>& o) {
#define NEUROAV_LOOP(DETACH, LANES, GENERAL)                                                                      \
  backward_loop<kCode, kHard, kStrict, DETACH, LANES, GENERAL>(o, o.h, o.left, o.theta, o.decay, o.grad_spikes,   \
                                                               o.grad_h, o.carry, o.grad_x, o.totals, o.to_theta)
  if (o.general) {
    o.back.detach ? NEUROAV_LOOP(true, true, true) : NEUROAV_LOOP(false, true, true);
  } else {
    o.lanes ? NEUROAV_LOOP(true, true, false) : NEUROAV_LOOP(true, false, false);
  }
#undef NEUROAV_LOOP
}

template <int kCode, class S>
NEUROAV_INTO_CLONE void backward_block(const BackwardBlock<S>& o) {
  if (o.back.hard) {
    o.back.strict ? backward_block<kCode, true, true>(o) : backward_block<kCode, true, false>(o);
  } else {
    o.back.strict ? backward_block<kCode, false, true>(o) : backward_block<kCode, false, false>(o);
  }
}

template <class S>
NEUROAV_INTO_CLONE void backward_block(const BackwardBlock<S>& o) {
  switch (o.surrogate) {
    case kATan: return backward_block<kATan>(o);
    case kSigmoid: return backward_block<kSigmoid>(o);
    case kFastSigmoid: return backward_block<kFastSigmoid>(o);
    default: return backward_block<kTriangle>(o);
  }
}

NEUROAV_CLONES void run(const BackwardBlock<float>& o) { backward_block(o); }
NEUROAV_CLONES void run(const BackwardBlock<double>& o) { backward_block(o); }

template <bool kHard, bool kStrict, bool kUnitGain, bool kGiven, class S>
NEUROAV_INTO_CLONE void decay_loop(S v_rest, int64_t count, const S* __restrict totals, const S* __restrict x,
                                   const S* __restrict given, const S* __restrict h, const S* __restrict theta,
                                   const int32_t* __restrict left, S* __restrict sum) {
  for (int64_t i = 0; i < count; ++i) {
    S v;
    if (kGiven) {
      v = given[i];
    } else {
      v = lif_after(h[i], theta[i], v_rest, lif_fires(h[i], theta[i], kStrict) & !(left[i] > 0), kHard);
    }
    sum[i] += totals[i] * (kUnitGain ? v_rest - v : x[i] - (v - v_rest));
  }
}

template <bool kHard, bool kStrict, bool kUnitGain, class S>
NEUROAV_INTO_CLONE void decay_block(const DecayBlock<S>& o) {
  if (o.v) {
    decay_loop<kHard, kStrict, kUnitGain, true>(o.v_rest, o.count, o.totals, o.x, o.v, o.h, o.theta, o.left, o.sum);
  } else {
    decay_loop<kHard, kStrict, kUnitGain, false>(o.v_rest, o.count, o.totals, o.x, o.v, o.h, o.theta, o.left, o.sum);
  }
}

template <bool kHard, bool kStrict, class S>
NEUROAV_INTO_CLONE void decay_block(const DecayBlock<S>& o) {
  o.unit_gain ? decay_block<kHard, kStrict, true>(o) : decay_block<kHard, kStrict, false>(o);
}

template <class S>
NEUROAV_INTO_CLONE void decay_block(const DecayBlock<S>& o) {
  if (o.hard) {
    o.strict ? decay_block<true, true>(o) : decay_block<true, false>(o);
  } else {
    o.strict ? decay_block<false, true>(o) : decay_block<false, false>(o);
  }
}

NEUROAV_CLONES void run(const DecayBlock<float>& o) { decay_block(o); }
NEUROAV_CLONES void run(const DecayBlock<double>& o) { decay_block(o); }

// The sum of `count` values in a fixed order: sixteen running sums that vectorise.
template <class T>
NEUROAV_INTO_CLONE double sum_loop(const T* __restrict values, int64_t count) {
  double sums[16] = {};
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (int64_t lane = 0; lane < 16; ++lane) sums[lane] += static_cast<double>(values[i + lane]);
  }
  for (; i < count; ++i) sums[i % 16] += static_cast<double>(values[i]);
  double sum = 0;
  for (double each : sums) sum += each;
  return sum;
}
NEUROAV_CLONES double ordered_sum(const float* values, int64_t count) { return sum_loop(values, count); }
NEUROAV_CLONES double ordered_sum(const double* values, int64_t count) { return sum_loop(values, count); }

template <class X>
NEUROAV_INTO_CLONE void widen(const X* __restrict from, int64_t count, float* __restrict to) {
  for (int64_t i = 0; i < count; ++i) to[i] = to_float(from[i]);
}
template <class X>
NEUROAV_INTO_CLONE void narrow(const float* __restrict from, int64_t count, X* __restrict to) {
  for (int64_t i = 0; i < count; ++i) to[i] = from_float<X>(from[i]);
}
NEUROAV_CLONES void convert(const BFloat16* from, int64_t count, float* to) { widen(from, count, to); }
NEUROAV_CLONES void convert(const Half* from, int64_t count, float* to) { widen(from, count, to); }
NEUROAV_CLONES void convert(const float* from, int64_t count, BFloat16* to) { narrow(from, count, to); }
NEUROAV_CLONES void convert(const float* from, int64_t count, Half* to) { narrow(from, count, to); }

}  // namespace neuroav
