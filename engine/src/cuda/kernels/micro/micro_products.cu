// What the products of bytes for several voices cost, by `dp4a` and on the matrix units: the texts of the kernel,
// alone. Every block multiplies one matrix with its voices' vectors again and again, with a barrier after
// each time, as a phase of the kernel does.

#ifndef __CUDACC_RTC__
#include "shim.h"
#endif
#include "common/tiles.cuh"
#include "micro/micro.cuh"

// `told`: a unit of rows, steps and voices, the matrix, and the voices' vectors.
template <typename Share>
__device__ inline void multiply_again(u32 turns, Found *found, const uint4 *told) {
#ifdef __CUDACC_RTC__
  extern __shared__ uint4 shared[];
#endif
  const u32 rows = told[0].x, steps = told[0].y, voices = told[0].z, units = steps * 4 + 1;
  const uint4 *matrix = told + 1, *vectors = matrix + rows * steps * 4;
#pragma unroll 1
  for (u32 i = threadIdx.x; i < voices * units; i += blockDim.x) shared[i] = vectors[i];
  Matrices kind = {};
  kind.rows = rows;
  kind.steps = steps;
  const Vector shape = {};
  u32 own = 0;
  __syncthreads();
  const u64 began = clock64();
#pragma unroll 1
  for (u32 turn = 0; turn < turns; ++turn) {
#pragma unroll 1
    for (Share share(rows, voices); share.more(); share.next()) {
      Sum totals[Share::SUMS];
      share.multiply(matrix, kind, 0, shape, [&](u32 v) { return shared + v * units; }, totals);
      // Each sum counts differently, so that none can stand in another's place.
      for (int i = 0; i < Share::SUMS; ++i)
        if (share.keeps(i)) own += (u32)totals[i] * (share.row(i) * voices + share.voice(i) + turn);
    }
    __syncthreads();
  }
  const u64 cycles = clock64() - began;
  u32 *sums = (u32 *)(shared + voices * units);
  sums[threadIdx.x] = own;
  __syncthreads();
  if (threadIdx.x || blockIdx.x) return;
  u32 sum = 0;
#pragma unroll 1
  for (u32 i = 0; i < blockDim.x; ++i) sum += sums[i];
  found->cycles = cycles;
  found->turns = turns;
  found->sum = sum;
}

extern "C" __global__ void __launch_bounds__(512, 1) micro_rows(u32 turns, Found *found, const uint4 *told) {
  multiply_again<Rows<4, 1>>(turns, found, told);
}

extern "C" __global__ void __launch_bounds__(512, 1) micro_tiles(u32 turns, Found *found, const uint4 *told) {
  multiply_again<Tiles>(turns, found, told);
}
