// A block of the pipeline that has layers: it receives the voice's state, takes it through its layers, and sends it to
// the next block.
#pragma once
#include "pipeline_bf16/pipeline_bf16.cuh"

// The weights of one of a chain's layers that are read every sample: from shared memory, if they are there.
template <typename M>
__device__ inline const uint4 *packet_of(const Bf16Block<M> &d, u32 own) {
  return own < d.resident() ? d.packets() + own * d.args.packet
                            : d.p.weights + d.args.packets + (d.first_layer() - 1 + own) * d.args.packet;
}

// A gate: 8 units, filter and gate of each in one tile, rows g and g + 8.
template <typename M>
struct Gate {
  const Bf16Block<M> &d;
  u32 warp, lane, unit, layers;

  __device__ explicit Gate(const Bf16Block<M> &block)
      : d(block), warp(warp_once()), lane(lane_once()), unit(8 * warp + lane / 4), layers(d.layers()) {}

  // Hands on the gated unit that belongs into a place: to the next layer, here or in the next block, and to the skips.
  __device__ void hand_on(u32 place, u32 half, float z) const {
    const u32 t = lane & 3;
    if (place < layers) {
      if (t == 0) d.chain().z[half][place][unit] = z;
      __syncwarp();
      if (lane == 0) mbarrier_arrive(d.chain().z_barriers[half][place]);
    } else if (t == 0 && d.rank + 1 < d.args.chains) {
      send_async(address_in_block(d.rank + 1, &d.chain().z[half][0][unit]), __float_as_uint(z),
                 address_in_block(d.rank + 1, &d.chain().z_barriers[half][0]));
    }
    const u32 layer = d.first_layer() + place - 1;
    if (t - 1 < d.skip_blocks_of(layer)) {
      const u32 to = d.skip_block_of(layer, t - 1), at = d.skip_place_of(layer);
      send_async(address_in_block(to, &d.skip().z[half][at][unit]), __float_as_uint(z),
                 address_in_block(to, &d.skip().z_barriers[half][at]));
    }
  }

  // Layer 0 of the model hears codes: its products are in tables.
  __device__ void begin(u32 half, u32 phase) const {
    mbarrier_wait(d.chain().code_barriers[half], phase);
    const float2 heard = floats_of(((const u32 *)d.heard())[d.chain().code[half] * M::R + unit]);
    const float2 sum = d.chain().ahead[half][0][unit];
    hand_on(0, half, gated(sum.x + heard.x, sum.y + heard.y));
    __syncwarp();
    if (threadIdx.x == 0) mbarrier_expect(d.chain().code_barriers[half], 4);
  }

  __device__ void run() const {
    ChainMemory<M> &memory = d.chain();
    Tile<M::PARTS> joined[M::LAYERS], present;
#pragma unroll
    for (u32 own = 0; own < M::LAYERS; ++own)
      if (own < layers)
        joined[own].load(d.p.weights + d.args.joined + (d.first_layer() - 1 + own) * M::GATE + warp * M::TILE, lane);
    present.load(packet_of(d, 0) + warp * M::TILE, lane);
    u32 sample = 0;
#pragma unroll 1
    for (; wait_for_grant(d, sample); ++sample) {
      const u32 half = sample & 1, phase = sample >> 1 & 1;
      mbarrier_wait(memory.ahead_barriers[half], phase);
      if (d.rank == 0) begin(half, phase);
#pragma unroll
      for (u32 own = 0; own < M::LAYERS; ++own) {
        if (own >= layers) continue;
        const float2 ahead = memory.ahead[half][own + 1][unit];
        float of_x[4] = {ahead.x, ahead.x, ahead.y, ahead.y};
        Sums of_z;
        mbarrier_wait(memory.x_barriers[half][own], phase);
        present.multiply(Eights<M::PARTS>::of(memory.x_rounded[half][own], lane & 3), of_x);
        // The next one's, while the gated units are on their way.
        present.load(packet_of(d, own + 1 < layers ? own + 1 : 0) + warp * M::TILE, lane);
        mbarrier_wait(memory.z_barriers[half][own], phase);
        joined[own].multiply(Eights<M::PARTS>::of(memory.z[half][own], lane & 3), of_z);
        hand_on(own + 1, half, gated(of_x[0] + of_z.low(), of_x[2] + of_z.high()));
      }
      // What comes from another block is expected again, when all of it has come.
      __syncwarp();
      if (threadIdx.x > 0 || d.rank == 0) continue;
      mbarrier_expect(memory.x_barriers[half][0], 6 * M::R);
      mbarrier_expect(memory.z_barriers[half][0], 4 * M::R);
    }
    // The head sends a code before it knows that there is no sample more; nothing is on its way when a block ends.
    if (d.rank == 0 && warp == 0) mbarrier_wait(memory.code_barriers[sample & 1], sample >> 1 & 1);
  }
};

