// The skips of a relay's layers, and, where the last of them are, the first product of the end. A warp has 16 channels of
// each, two neighbours a lane, in rows g and g + 8 of a tile.
#pragma once
#include "relay.cuh"

template <typename M>
struct RelaySkips {
  const Station<M> &d;
  u32 warp, lane, channel;

  __device__ explicit RelaySkips(const Station<M> &station)
      : d(station), warp(warp_once()), lane(lane_once()), channel(16 * warp + lane / 4 * 2) {}

  __device__ const uint4 *tile_of(u32 own) const {
    const uint4 *all = own < d.relay.resident_skips ? d.weights() + own * M::SKIP
                                                    : d.p.weights + d.relay.skips + (d.first_skip() + own) * M::SKIP;
    return all + warp * M::TILE;
  }

  // The sums of this block's layers onto what they begin with, and those of the others.
  __device__ float2 sum(u32 sample, float2 begin) const {
    SkipRoom<M> &room = d.skip();
    const u32 half = sample & 1, phase = sample >> 1 & 1, count = d.skips();
    Sums sums(begin.x, begin.y);
#pragma unroll 1
    for (u32 own = 0; own < count; ++own) {
      // But for its first part a tile comes while that is multiplied: the end has no room for more.
      Tile<1> tile;
      tile.load(tile_of(own), lane);
      hear(room.z_bells[half][own], phase);
#pragma unroll
      for (u32 part = 0; part < M::PARTS; ++part) {
        if (part > 0) tile.load(tile_of(own) + 64 * part, lane);
        tile.multiply(Eights<1>::of(room.z[half][own] + 32 * part, lane & 3), sums);
      }
      if (threadIdx.x == 0) expect(room.z_bells[half][own], 4 * M::R);
    }
    return make_float2(sums.low(), sums.high());
  }

  // Of the first layers, for the block of the end.
  __device__ void play_early() const {
    const u32 to = d.end_rank(), from = d.rank - d.relay.chains;
#pragma unroll 1
    for (u32 sample = 0; d.await_grant(sample); ++sample) {
      const float2 sums = sum(sample, make_float2(0.0f, 0.0f));
      const u32 half = sample & 1;
      if ((lane & 3) == 0)
        send(place_in(to, &d.skip().sums[half][from][channel]), sums.x, sums.y, place_in(to, &d.skip().sums_bells[half]));
    }
  }

  // All skips, after a relu.
  __device__ void end_skips(u32 sample, float2 bias) const {
    SkipRoom<M> &room = d.skip();
    const u32 half = sample & 1, phase = sample >> 1 & 1;
    float2 all = sum(sample, bias);
    if (d.relay.skippers > 0) {
      hear(room.sums_bells[half], phase);
#pragma unroll 1
      for (u32 from = 0; from < d.relay.skippers; ++from) {
        const float2 early = *(const float2 *)&room.sums[half][from][channel];
        all = make_float2(all.x + early.x, all.y + early.y);
      }
      __syncwarp();
      if (threadIdx.x == 0) expect(room.sums_bells[half], d.relay.skippers * 4 * M::S);
    }
    if ((lane & 3) == 0) ((u32 *)room.skips[half])[channel / 2] = rounded(relu_(all.x), relu_(all.y));
  }

  __device__ float2 two(const float *from) const { return make_float2(from[channel], from[channel + 1]); }

  // Of the last layers; and the hidden channels, for the head.
  __device__ void play_end() const {
    const Params &p = d.p;
    const bool has_skips = warp < M::SKIP_WARPS, has_end = warp < M::END_WARPS;
    Tile<M::S_PARTS> end;
    float2 end_bias = {};
    if (has_end) {
      end.load(p.weights + d.relay.end1 + warp * M::S_PARTS * 64, lane);
      end_bias = two(p.floats + p.end1_bias);
    }
#pragma unroll 1
    for (u32 sample = 0; d.await_grant(sample); ++sample) {
      const u32 half = sample & 1;
      if (has_skips) end_skips(sample, two(p.floats + p.skip_bias));
      join(ENDS_MEET, 32 * M::ENDS);
      if (!has_end) continue;
      Sums sums(end_bias.x, end_bias.y);
      end.multiply(d.skip().skips[half], lane & 3, sums);
      if (lane & 3) continue;
      send(place_in(d.head_rank(), (u32 *)d.head().hidden[half] + channel / 2), rounded(relu_(sums.low()), relu_(sums.high())),
           place_in(d.head_rank(), &d.head().hidden_bells[half]));
    }
  }
};
