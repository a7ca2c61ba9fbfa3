// The inner loops over neurons, each over some neurons of one batch row at one step. They have a file of their own, as
// their many variants are compiled for several instruction sets; the right one is chosen when the program runs.
#pragma once

#include <cstdint>

#include "half.h"
#include "lif.h"

namespace neuroav {

constexpr int64_t kBlock = 1024;  // most neurons of a block, so that its buffers stay in L1

// One step of some neurons of one row.
template <class S>
struct ForwardBlock {
  bool hard, strict, unit_gain, lanes;  // lanes: theta and decay are arrays, otherwise single numbers
  int refractory;                       // above 0 with lanes only
  S v_rest;
  int64_t count;
  const S *x, *theta, *decay;
  S* v;
  int32_t* left;
  S *spikes, *kept;  // one of them may be null
  int32_t* kept_left;
};

void run(const ForwardBlock<float>& block);
void run(const ForwardBlock<double>& block);

// Two steps at once, with single numbers for theta and decay and no refractory steps: the membrane between the two
// stays in a register.
template <class S>
struct ForwardPair {
  bool hard, strict, unit_gain;
  S v_rest, decay, theta[2];
  int64_t count;
  const S* x[2];
  S* v;
  S *spikes[2], *kept[2];  // both kept may be null
};

void run(const ForwardPair<float>& pair);
void run(const ForwardPair<double>& pair);

// One step back of some neurons of one row. Not `general`: no gradients of theta, decay or the membrane, reset
// detached, no refractory steps.
template <class S>
struct BackwardBlock {
  LifBack<S> back;
  int surrogate;
  bool unit_gain, lanes, general;  // general with lanes only
  int64_t count;
  const S* h;
  const int32_t* left;
  const S *theta, *decay, *grad_spikes, *grad_h;
  S *carry, *grad_x, *totals, *to_theta;
};

void run(const BackwardBlock<float>& block);
void run(const BackwardBlock<double>& block);

// The decay's gradient of one step is that of h times the force x - (v - v_rest) that the decay multiplies, or, with
// unit gain, -(v - v_rest), where v is the membrane before the step: given, or that after the step before.
template <class S>
struct DecayBlock {
  bool hard, strict, unit_gain;
  S v_rest;
  int64_t count;
  const S *totals, *x;
  const S* v;          // or, where that is null,
  const S *h, *theta;  // membrane before reset, threshold
  const int32_t* left;  // and refractory steps of the step before
  S* sum;
};

void run(const DecayBlock<float>& block);
void run(const DecayBlock<double>& block);

// The sum of `count` values in a fixed order.
double ordered_sum(const float* values, int64_t count);
double ordered_sum(const double* values, int64_t count);

void convert(const BFloat16* from, int64_t count, float* to);
void convert(const Half* from, int64_t count, float* to);
void convert(const float* from, int64_t count, BFloat16* to);
void convert(const float* from, int64_t count, Half* to);

}  // namespace neuroav