// A part of the residual stream: 16 channels, two neighbours a lane, in rows g and g + 8 of the tile.
template <typename M>
struct Stream {
  const Bf16Block<M> &d;
  u32 warp, lane, channel, layers;

  __device__ explicit Stream(const Bf16Block<M> &block)
      : d(block), warp(warp_once() - M::GATES), lane(lane_once()), channel(16 * warp + lane / 4 * 2),
        layers(d.layers()) {}

  // Hands on what belongs into a place: to the next layer, here or in the next block, and to those ahead, here.
  __device__ void hand_on(u32 place, u32 half, float low, float high) const {
    const u32 t = lane & 3, both = rounded(low, high), next = d.rank + 1;
    ChainMemory<M> &memory = d.chain();
    float *x = &memory.x[half][place][channel];
    if (t == 0) {
      *(float2 *)x = make_float2(low, high);
      ((u32 *)memory.x_rounded[half][place])[channel / 2] = both;
    }
    __syncwarp();
    if (lane == 0) mbarrier_arrive(memory.x_barriers[half][place]);
    if (place < layers || next >= d.args.chains) return;
    const ClusterAddress barrier = address_in_block(next, &memory.x_barriers[half][0]);
    if (t == 0) send_async(address_in_block(next, &memory.x[half][0][channel]), low, high, barrier);
    if (t == 1) send_async(address_in_block(next, (u32 *)memory.x_rounded[half][0] + channel / 2), both, barrier);
  }

  __device__ void begin(u32 half, u32 phase) const {
    mbarrier_wait(d.chain().code_barriers[half], phase);
    const u32 *embeddings = (const u32 *)d.heard() + M::LEVELS * M::R;
    const float2 heard = floats_of(embeddings[(d.chain().code[half] * M::R + channel) / 2]);
    hand_on(0, half, heard.x, heard.y);
  }

  __device__ void run() const {
    ChainMemory<M> &memory = d.chain();
    Tile<M::PARTS> residuals[M::LAYERS];
    float2 biases[M::LAYERS];
#pragma unroll
    for (u32 own = 0; own < M::LAYERS; ++own) {
      if (own >= layers) continue;
      const u32 before = d.first_layer() - 1 + own;
      residuals[own].load(d.p.weights + d.args.residuals + before * M::RESIDUAL + warp * M::TILE, lane);
      const float *bias = d.p.floats + d.p.residual_bias + before * M::R + channel;
      biases[own] = make_float2(bias[0], bias[1]);
    }
#pragma unroll 1
    for (u32 sample = 0; wait_for_grant(d, sample); ++sample) {
      const u32 half = sample & 1, phase = sample >> 1 & 1;
      if (d.rank == 0) begin(half, phase);
#pragma unroll
      for (u32 own = 0; own < M::LAYERS; ++own) {
        if (own >= layers) continue;
        mbarrier_wait(memory.x_barriers[half][own], phase);
        const float2 x = *(const float2 *)&memory.x[half][own][channel];
        Sums sums(x.x + biases[own].x, x.y + biases[own].y);
        mbarrier_wait(memory.z_barriers[half][own], phase);
        residuals[own].multiply(Eights<M::PARTS>::of(memory.z[half][own], lane & 3), sums);
        hand_on(own + 1, half, sums.low(), sums.high());
      }
    }
  }
};
