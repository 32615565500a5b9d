// One of the two ends of the pipeline: the skips of the last layers, which both sum; then, after a relu, half of the
// hidden channels, and what these bring to the logits. Two neighbouring channels or codes a lane, in rows g and g + 8
// of a tile.
#pragma once
#include "pipeline_bf16/skips.cuh"

template <typename M>
struct Bf16End : Bf16Skips<M> {
  using Bf16Skips<M>::d;
  using Bf16Skips<M>::warp;
  using Bf16Skips<M>::lane;
  using Bf16Skips<M>::channel;

  __device__ explicit Bf16End(const Bf16Block<M> &block) : Bf16Skips<M>(block) {}

  __device__ u32 which() const { return d.rank - d.end_rank(0); }

  // All skips, after a relu.
  __device__ void end_skips(u32 sample) const {
    if (warp >= M::SKIP_WARPS) return;
    SkipMemory<M> &memory = d.skip();
    const u32 half = sample & 1, phase = sample >> 1 & 1;
    const float *bias = d.p.floats + d.p.skip_bias + channel;
    float2 all = this->sum(sample, make_float2(bias[0], bias[1]));
    if (d.args.skip_blocks > 0) {
      mbarrier_wait(memory.sums_barriers[half], phase);
#pragma unroll 1
      for (u32 from = 0; from < d.args.skip_blocks; ++from) {
        const float2 early = *(const float2 *)&memory.sums[half][from][channel];
        all = make_float2(all.x + early.x, all.y + early.y);
      }
      __syncwarp();
      if (threadIdx.x == 0) mbarrier_expect(memory.sums_barriers[half], d.args.skip_blocks * 4 * M::S);
    }
    if ((lane & 3) == 0) ((u32 *)memory.skips[half])[channel / 2] = rounded(relu_(all.x), relu_(all.y));
  }

  // The warps that have hidden channels.
  __device__ void run_hidden() const {
    const Params &p = d.p;
    const bool has_hidden = warp < M::HIDDEN_WARPS;
    Tile<M::S_PARTS> rows;
    float2 bias = {};
    if (has_hidden) {
      const u32 tile = which() * M::HIDDEN_WARPS + warp;
      rows.load(p.weights + d.args.end1 + tile * M::S_PARTS * 64, lane);
      const float *from = p.floats + p.end1_bias + which() * M::HIDDEN + channel;
      bias = make_float2(from[0], from[1]);
    }
#pragma unroll 1
    for (u32 sample = 0; wait_for_grant(d, sample); ++sample) {
      SkipMemory<M> &memory = d.skip();
      const u32 half = sample & 1;
      end_skips(sample);
      named_barrier_sync(SKIPS_BARRIER, M::BLOCK);
      if (has_hidden) {
        Sums sums(bias.x, bias.y);
        rows.multiply(memory.skips[half], lane & 3, sums);
        if ((lane & 3) == 0) ((u32 *)memory.hidden[half])[channel / 2] = rounded(relu_(sums.low()), relu_(sums.high()));
      }
      named_barrier_arrive(HIDDEN_BARRIER, M::BLOCK);
    }
  }

  // The warps that have codes.
  __device__ void run_codes() const {
    constexpr u32 UNITS = M::HIDDEN_PARTS * 64;
    const u32 first = (warp - M::FIRST_CODES) * M::CODE_TILES, t = lane & 3;
    Tile<M::HIDDEN_PARTS> tiles[M::CODE_TILES];
#pragma unroll
    for (u32 i = 0; i < M::CODE_TILES; ++i)
      tiles[i].load(d.p.weights + d.args.end2 + (which() * M::WARPS + first + i) * UNITS, lane);
#pragma unroll 1
    for (u32 sample = 0; wait_for_grant(d, sample); ++sample) {
      const u32 half = sample & 1;
      end_skips(sample);
      named_barrier_arrive(SKIPS_BARRIER, M::BLOCK);
      named_barrier_sync(HIDDEN_BARRIER, M::BLOCK);
      const auto hidden = Eights<M::HIDDEN_PARTS>::of(d.skip().hidden[half], t);
      Sums sums[M::CODE_TILES];
#pragma unroll
      for (u32 i = 0; i < M::CODE_TILES; ++i) tiles[i].multiply(hidden, sums[i]);
      // Of the four lanes that have both tiles, one sends each.
      const float low = t ? sums[1].low() : sums[0].low(), high = t ? sums[1].high() : sums[0].high();
      if (t > 1) continue;
      const u32 code = 16 * (first + t) + lane / 4 * 2;
      send_async(address_in_block(d.head_rank(), &d.head().parts[half][which()][code]), low, high,
                 address_in_block(d.head_rank(), &d.head().parts_barriers[half]));
    }
  }
};
