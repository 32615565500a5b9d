// Products of rows of weights with the vectors of voices. A share deals them out to the threads of a block:
//
//   Rows    a team of 4 lanes, or a thread alone, has a row for one voice or several
//   Tiles   a warp has 16 rows for 8 voices, bytes on the matrix units (common/tiles.cuh)
//
// A thread finds SUMS sums at once, number i of row(i) for voice(i), and goes on to the next ones. All lanes
// of a warp run as often as each other, because they work together; `keeps(i)` is false where a sum is
// another lane's or lies beyond the last row.
#pragma once
#include "common/vectors.cuh"

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

// A unit of weights times the same of V vectors. `quarter` is where the next quarter of a vector begins, in
// units.
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

// A row a team of TEAM lanes, 4 or 1, for V voices: each weight that is read serves them all.
template <int V, int TEAM>
struct Rows {
  static constexpr int SUMS = V;
  u32 rows, count, item;

  __device__ Rows(u32 rows_, u32 voices) : rows(rows_), count(rows_ * (voices / V)), item(threadIdx.x / TEAM) {}
  __device__ bool more() const { return item - threadIdx.x / TEAM < count; }
  __device__ void next() { item += blockDim.x / TEAM; }
  // Those beyond the last item repeat it.
  __device__ u32 clamped() const { return item < count ? item : count - 1; }
  __device__ u32 row(int) const { return clamped() % rows; }
  __device__ u32 voice(int i) const { return clamped() / rows * V + i; }
  __device__ bool keeps(int) const { return item < count && threadIdx.x % TEAM == 0; }

  // The products of this share with a matrix whose row `first_row` is its row 0; `vector_of(voice)` says
  // what with. Every lane of a team gets the totals. A float's quarters are chains of their own, a lane each
  // or one after another, added left to right.
  template <typename VectorOf>
  __device__ void multiply(const uint4 *matrix, const Matrices &kind, u32 first_row, const Vector &shape,
                           VectorOf vector_of, Sum *totals) const {
    const u32 pitch = shape.pitch / 4;
    const uint4 *weights = matrix + first_row + row(0), *inputs[V];
    for (int v = 0; v < V; ++v) inputs[v] = vector_of(voice(v));
    if (TEAM == 4) {
      const u32 quarter = threadIdx.x & 3;
      Sum sums[V];
      for (int v = 0; v < V; ++v) sums[v] = 0;
#pragma unroll 2
      for (u32 step = 0; step < kind.steps; ++step)
        add_unit<V>(weights[(step * 4 + quarter) * kind.rows], inputs, step, quarter, pitch, sums);
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
        for (u32 step = 0; step < kind.steps; ++step)
          add_unit<V>(weights[(step * 4 + quarter) * kind.rows], inputs, step, quarter, pitch, sums);
        for (int v = 0; v < V; ++v) totals[v] = totals[v] + sums[v];
      }
    }
  }
};

// A product onto what it is added to.
#if defined(WAVENET_INT8)
__device__ inline float onto(float before, int sum, float row_scale, float scale) {
  return fma_((float)sum, row_scale * scale, before);
}
#else
__device__ inline float onto(float before, float sum, float, float) { return before + sum; }
#endif

// Adds the products of a share with a matrix to its sums.
template <typename Share, typename VectorOf>
__device__ inline void add_product(const Block &b, const Share &share, const Matrices &kind, u32 index, u32 first_row,
                                   const Vector &shape, VectorOf vector_of, float *sums) {
  Sum totals[Share::SUMS];
  share.multiply(b.matrix(kind, index), kind, first_row, shape, vector_of, totals);
  for (int i = 0; i < Share::SUMS; ++i) {
    const u32 row = first_row + share.row(i);
#if defined(WAVENET_INT8)
    if (kind.corrections) totals[i] += (int)__float_as_uint(b.p.floats[kind.corrections + row]);
#endif
    sums[i] = onto(sums[i], totals[i], b.scale(kind, index, row), scale_of(vector_of(share.voice(i)), shape));
  }
}
