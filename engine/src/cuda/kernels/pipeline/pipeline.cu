// One voice a cluster, in bf16: `pipeline/pipeline.cuh` says who does what.

#ifndef __CUDACC_RTC__
#include "shim.h"
#endif
#include "common/host_link.cuh"
#include "pipeline/ahead.cuh"
#include "pipeline/choice.cuh"
#include "pipeline/end.cuh"
#include "pipeline/host_link.cuh"

// By all threads of a block.
__device__ inline void copy_weights(uint4 *to, const uint4 *from, u32 units) {
#pragma unroll 1
  for (u32 i = threadIdx.x; i < units; i += blockDim.x) to[i] = from[i];
}

template <typename M>
__device__ inline void prepare_chain(const Station<M> &d) {
  const Relay &r = d.relay;
  const u32 resident = d.layers() < d.resident() ? d.layers() : d.resident();
  copy_weights(d.packets(), d.p.weights + r.packets + (d.first_layer() - 1) * r.packet, resident * r.packet);
  if (d.rank == 0) copy_weights(d.weights(), d.p.weights + r.heard, r.heard_units);
  if (threadIdx.x > 0) return;
  ChainRoom<M> &room = d.chain();
  for (u32 half = 0; half < 2; ++half) {
    for (u32 place = 0; place <= M::LAYERS; ++place) {
      // Only the first place of other blocks but the first is filled from without.
      const bool is_from_without = place == 0 && d.rank > 0;
      hang(room.x_bells[half][place], is_from_without ? 1 : M::STREAMS);
      hang(room.z_bells[half][place], is_from_without ? 1 : M::GATES);
    }
    hang(room.ahead_bells[half], M::AHEADS);
    hang(room.code_bells[half], 1);
    if (d.rank > 0) {
      expect(room.x_bells[half][0], 6 * M::R);
      expect(room.z_bells[half][0], 4 * M::R);
    } else {
      expect(room.code_bells[half], 4);
    }
  }
}

template <typename M>
__device__ inline void prepare_skips(const Station<M> &d) {
  const u32 skips = d.skips(), resident = skips < d.relay.resident_skips ? skips : d.relay.resident_skips;
  copy_weights(d.weights(), d.p.weights + d.relay.skips + d.first_skip() * M::SKIP, resident * M::SKIP);
  if (threadIdx.x > 0) return;
  SkipRoom<M> &room = d.skip();
  for (u32 half = 0; half < 2; ++half) {
    for (u32 own = 0; own < skips; ++own) {
      hang(room.z_bells[half][own], 1);
      expect(room.z_bells[half][own], 4 * M::R);
    }
    hang(room.sums_bells[half], 1);
    if (d.is_end() && d.relay.skippers > 0) expect(room.sums_bells[half], d.relay.skippers * 4 * M::S);
  }
}

template <typename M>
__device__ inline void prepare_head(const Station<M> &d) {
  if (threadIdx.x > 0) return;
  HeadRoom<M> &room = d.head();
  for (u32 half = 0; half < 2; ++half) {
    hang(room.parts_bells[half], 1);
    expect(room.parts_bells[half], 2 * 4 * M::LEVELS);
  }
}

template <typename M>
__device__ inline void pass_on(const Params &p, const Relay &relay) {
#ifdef __CUDACC_RTC__
  extern __shared__ uint4 shared[];
#endif
  const long long began = clock64();
  const RelayDesk<M> d = {{p, relay, shared_once(shared), rank_in_cluster()}};
  const u32 warp = threadIdx.x / 32;
#pragma unroll 1
  for (u32 i = threadIdx.x; i < ROOM / 16; i += M::BLOCK) shared[i] = make_uint4(0, 0, 0, 0);
  __syncthreads();
  if (d.is_chain()) prepare_chain<M>(d);
  if (d.is_skipper() || d.is_end()) prepare_skips<M>(d);
  if (d.is_head()) prepare_head<M>(d);
  if (threadIdx.x == 0 && d.rank <= d.head_rank()) {
    Grants &all = *(Grants *)shared;
    for (u32 place = 0; place < GRANTS; ++place) {
      hang(all.bells[place], 1);
      expect(all.bells[place], d.bytes_of_grant(d.rank));
    }
  }
  meet_cluster();
  if (d.is_chain()) {
    if (warp < M::GATES) {
      Gate<M>(d).play();
    } else if (warp < M::GATES + M::STREAMS) {
      Stream<M>(d).play();
    } else if (warp < M::GATES + M::STREAMS + M::AHEADS) {
      RelayAhead<M>(d).play();
    }
  } else if (d.is_end()) {
    if (warp < M::FIRST_CODES) {
      RelayEnd<M>(d).play_hidden();
    } else {
      RelayEnd<M>(d).play_codes();
    }
  } else if (d.is_skipper()) {
    if (warp < M::SKIP_WARPS) RelaySkips<M>(d).play();
  } else if (d.is_head()) {
    choose<M>(d);
  } else if (d.is_desk()) {
    if (warp == 0) Herald<RelayDesk<M>>(d).play(began);
  }
  // Nobody goes while another may write to it.
  __syncwarp();
  meet_cluster();
}

#define RELAY(R, S, A, LAYERS, SKIPS)                                                                                  \
  extern "C" __global__ void __launch_bounds__(Team<R, S, A, LAYERS, SKIPS>::BLOCK, 1)                                 \
      wavenet_relay_##R##_##S##_##A(const __grid_constant__ Params p, const __grid_constant__ Relay relay) {           \
    pass_on<Team<R, S, A, LAYERS, SKIPS>>(p, relay);                                                                   \
  }

RELAY(32, 64, 128, 6, 30)
RELAY(64, 256, 256, 4, 6)
