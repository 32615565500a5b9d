// Many voices a block, as `general/general.cu` plays them, but for models of one shape, whose numbers of channels are
// known when it is compiled: so all products, and which warp finds what of them, are laid out ahead. Layers, dilations,
// the kernel's size and conditioning are the model's. Bytes only, on matrix units of compute capability 8.0 and later.
//
//   batch/batch.cuh    where working memory lies
//   batch/tiles.cuh    rows of weights times the vectors of all voices
//   batch/vectors.cuh  sums become bytes
//   batch/turn.cuh     what a sample begins and ends with
//   batch/layers.cuh   gate, residual
//   batch/head.cuh     skips, two products
//
// There is an entry for 8, 16, 24 and 32 voices a block.

#ifndef __CUDACC_RTC__
#include "shim.h"
#endif
#include "batch/head.cuh"
#include "batch/layers.cuh"
#include "batch/turn.cuh"

typedef BatchShape<WAVENET_R, WAVENET_S, WAVENET_A, 256> OfModel;

template <u32 VOICES>
__device__ inline void run_batch(const Params &p) {
#ifdef __CUDACC_RTC__
  extern __shared__ uint4 shared[];
#endif
  constexpr u32 THREADS = OfModel::THREADS;
  const u32 tid = threadIdx.x;
#pragma unroll 1
  for (u32 i = tid; i < p.work_units; i += THREADS) shared[i] = make_uint4(0, 0, 0, 0);
  __syncthreads();
  const Batch<OfModel, VOICES> b = {{p, shared, shared}, tid};
#pragma unroll 1
  for (u32 i = tid; i < p.layers; i += THREADS) shared[p.at_rings + i] = p.rings[i];
  if (tid < VOICES && b.exists(tid)) b.voice(tid) = p.orders[b.order(tid)];
  // Kept here for thread 0, who looks at it once a sample: no register is left.
  if (tid == 0) b.began() = clock64();
  __syncthreads();

  u32 turn = 0;
  while (begin_sample(b, b.began())) {
    hear_all(b.anew());
    layers(b.anew(), turn);
    skips(b.anew(), turn);
    head(b.anew(), turn);
    choose_all(b.anew());
  }
  if (tid < VOICES && b.exists(tid)) publish(b, tid);
}

#define ENTRY(VOICES)                                                             \
  extern "C" __global__ void __launch_bounds__(OfModel::THREADS, OfModel::BLOCKS) \
      wavenet_batch_##VOICES(const __grid_constant__ Params p) {                  \
    run_batch<VOICES>(p);                                                         \
  }

ENTRY(8)
ENTRY(16)
ENTRY(24)
ENTRY(32)
