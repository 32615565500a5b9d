// Products of bytes on the matrix units: a warp multiplies 16 rows of weights with the vectors of 8 voices.
//
// The instructions want their factors spread over the lanes: lane 4 g + t brings columns of the tile's rows
// g and g + 8 and the same columns of one voice's vector, and gets four sums. Which columns it brings is
// free, as long as both factors have the same ones: integers add up in any order. So a lane brings what lies
// together, 16 bytes: unit t of a step of 64 columns. Weights and vectors lie as they do for `Rows`.
#pragma once
#include "common/products.cuh"

#if defined(WAVENET_INT8)

// 8 rows times 8 voices, 16 columns: from compute capability 7.5 on.
__device__ inline void multiply_8x8(u32 a, u32 b, int *sums) {
#ifdef __CUDACC_RTC__
  asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
               : "+r"(sums[0]), "+r"(sums[1])
               : "r"(a), "r"(b));
#else
  mma_m8n8k16(a, b, sums);
#endif
}

// 16 rows times 8 voices, 32 columns, 4 at a time: `a0` and `a2` are of row g, `a1` and `a3` of row g + 8.
__device__ inline void multiply_16x8(u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1, int *sums) {
#if __CUDA_ARCH__ < 800
  multiply_8x8(a0, b0, sums);
  multiply_8x8(a1, b0, sums + 2);
  multiply_8x8(a2, b1, sums);
  multiply_8x8(a3, b1, sums + 2);
#elif defined(__CUDACC_RTC__)
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#else
  mma_m16n8k32(a0, a1, a2, a3, b0, b1, sums);
#endif
}

// 16 rows a warp, for 8 voices.
struct Tiles {
  static constexpr int SUMS = 4;
  u32 rows, tiles, count, item;

  __device__ Tiles(u32 rows_, u32 voices)
      : rows(rows_), tiles((rows_ + 15) / 16), count(tiles * (voices / 8)), item(threadIdx.x / 32) {}
  __device__ bool more() const { return item < count; }
  __device__ void next() { item += blockDim.x / 32; }
  __device__ u32 unclamped(int i) const { return item % tiles * 16 + (threadIdx.x & 31) / 4 + (i & 2) * 4; }
  __device__ bool keeps(int i) const { return unclamped(i) < rows; }
  // Rows beyond the last repeat it.
  __device__ u32 row(int i) const { return keeps(i) ? unclamped(i) : rows - 1; }
  // The voice of a column of the tile. Neighbours are 4 voices apart: vectors are an odd number of units
  // long, so the 8 lanes that read at once find what they read in different banks.
  __device__ u32 of_column(u32 column) const { return item / tiles * 8 + column / 2 + (column & 1) * 4; }
  __device__ u32 voice(int i) const { return of_column((threadIdx.x & 3) * 2 + (i & 1)); }

  // As that of `Rows`.
  template <typename VectorOf>
  __device__ void multiply(const uint4 *matrix, const Matrices &kind, u32 first_row, const Vector &,
                           VectorOf vector_of, Sum *totals) const {
    const u32 unit = threadIdx.x & 3;
    const uint4 *weights = matrix + unit * kind.rows + first_row, *low = weights + row(0), *high = weights + row(2);
    const uint4 *inputs = vector_of(of_column((threadIdx.x & 31) / 4)) + unit;
    for (int i = 0; i < SUMS; ++i) totals[i] = 0;
    // The lanes of a warp wait for each other before they multiply, and no compiler moves a load across: several steps
    // are loaded first.
    constexpr u32 AT_ONCE = 3;
#pragma unroll 1
    for (u32 step = 0; step < kind.steps; step += AT_ONCE) {
      uint4 a[AT_ONCE], c[AT_ONCE], x[AT_ONCE];
#pragma unroll
      for (u32 i = 0; i < AT_ONCE; ++i) {
        if (step + i >= kind.steps) continue;
        a[i] = low[(step + i) * 4 * kind.rows];
        c[i] = high[(step + i) * 4 * kind.rows];
        x[i] = inputs[(step + i) * 4];
      }
#pragma unroll
      for (u32 i = 0; i < AT_ONCE; ++i) {
        if (step + i >= kind.steps) continue;
        multiply_16x8(a[i].x, c[i].x, a[i].y, c[i].y, x[i].x, x[i].y, totals);
        multiply_16x8(a[i].z, c[i].z, a[i].w, c[i].w, x[i].z, x[i].w, totals);
      }
    }
  }
};

#endif
