// A WaveNet that makes sample after sample without the host: one block plays a few voices, from the code
// that each made last to the next, until every goal is reached or the slice is over. Blocks know nothing of
// each other. What a voice remembers, its dilated queues, stays in device memory from slice to slice.
//
// A sample is a chain of phases with barriers between them, each in a text of its own:
//
//   common/turn.cuh      which voices have a sample to make; at the end `choose` draws its code, which is heard next
//   common/hear.cuh      conditioning vectors, fetched from the host now and then, and the codes' embeddings
//   general/layers.cuh   one layer after another: bias, past taps and conditioning, the present tap and the gate, and
//                        the residual; for a voice alone `ahead` does what it can for all layers at once
//   general/head.cuh     skips of all layers, two products
//
// Below them, in `common`: model.cuh is what the host tells, block.cuh where things lie, vectors.cuh, products.cuh and
// tiles.cuh how inputs and weights are multiplied, arithmetic.cuh and sampling.cuh the numeric contract.
//
// This text plays any shape. Other folders have kernels for shapes that the compiler knows: `single` one voice a block,
// `batch` many, `pipeline` one voice a cluster, the fast mode.
//
// `wavenet_general_single` has teams of 4 lanes a row for one voice's sake. `wavenet_general_batch` reads weights once
// for several voices: floats by one thread for a row and 4 voices, bytes by a warp on the matrix units for 16 rows and
// 8. Floats' sums have the order of the numeric contract in both; those of bytes are exact in any.

#ifndef __CUDACC_RTC__
#include "shim.h"
#endif
#include "common/hear.cuh"
#include "common/tiles.cuh"
#include "common/turn.cuh"
#include "general/head.cuh"
#include "general/layers.cuh"

// All of a slice. `Share` deals out the products.
template <typename Share, bool IS_AHEAD>
__device__ inline void run_general(const Params &p) {
#ifdef __CUDACC_RTC__
  extern __shared__ uint4 shared[];
#endif
  const u32 tid = threadIdx.x, threads = blockDim.x;
  const long long began = tid == 0 ? clock64() : 0;
  uint4 *work = p.work_is_shared ? shared : p.scratch + (u64)blockIdx.x * p.work_units;
  uint4 *resident = p.work_is_shared ? shared + p.work_units : shared;
#pragma unroll 1
  for (u32 i = tid; i < p.work_units; i += threads) work[i] = make_uint4(0, 0, 0, 0);
#pragma unroll 1
  for (u32 i = tid; i < p.resident_units; i += threads) resident[i] = p.weights[i];
  __syncthreads();
  const Block b = {p, work, resident};
#pragma unroll 1
  for (u32 v = tid; v < p.voices; v += threads)
    if (b.exists(v)) b.voice(v) = p.orders[b.order(v)];
  __syncthreads();

  while (begin_sample(b, began)) {
    hear(b);
    __syncthreads();
    if constexpr (IS_AHEAD) {
      ahead<Rows<1, 1>>(b);
      __syncthreads();
    }
#pragma unroll 1
    for (u32 layer = 0; layer < p.layers; ++layer) {
      gate<Share, IS_AHEAD>(b, layer);
      __syncthreads();
      if (layer + 1 == p.layers) break;
      residual<Share>(b, layer);
      __syncthreads();
    }
    skips<Share>(b);
    head<Share>(b, p.end1, p.end1_bias, p.at_skip_input, p.skip, [&](u32 v, u32 row, float sum) {
      keep(sum, row, b.hidden(v), b.hidden_input(v), p.end);
    });
    rectify(b, p.at_hidden, p.at_hidden_input, p.end);
    head<Share>(b, p.end2, p.end2_bias, p.at_hidden_input, p.end,
                  [&](u32 v, u32 row, float sum) { b.logits(v)[row] = sum; });
    __syncthreads();
    choose(b);
  }
#pragma unroll 1
  for (u32 v = tid; v < p.voices; v += threads)
    if (b.exists(v)) publish(b, v);
}

// Threads of a block, at most.
#define THREADS 512

extern "C" __global__ void __launch_bounds__(THREADS, 1) wavenet_general_single(const __grid_constant__ Params p) {
  run_general<Rows<1, 4>, true>(p);
}

#if defined(WAVENET_INT8)
typedef Tiles BatchShare;
#else
typedef Rows<4, 1> BatchShare;
#endif

extern "C" __global__ void __launch_bounds__(THREADS, 1) wavenet_general_batch(const __grid_constant__ Params p) {
  run_general<BatchShare, false>(p);
}
