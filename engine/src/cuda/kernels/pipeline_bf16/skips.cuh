// The skips of the layers. A warp has 16 channels, two neighbours a lane, in rows g and g + 8 of a tile.
#pragma once
#include "pipeline_bf16/pipeline_bf16.cuh"

template <typename M>
struct Bf16Skips {
  const Bf16Block<M> &d;
  u32 warp, lane, channel;

  __device__ explicit Bf16Skips(const Bf16Block<M> &block)
      : d(block), warp(warp_once()), lane(lane_once()), channel(16 * warp + lane / 4 * 2) {}

  __device__ const uint4 *tile_of(u32 own) const {
    const uint4 *all = own < d.args.resident_skips ? d.weights() + own * M::SKIP
                                                   : d.p.weights + d.args.skips + (d.first_skip() + own) * M::SKIP;
    return all + warp * M::TILE;
  }

  // The sums of this block's layers onto what they begin with, and those of the others.
  __device__ float2 sum(u32 sample, float2 begin) const {
    SkipMemory<M> &memory = d.skip();
    const u32 half = sample & 1, phase = sample >> 1 & 1, count = d.skips();
    Sums sums(begin.x, begin.y);
#pragma unroll 1
    for (u32 own = 0; own < count; ++own) {
      // But for its first part a tile comes while that is multiplied: the end has no registers for more.
      Tile<1> tile;
      tile.load(tile_of(own), lane);
      mbarrier_wait(memory.z_barriers[half][own], phase);
#pragma unroll
      for (u32 part = 0; part < M::PARTS; ++part) {
        if (part > 0) tile.load(tile_of(own) + 64 * part, lane);
        tile.multiply(Eights<1>::of(memory.z[half][own] + 32 * part, lane & 3), sums);
      }
      if (threadIdx.x == 0) mbarrier_expect(memory.z_barriers[half][own], 4 * M::R);
    }
    return make_float2(sums.low(), sums.high());
  }

  // Of the first layers, for both ends.
  __device__ void run() const {
    const u32 from = d.rank - d.args.chains, t = lane & 3;
#pragma unroll 1
    for (u32 sample = 0; wait_for_grant(d, sample); ++sample) {
      const float2 sums = sum(sample, make_float2(0.0f, 0.0f));
      const u32 half = sample & 1, to = d.end_rank(t & 1);
      if (t < 2)
        send_async(address_in_block(to, &d.skip().sums[half][from][channel]), sums.x, sums.y,
                   address_in_block(to, &d.skip().sums_barriers[half]));
    }
  }
};
