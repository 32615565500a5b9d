// One voice a cluster, in bf16: `pipeline_bf16/pipeline_bf16.cuh` says who does what.

#ifndef __CUDACC_RTC__
#include "shim.h"
#endif
#include "common/copies.cuh"
#include "pipeline_bf16/ahead.cuh"
#include "pipeline_bf16/choice.cuh"
#include "pipeline_bf16/end.cuh"

template <typename M>
__device__ inline void prepare_chain(const Bf16Block<M> &d) {
  const PipelineBf16Args &r = d.args;
  const u32 resident = d.layers() < d.resident() ? d.layers() : d.resident();
  copy_units(d.packets(), d.p.weights + r.packets + (d.first_layer() - 1) * r.packet, resident * r.packet);
  if (d.rank == 0) copy_units(d.weights(), d.p.weights + r.heard, r.heard_units);
  if (threadIdx.x > 0) return;
  ChainMemory<M> &memory = d.chain();
  for (u32 half = 0; half < 2; ++half) {
    for (u32 place = 0; place <= M::LAYERS; ++place) {
      // Only the first place of other blocks but the first is filled from without.
      const bool is_from_without = place == 0 && d.rank > 0;
      mbarrier_init(memory.x_barriers[half][place], is_from_without ? 1 : M::STREAMS);
      mbarrier_init(memory.z_barriers[half][place], is_from_without ? 1 : M::GATES);
    }
    mbarrier_init(memory.ahead_barriers[half], M::AHEADS);
    mbarrier_init(memory.code_barriers[half], 1);
    if (d.rank > 0) {
      mbarrier_expect(memory.x_barriers[half][0], 6 * M::R);
      mbarrier_expect(memory.z_barriers[half][0], 4 * M::R);
    } else {
      mbarrier_expect(memory.code_barriers[half], 4);
    }
  }
}

template <typename M>
__device__ inline void prepare_skips(const Bf16Block<M> &d) {
  const u32 skips = d.skips(), resident = skips < d.args.resident_skips ? skips : d.args.resident_skips;
  copy_units(d.weights(), d.p.weights + d.args.skips + d.first_skip() * M::SKIP, resident * M::SKIP);
  if (threadIdx.x > 0) return;
  SkipMemory<M> &memory = d.skip();
  for (u32 half = 0; half < 2; ++half) {
    for (u32 own = 0; own < skips; ++own) {
      mbarrier_init(memory.z_barriers[half][own], 1);
      mbarrier_expect(memory.z_barriers[half][own], 4 * M::R);
    }
    mbarrier_init(memory.sums_barriers[half], 1);
    if (d.is_end() && d.args.skip_blocks > 0)
      mbarrier_expect(memory.sums_barriers[half], d.args.skip_blocks * 4 * M::S);
  }
}

template <typename M>
__device__ inline void prepare_head(const Bf16Block<M> &d) {
  if (threadIdx.x > 0) return;
  HeadMemory<M> &memory = d.head();
  for (u32 half = 0; half < 2; ++half) {
    mbarrier_init(memory.parts_barriers[half], 1);
    mbarrier_expect(memory.parts_barriers[half], 2 * 4 * M::LEVELS);
  }
}

template <typename M>
__device__ inline void run_pipeline(const Params &p, const PipelineBf16Args &args) {
#ifdef __CUDACC_RTC__
  extern __shared__ uint4 shared[];
#endif
  const long long began = clock64();
  const ClusterHostLink<Bf16Block<M>> d = {{p, args, shared_once(shared), rank_in_cluster()}};
  const u32 warp = threadIdx.x / 32;
#pragma unroll 1
  for (u32 i = threadIdx.x; i < WORKING_BYTES / 16; i += M::BLOCK) shared[i] = make_uint4(0, 0, 0, 0);
  __syncthreads();
  if (d.is_chain()) prepare_chain<M>(d);
  if (d.is_skip_block() || d.is_end()) prepare_skips<M>(d);
  if (d.is_head()) prepare_head<M>(d);
  if (threadIdx.x == 0) prepare_grants(d);
  __syncwarp();
  cluster_sync();
  if (d.is_chain()) {
    if (warp < M::GATES) {
      Gate<M>(d).run();
    } else if (warp < M::GATES + M::STREAMS) {
      Stream<M>(d).run();
    } else if (warp < M::GATES + M::STREAMS + M::AHEADS) {
      Bf16Ahead<M>(d).run();
    }
  } else if (d.is_end()) {
    if (warp < M::FIRST_CODES) {
      Bf16End<M>(d).run_hidden();
    } else {
      Bf16End<M>(d).run_codes();
    }
  } else if (d.is_skip_block()) {
    if (warp < M::SKIP_WARPS) Bf16Skips<M>(d).run();
  } else if (d.is_head()) {
    choose<M>(d);
  } else if (d.is_host_link()) {
    if (warp == 0) HostLink<ClusterHostLink<Bf16Block<M>>>(d).run(began);
  }
  // No block ends while another may write to its memory.
  __syncwarp();
  cluster_sync();
}

#define PIPELINE(R, S, A, LAYERS, SKIPS)                                                     \
  extern "C" __global__ void __launch_bounds__(Bf16Shape<R, S, A, LAYERS, SKIPS>::BLOCK, 1)  \
      wavenet_pipeline_bf16_##R##_##S##_##A(const __grid_constant__ Params p,                \
                                            const __grid_constant__ PipelineBf16Args args) { \
    run_pipeline<Bf16Shape<R, S, A, LAYERS, SKIPS>>(p, args);                                \
  }

PIPELINE(32, 64, 128, 6, 30)
PIPELINE(64, 256, 256, 4, 6)
