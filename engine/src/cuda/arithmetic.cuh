// The numeric contract (docs/model-format.md, section 9): every operation rounds as the processor's kernels
// do. Compiled without contraction; a fused multiply-add is written as one. `math.rs` is its twin.
#pragma once
#include "model.cuh"

#define ALL 0xffffffffu  // lanes of a warp

__device__ inline float fma_(float a, float b, float c) { return __fmaf_rn(a, b, c); }

// 1.5 * 2^23: adding it rounds to a whole number, ties to even, in the low bits.
constexpr float ROUND = 12582912.0f;

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

// Numerator and denominator of tanh.
__device__ inline float2 tanh_ratio(float x) {
  x = x < -9.02f ? -9.02f : x;
  x = x > 9.02f ? 9.02f : x;
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

__device__ inline float tanh_(float x) {
  float2 ratio = tanh_ratio(x);
  float t = ratio.x / ratio.y;
  t = t < -1.0f ? -1.0f : t;
  return t > 1.0f ? 1.0f : t;
}

__device__ inline float sigmoid_(float x) { return fma_(tanh_(0.5f * x), 0.5f, 0.5f); }

__device__ inline float relu_(float x) { return x > 0.0f ? x : 0.0f; }

// Where channel i of a vector of floats lies.
__device__ inline u32 place(const Vector &shape, u32 i) {
  u32 quarter = __umulhi(2 * i, shape.reciprocal);
  return quarter * shape.pitch + i - quarter * shape.quarter;
}

// Products, of V vectors with one row of weights at once. `quarter` is where the next quarter of a vector
// begins, in units.

#if defined(WAVENET_INT8)

typedef int Sum;

// Four products of bytes, added to a sum.
__device__ inline int dot(u32 a, u32 b, int sum) {
#ifdef __CUDACC_RTC__
  asm("dp4a.s32.s32 %0, %1, %2, %0;" : "+r"(sum) : "r"(a), "r"(b));
  return sum;
#else
  return __dp4a((int)a, (int)b, sum);
#endif
}

template <int V>
__device__ inline void add_unit(uint4 w, const uint4 *const *inputs, u32 step, u32 quarter, u32, Sum *sums) {
  for (int v = 0; v < V; ++v) {
    uint4 x = inputs[v][step * 4 + quarter];
    sums[v] = dot(w.x, x.x, sums[v]);
    sums[v] = dot(w.y, x.y, sums[v]);
    sums[v] = dot(w.z, x.z, sums[v]);
    sums[v] = dot(w.w, x.w, sums[v]);
  }
}

#elif defined(WAVENET_BF16)

typedef float Sum;

__device__ inline float add_four(u32 low, u32 high, float4 x, float sum) {
  sum = fma_(__uint_as_float(low << 16), x.x, sum);
  sum = fma_(__uint_as_float(low & 0xffff0000u), x.y, sum);
  sum = fma_(__uint_as_float(high << 16), x.z, sum);
  return fma_(__uint_as_float(high & 0xffff0000u), x.w, sum);
}

template <int V>
__device__ inline void add_unit(uint4 w, const uint4 *const *inputs, u32 step, u32 quarter, u32 pitch, Sum *sums) {
  for (int v = 0; v < V; ++v) {
    const float4 *x = (const float4 *)inputs[v] + quarter * pitch + 2 * step;
    sums[v] = add_four(w.x, w.y, x[0], sums[v]);
    sums[v] = add_four(w.z, w.w, x[1], sums[v]);
  }
}

#else

typedef float Sum;

template <int V>
__device__ inline void add_unit(uint4 w, const uint4 *const *inputs, u32 step, u32 quarter, u32 pitch, Sum *sums) {
  for (int v = 0; v < V; ++v) {
    float4 x = ((const float4 *)inputs[v])[quarter * pitch + step];
    sums[v] = fma_(__uint_as_float(w.x), x.x, sums[v]);
    sums[v] = fma_(__uint_as_float(w.y), x.y, sums[v]);
    sums[v] = fma_(__uint_as_float(w.z), x.z, sums[v]);
    sums[v] = fma_(__uint_as_float(w.w), x.w, sums[v]);
  }
}

#endif

// A row of a matrix times V vectors, by a team of 4 lanes, a quarter each, or by a thread alone. Every lane
// of the team gets the totals. A float's quarters are chains of their own, added left to right.
template <int V, int TEAM>
__device__ inline void multiply(const uint4 *matrix, u32 rows, u32 steps, u32 row, const uint4 *const *inputs,
                                const Vector &shape, Sum *totals) {
  const u32 pitch = shape.pitch / 4;
  if (TEAM == 4) {
    const u32 quarter = threadIdx.x & 3;
    Sum sums[V];
    for (int v = 0; v < V; ++v) sums[v] = 0;
#pragma unroll 2
    for (u32 step = 0; step < steps; ++step)
      add_unit<V>(matrix[(step * 4 + quarter) * rows + row], inputs, step, quarter, pitch, sums);
    const int first = threadIdx.x & 28;
    for (int v = 0; v < V; ++v) {
      totals[v] = __shfl_sync(ALL, sums[v], first);
      for (int other = 1; other < 4; ++other) totals[v] = totals[v] + __shfl_sync(ALL, sums[v], first + other);
    }
  } else {
    // Adding to -0.0 changes no float at all.
    for (int v = 0; v < V; ++v) totals[v] = (Sum)-0.0f;
#pragma unroll 1
    for (u32 quarter = 0; quarter < 4; ++quarter) {
      Sum sums[V];
      for (int v = 0; v < V; ++v) sums[v] = 0;
#pragma unroll 1
      for (u32 step = 0; step < steps; ++step)
        add_unit<V>(matrix[(step * 4 + quarter) * rows + row], inputs, step, quarter, pitch, sums);
      for (int v = 0; v < V; ++v) totals[v] = totals[v] + sums[v];
    }
  }
}

// A product onto what it is added to.
#if defined(WAVENET_INT8)
__device__ inline float onto(float before, int sum, float row_scale, float scale) {
  return fma_((float)sum, row_scale * scale, before);
}
#else
__device__ inline float onto(float before, float sum, float, float) { return before + sum; }
#endif
