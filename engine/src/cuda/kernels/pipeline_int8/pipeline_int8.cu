// One voice a cluster, in int8: `pipeline_int8.cuh` says who does what.

#ifndef __CUDACC_RTC__
#include "shim.h"
#endif
#include "common/copies.cuh"
#include "pipeline_int8/chain.cuh"
#include "pipeline_int8/end.cuh"

template <typename M>
__device__ inline void prepare_chain(const Int8Block<M> &d) {
  const u32 first = d.first_layer() - 1, layers = d.layers(), past = (d.p.kernel_size - 1) * M::TAP;
  const u32 resident = layers < d.args.resident_past ? layers : d.args.resident_past;
  copy_units(d.weights(), d.p.weights + d.args.packets + first * M::PACKET, layers * M::PACKET);
  copy_units(d.weights() + layers * M::PACKET, d.p.weights + d.args.past + first * past, resident * past);
  if (threadIdx.x > 0) return;
  ChainMemory<M> &m = d.chain();
  for (u32 half = 0; half < 2; ++half) {
    mbarrier_init(m.before_barriers[half], 1);
    mbarrier_init(m.code_barriers[half], 1);
    mbarrier_expect(m.before_barriers[half], 5 * M::R);
    mbarrier_expect(m.code_barriers[half], 4);
  }
}

template <typename M>
__device__ inline void prepare_skips(const Int8Block<M> &d) {
  const u32 skips = d.skips(), blocks = d.args.skip_blocks;
  copy_units(d.weights(), d.p.weights + d.args.skips + d.first_skip() * M::SKIP, skips * M::SKIP);
  if (threadIdx.x > 0) return;
  EndMemory<M> &m = d.end();
  for (u32 half = 0; half < 2; ++half) {
    for (u32 own = 0; own < skips; ++own) {
      mbarrier_init(m.z_barriers[half][own], 1);
      mbarrier_expect(m.z_barriers[half][own], M::R);
    }
    mbarrier_init(m.sums_barriers[half], 1);
    if (d.is_end() && blocks > 0) mbarrier_expect(m.sums_barriers[half], blocks * 4 * M::S);
  }
}

template <typename M>
__device__ inline void run_pipeline(const Params &p, const PipelineInt8Args &args) {
#ifdef __CUDACC_RTC__
  extern __shared__ uint4 shared[];
#endif
  const long long began = clock64();
  const ClusterHostLink<Int8Block<M>> d = {{p, args, shared_once(shared), rank_in_cluster()}};
  const u32 warp = threadIdx.x / 32;
#pragma unroll 1
  for (u32 i = threadIdx.x; i < WORKING_BYTES / 16; i += M::BLOCK) shared[i] = make_uint4(0, 0, 0, 0);
  __syncthreads();
  if (d.is_chain()) prepare_chain<M>(d);
  if (d.sums_skips()) prepare_skips<M>(d);
  if (threadIdx.x == 0) prepare_grants(d);
  __syncwarp();
  cluster_sync();
  if (d.is_chain()) {
    if (warp < M::CHAIN) Int8Chain<M>(d).run();
  } else if (d.is_end()) {
    Int8End<M>(d).run();
  } else if (d.sums_skips()) {
    Int8Skips<M>(d).run();
  } else if (d.is_host_link()) {
    if (warp == 0) HostLink<ClusterHostLink<Int8Block<M>>>(d).run(began);
  }
  // Nobody goes while another may write to it.
  __syncwarp();
  cluster_sync();
}

#define PIPELINE(R, S, A, LAYERS, SKIPS)                                                     \
  extern "C" __global__ void __launch_bounds__(Int8Shape<R, S, A, LAYERS, SKIPS>::BLOCK, 1)  \
      wavenet_pipeline_int8_##R##_##S##_##A(const __grid_constant__ Params p,                \
                                            const __grid_constant__ PipelineInt8Args args) { \
    run_pipeline<Int8Shape<R, S, A, LAYERS, SKIPS>>(p, args);                                \
  }

PIPELINE(64, 256, 256, 8, 12)
PIPELINE(128, 256, 256, 4, 6)
