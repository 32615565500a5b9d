// The numeric contract (docs/model-format.md, section 9): every operation rounds as the processor's kernels
// do. Compiled without contraction; a fused multiply-add is written as one. `math.rs` is its twin.
#pragma once
#include "common/model.cuh"

#define ALL 0xffffffffu  // lanes of a warp

__device__ inline float fma_(float a, float b, float c) { return __fmaf_rn(a, b, c); }

// 1.5 * 2^23: adding it rounds to a whole number, ties to even, in the low bits.
constexpr float ROUND = 12582912.0f;

// a / b, rounded once, where b and the quotient lie between 2^-90 and 2^90, or the quotient is far below all that
// counts. The steps are those that the compiler makes of a division, without its way out for other numbers.
__device__ inline float divide(float a, float b) {
  float near;
#ifdef __CUDACC_RTC__
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(near) : "f"(b));
#else
  near = reciprocal_roughly(b);
#endif
  near = fma_(near, fma_(-b, near, 1.0f), near);
  const float quotient = fma_(a, near, 0.0f);
  return fma_(near, fma_(-b, quotient, a), quotient);
}

__device__ inline float exp_(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  float rounded = fma_(x, 1.44269504f, ROUND);
  float n = rounded - ROUND;
  float r = fma_(-n, 0.69314575f, x);
  r = fma_(-n, 1.4286068e-6f, r);
  float p = 0.0013814599f;
  p = fma_(p, r, 0.008368717f);
  p = fma_(p, r, 0.04166839f);
  p = fma_(p, r, 0.16666521f);
  p = fma_(p, r, 0.49999994f);
  p = fma_(p, r, 1.0f);
  p = fma_(p, r, 1.0f);
  return p * __uint_as_float((__float_as_uint(rounded) - __float_as_uint(ROUND) + 127) << 23);
}

// Numerator and denominator of tanh, of what lies within its ends.
__device__ inline float2 tanh_ratio_within(float x) {
  float y = x * x;
  float p = 1.3319061e-8f;
  p = fma_(p, y, 2.0583473e-5f);
  p = fma_(p, y, 0.003494034f);
  p = fma_(p, y, 0.13379717f);
  p = fma_(p, y, 1.0f);
  float q = 7.762015e-7f;
  q = fma_(q, y, 0.0003283092f);
  q = fma_(q, y, 0.02587107f);
  q = fma_(q, y, 0.46713033f);
  q = fma_(q, y, 1.0f);
  return make_float2(x * p, q);
}

constexpr float TANH_END = 9.02f;

__device__ inline float2 tanh_ratio(float x) {
  x = x < -TANH_END ? -TANH_END : x;
  return tanh_ratio_within(x > TANH_END ? TANH_END : x);
}

__device__ inline float tanh_(float x) {
  float2 ratio = tanh_ratio(x);
  float t = ratio.x / ratio.y;
  t = t < -1.0f ? -1.0f : t;
  return t > 1.0f ? 1.0f : t;
}

__device__ inline float sigmoid_(float x) { return fma_(tanh_(0.5f * x), 0.5f, 0.5f); }

__device__ inline float relu_(float x) { return x > 0.0f ? x : 0.0f; }
