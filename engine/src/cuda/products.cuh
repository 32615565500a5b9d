// Products of rows of weights with the vectors of voices, by a team of lanes or by a thread alone.
#pragma once
#include "vectors.cuh"

// Which row of a matrix and which voices a team works on. All lanes of a warp run as often as each other,
// because their sums meet; those beyond the last item repeat it and keep nothing.
template <int V, int TEAM>
struct Items {
  u32 rows, count, item;

  __device__ Items(const Params &p, u32 rows_) : rows(rows_), count(rows_ * (p.voices / V)), item(threadIdx.x / TEAM) {}
  __device__ bool more() const { return item - threadIdx.x / TEAM < count; }
  __device__ void next() { item += blockDim.x / TEAM; }
  __device__ u32 clamped() const { return item < count ? item : count - 1; }
  __device__ u32 row() const { return clamped() % rows; }
  __device__ u32 voice() const { return clamped() / rows * V; }
  // Whether this lane writes what the team has found.
  __device__ bool keeps() const { return item < count && threadIdx.x % TEAM == 0; }
};

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
