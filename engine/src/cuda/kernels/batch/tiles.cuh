// Rows of weights times the vectors of all voices of a block, on the matrix units.
#pragma once
#include "batch/batch.cuh"

// A sum that begins here is the bits of a float that is a whole number, as long as it stays within 2^22: the
// conversion of each sum is one addition.
constexpr int WHOLE = 0x4b400000;  // 1.5 * 2^23
__device__ inline float whole(int sum) { return __uint_as_float((u32)sum) - ROUND; }
// What to add to such a float instead: with the correction of a row whose inputs are bytes less 128. The result is
// below 2^24, so it is exact.
__device__ inline float correction(float bits) { return (float)(int)__float_as_uint(bits) - ROUND; }

// Weights of N times 8 rows over STEPS times 64 columns, as a lane brings them.
template <u32 N, u32 STEPS>
struct Weights {
  uint4 of[N][STEPS];

  // From unit `first` of a matrix of so many rows on. The rows of n begin at row_of(n).
  template <typename Batch, typename RowOf>
  __device__ void load(const Batch &b, const uint4 *first, u32 rows, RowOf row_of) {
#pragma unroll
    for (u32 n = 0; n < N; ++n)
#pragma unroll
      for (u32 step = 0; step < STEPS; ++step)
        of[n][step] = first[(step * 4 + b.in_group()) * rows + row_of(n) + b.group()];
  }
};

// Sums of N times 8 rows for all voices: number i of a tile is of row 2 t + (i & 1) and of the lane's voice in
// the tile's lower or upper eight.
template <u32 N, typename Batch>
struct Sums {
  int of[N][Batch::TILES][4];

  __device__ void start(int from) {
#pragma unroll
    for (u32 n = 0; n < N; ++n)
#pragma unroll
      for (u32 tile = 0; tile < Batch::TILES; ++tile)
#pragma unroll
        for (u32 i = 0; i < 4; ++i) of[n][tile][i] = from;
  }

  // Adds products with vectors of so many units from one voice to the next.
  template <u32 STEPS>
  __device__ void add(const Batch &b, const Weights<N, STEPS> &weights, const uint4 *vectors, u32 stride) {
#pragma unroll
    for (u32 tile = 0; tile < Batch::TILES; ++tile) {
      constexpr u32 LAST = Batch::EIGHTS - 1;
      const uint4 *low = vectors + b.voice_of(2 * tile) * stride + b.in_group();
      // Where there is no upper eight, the lower one stands in for it.
      const uint4 *high = 2 * tile + 1 <= LAST ? low + 8 * stride : low;
      uint4 x[STEPS], y[STEPS];
#pragma unroll
      for (u32 step = 0; step < STEPS; ++step) {
        x[step] = low[4 * step];
        y[step] = high[4 * step];
      }
#pragma unroll
      for (u32 step = 0; step < STEPS; ++step)
#pragma unroll
        for (u32 n = 0; n < N; ++n) {
          const uint4 w = weights.of[n][step];
          multiply_16x8(x[step].x, y[step].x, x[step].y, y[step].y, w.x, w.y, of[n][tile]);
          multiply_16x8(x[step].z, y[step].z, x[step].w, y[step].w, w.z, w.w, of[n][tile]);
        }
    }
  }
};

// Calls `use(tile, i, eight)` for each sum of a tile that is of a voice.
template <typename Batch, typename Use>
__device__ inline void for_each_sum(Use use) {
#pragma unroll
  for (u32 tile = 0; tile < Batch::TILES; ++tile)
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
      const u32 eight = 2 * tile + (i >> 1);
      if (eight < Batch::EIGHTS) use(tile, i, eight);
    }
}

__device__ inline float of_pair(float2 both, u32 i) { return i & 1 ? both.y : both.x; }
