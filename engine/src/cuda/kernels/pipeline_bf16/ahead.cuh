// What of the next sample is known before its code: bias, past taps and conditioning of a block's layers, summed while
// the voice is in other blocks.
#pragma once
#include "pipeline_bf16/chain.cuh"

// 16 units: two tiles, filter and gate of each unit in one, rows g and g + 8.
template <typename M>
struct Bf16Ahead {
  using Vector = Eights<M::PARTS>;
  const Bf16Block<M> &d;
  u32 warp, lane, unit, layers;
  u64 made;
  uint4 *lane_memory;

  __device__ explicit Bf16Ahead(const Bf16Block<M> &block)
      : d(block), warp(warp_once() - M::GATES - M::STREAMS), lane(lane_once()), unit(16 * warp + lane / 4),
        layers(d.layers()), made(d.voice().made), lane_memory(d.p.lanes + (u64)d.voice().lane * d.p.lane_units) {}

  // Where a layer's input of a time lies: in bf16.
  __device__ uint4 *row(uint4 ring, u64 time) const { return lane_memory + ring.x + ((u32)time & ring.y) * (M::R / 8); }

  // Keeps what a layer heard for when it is past.
  __device__ void keep(u32 own, u64 time, const Vector &x) const {
    if (lane >= 4 || warp != own % M::AHEADS) return;
    uint4 *to = row(d.p.rings[d.first_layer() + own], time);
#pragma unroll
    for (u32 part = 0; part < M::PARTS; ++part) to[4 * part + lane] = x.parts[part];
  }
  __device__ void keep_code(u64 time, u32 code) const {
    if (lane == 0 && warp == 0) codes()[(u32)time & d.p.rings[0].y] = (u8)code;
  }
  __device__ u8 *codes() const { return (u8 *)(lane_memory + d.p.lane_codes); }

  __device__ void add(const uint4 *tiles, u32 stride, const Vector &vector, Sums *sums) const {
#pragma unroll
    for (u32 i = 0; i < 2; ++i) {
      Tile<M::PARTS> tile;
      tile.load(tiles + (2 * warp + i) * stride, lane);
      tile.multiply(vector, sums[i]);
    }
  }

  // The product with the sample's conditioning vector.
  __device__ void add_conditioning(const uint4 *tiles, const Grant &grant, Sums *sums) const {
    const u32 parts = d.units_of_h() / 4;
#pragma unroll 1
    for (u32 part = 0; part < parts; ++part) {
      const Eights<1> vector = Eights<1>::of(grant.h + 4 * part, lane & 3);
#pragma unroll
      for (u32 i = 0; i < 2; ++i) {
        Tile<1> tile;
        tile.load(tiles + ((2 * warp + i) * parts + part) * 64, lane);
        tile.multiply(vector, sums[i]);
      }
    }
  }

  __device__ void store(u32 half, u32 place, const Sums *sums) const {
    if (lane & 3) return;
#pragma unroll
    for (u32 i = 0; i < 2; ++i) d.chain().ahead[half][place][unit + 8 * i] = make_float2(sums[i].low(), sums[i].high());
  }

  __device__ Sums bias_of(u32 layer, u32 i) const {
    const float2 bias = ((const float2 *)(d.p.floats + d.args.gate_bias))[layer * M::R + unit + 8 * i];
    return Sums(bias.x, bias.y);
  }

  // Layer 0 of the model: sums of tables, whose first has the bias. `code`: what it heard last.
  __device__ void sum_codes(u32 half, u64 time, u32 code, const Grant &grant) const {
    const Params &p = d.p;
    const u32 taps = p.kernel_size - 1;
    const uint4 ring = p.rings[0];
    float2 heard[2] = {};
#pragma unroll 1
    for (u32 tap = 0; tap < taps; ++tap) {
      const u32 back = (taps - tap) * ring.z;
      u32 of_tap = p.silent_code;
      if (time >= back) of_tap = back == 1 ? code : codes()[(u32)(time - back) & ring.y];
      const float *table = p.floats + p.tables + (tap * p.levels + of_tap) * 2 * M::R;
#pragma unroll
      for (u32 i = 0; i < 2; ++i) {
        heard[i].x += table[unit + 8 * i];
        heard[i].y += table[M::R + unit + 8 * i];
      }
    }
    Sums sums[2] = {Sums(heard[0].x, heard[0].y), Sums(heard[1].x, heard[1].y)};
    add_conditioning(p.weights + d.args.first_conditioning, grant, sums);
    store(half, 0, sums);
  }

  // A layer of this block. `x`: its input of the sample before.
  __device__ void sum(u32 own, u32 half, u64 time, const Vector &x, const Grant &grant) const {
    const Params &p = d.p;
    const u32 layer = d.first_layer() + own, taps = p.kernel_size - 1;
    const uint4 ring = p.rings[layer], *packet = packet_of(d, own) + M::GATE;
    Sums sums[2] = {bias_of(layer, 0), bias_of(layer, 1)};
#pragma unroll 1
    for (u32 tap = 0; tap < taps; ++tap, packet += M::GATE) {
      const u32 back = (taps - tap) * ring.z;
      const bool is_latest = back == 1 && time > 0;
      const uint4 *past = time < back ? p.silence + layer * (M::R / 8) : row(ring, time - back);
      add(packet, M::TILE, is_latest ? x : Vector::of(past, lane & 3), sums);
    }
    add_conditioning(packet, grant, sums);
    store(half, own + 1, sums);
  }

  __device__ void run() const {
    ChainMemory<M> &memory = d.chain();
    // What was heard last, before this slice.
    u32 code = made > 0 ? codes()[(u32)(made - 1) & d.p.rings[0].y] : 0;
    for (u32 sample = 0;; ++sample) {
      const bool may_go = wait_for_grant(d, sample);
      const u64 time = made + sample;
      const u32 half = sample & 1, before = (sample - 1) & 1, phase = (sample - 1) >> 1 & 1;
      const Grant &grant = memory.grants[sample % GRANTS];
      if (d.rank == 0 && sample > 0) {
        mbarrier_wait(memory.code_barriers[before], phase);
        code = memory.code[before];
        keep_code(time - 1, code);
      }
      if (d.rank == 0 && may_go) sum_codes(half, time, code, grant);
#pragma unroll 1
      for (u32 own = 0; own < layers; ++own) {
        Vector x = {};
        if (sample > 0) {
          mbarrier_wait(memory.x_barriers[before][own + 1], phase);
          x = Vector::of(memory.x_rounded[before][own + 1], lane & 3);
          keep(own, time - 1, x);
        } else if (time > 0) {
          x = Vector::of(row(d.p.rings[d.first_layer() + own], time - 1), lane & 3);
        }
        if (may_go) sum(own, half, time, x, grant);
      }
      if (!may_go) return;
      __syncwarp();
      if (lane == 0) mbarrier_arrive(memory.ahead_barriers[half]);
      // What one warp kept is read by all.
      named_barrier_sync(AHEAD_BARRIER, 32 * M::AHEADS);
    }
  }
};
