// One voice a block, for shapes that the compiler knows: `single/single.cuh` says who does what.

#ifndef __CUDACC_RTC__
#include "shim.h"
#endif
#include "common/host_link.cuh"
#include "single/ahead.cuh"
#include "single/chain.cuh"
#include "single/head.cuh"
#include "single/loader.cuh"

template <typename S>
__device__ inline void run_single(const Params &p, const SingleArgs &args) {
#ifdef __CUDACC_RTC__
  extern __shared__ uint4 shared[];
#endif
  const long long began = clock64();
  const u32 tid = threadIdx.x, threads = S::BLOCK, warp = tid / 32;
  const SingleBlock<S> d = {p, args, shared};
#pragma unroll 1
  for (u32 i = tid; i < args.at_end2; i += threads) shared[i] = make_uint4(0, 0, 0, 0);
  __syncthreads();
#pragma unroll 1
  for (u32 i = tid; i < p.layers; i += threads) shared[args.at_rings + i] = p.rings[i];
#pragma unroll 1
  for (u32 i = tid; i < S::LEVELS / 16 * S::A_PARTS * 32; i += threads) d.end2()[i] = p.weights[args.end2_tiles + i];
#pragma unroll 1
  for (u32 i = tid; i < args.resident * S::PACKET; i += threads)
    shared[args.at_packets + i] = p.weights[args.packets + i];
  if (tid == 0) {
    d.voice() = p.orders[blockIdx.x];
    d.counters().stop = ~0u;
  }
  __syncthreads();
  recall(d);
  __syncthreads();
  if (warp < S::FIRST_AHEAD) {
    chain(d);
  } else if (warp < S::FIRST_HEAD) {
    Ahead<S>(d).run();
  } else if (warp < S::HOST_LINK) {
    Head<S>().run(d);
  } else if (warp == S::HOST_LINK) {
    HostLink<SingleBlock<S>>(d).run(began);
  } else {
    load_packets(d);
  }
}

#define SINGLE(R, S, A)                                                                                           \
  extern "C" __global__ void __launch_bounds__(SingleShape<R, S, A>::BLOCK, 1)                                    \
      wavenet_single_##R##_##S##_##A(const __grid_constant__ Params p, const __grid_constant__ SingleArgs args) { \
    run_single<SingleShape<R, S, A>>(p, args);                                                                    \
  }

SINGLE(32, 64, 128)
SINGLE(64, 256, 256)
