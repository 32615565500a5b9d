// A block of an int8 pipeline's chain: the voice comes, goes through its layers, and is handed on. A warp has 16 gated
// units, filter and gate of each in one lane (lanes t and t + 2 of a group have the same), and 16 channels of the
// residual stream, two neighbours in each group of four lanes.
#pragma once
#include "pipeline_int8/pipeline_int8.cuh"

template <typename M>
struct Int8Chain {
  const Int8Block<M> &d;
  u32 warp, lane, t, unit, channel, layers;
  u64 made;
  uint4 *memory;  // of the lane

  __device__ explicit Int8Chain(const Int8Block<M> &block)
      : d(block), warp(threadIdx.x / 32), lane(threadIdx.x & 31), t(lane & 3), unit(16 * warp + 8 * (t & 1) + lane / 4),
        channel(16 * warp + lane / 4 * 2), layers(d.layers()), made(d.voice().made),
        memory(d.p.lanes + (u64)d.voice().lane * d.p.lane_units) {}

  __device__ void meet() const { named_barrier_sync(CHAIN_BARRIER, 32 * M::CHAIN); }

  // Weights of this block's layers: those on the voice's way, and those of past taps.
  using Tile = Rows16<1, M::PARTS>;
  __device__ const uint4 *packet(u32 own) const { return d.weights() + own * M::PACKET; }
  __device__ const uint4 *residual_of(u32 own) const { return packet(own) + M::TAP + warp * M::PARTS * 32; }
  __device__ const uint4 *past_tiles(u32 own) const {
    const u32 each = (d.p.kernel_size - 1) * M::TAP;
    return own < d.args.resident_past ? d.weights() + layers * M::PACKET + own * each
                                          : d.p.weights + d.args.past + (d.first_layer() - 1 + own) * each;
  }

  // Where a layer's input of a time lies, in the device's memory; and the codes that were heard.
  __device__ uint4 *row(uint4 ring, u64 time) const { return memory + ring.x + ((u32)time & ring.y) * (M::VECTOR + 1); }
  __device__ u8 *codes() const { return (u8 *)(memory + d.p.lane_codes); }

  // This lane's of the sums of a tile of filters, or of gates.
  __device__ int own_sum(const int *sums) const { return t & 1 ? sums[2] : sums[0]; }

  // Adds a product onto filter and gate of a unit; `scales`: float of the first filter row's.
  __device__ void add(float2 &onto_, const int (*sums)[4], u32 scales, float of_vector) const {
    const float *rows = d.p.floats + scales + unit;
    onto_.x = onto(onto_.x, own_sum(sums[0]), rows[0], of_vector);
    onto_.y = onto(onto_.y, own_sum(sums[1]), rows[M::R], of_vector);
  }

  __device__ void add_conditioning(float2 &sum, u32 layer, const Grant &grant) const {
    const Vector &shape = d.p.conditioning_vector;
    if (shape.channels == 0) return;
    const u32 parts = (shape.channels + 31) / 32;
    const uint4 *tiles = d.p.weights + d.args.conditioning + (layer * M::CHAIN + warp) * parts * 2 * 32;
    int sums[2][4] = {};
#pragma unroll 1
    for (u32 part = 0; part < parts; ++part) {
      Rows16<2, 1> rows;
      rows.load(tiles + part * 2 * 32);
      rows.multiply(grant.h + 2 * part, sums);
    }
    add(sum, sums, d.p.conditioning_weights.scales + layer * 2 * M::R, __uint_as_float(grant.h[shape.scale].x));
  }

  __device__ void store_ahead(u32 place, float2 sum) const {
    if (t < 2) d.chain().ahead[place][unit] = sum;
    __syncwarp();
  }

  // Layer 0 of the model, which hears codes: sums of tables, whose first has the bias. `code`: what it heard last.
  __device__ void sum_codes(u64 time, u32 code, const Grant &grant) const {
    const Params &p = d.p;
    const u32 taps = p.kernel_size - 1;
    const uint4 ring = p.rings[0];
    float2 sum = make_float2(0.0f, 0.0f);
#pragma unroll 1
    for (u32 tap = 0; tap < taps; ++tap) {
      const u32 back = (taps - tap) * ring.z;
      u32 of_tap = p.silent_code;
      if (time >= back) of_tap = back == 1 ? code : codes()[(u32)(time - back) & ring.y];
      const float *table = p.floats + p.tables + (tap * p.levels + of_tap) * 2 * M::R + unit;
      sum = tap == 0 ? make_float2(table[0], table[M::R]) : make_float2(sum.x + table[0], sum.y + table[M::R]);
    }
    add_conditioning(sum, 0, grant);
    store_ahead(0, sum);
  }

  // Bias, past taps and conditioning of a layer of this block.
  __device__ void sum_ahead(u32 own, u32 sample, const Grant &grant) const {
    const Params &p = d.p;
    const u32 layer = d.first_layer() + own, taps = p.kernel_size - 1;
    const u64 time = made + sample;
    const uint4 ring = p.rings[layer], *tiles = past_tiles(own) + warp * 2 * M::PARTS * 32;
    const float *bias = p.floats + p.gate_bias + layer * 2 * M::R + unit;
    float2 sum = make_float2(bias[0], bias[M::R]);
#pragma unroll 1
    for (u32 tap = 0; tap < taps; ++tap, tiles += M::TAP) {
      Rows16<2, M::PARTS> rows;
      rows.load(tiles);
      const u32 back = (taps - tap) * ring.z;
      const uint4 *past = time < back ? p.silence + layer * (M::VECTOR + 1) : row(ring, time - back);
      // What it heard in the sample before is still here, but for the slice's first.
      if (back == 1 && sample > 0) past = d.chain().inputs[own];
      int sums[2][4] = {};
      rows.multiply(past, sums);
      const u32 scales = p.taps.scales + ((layer - 1) * p.kernel_size + tap) * 2 * M::R;
      add(sum, sums, scales, __uint_as_float(past[M::VECTOR].x));
    }
    add_conditioning(sum, layer, grant);
    store_ahead(own + 1, sum);
  }

  // Keeps what was heard for when it is past.
  __device__ void keep(u64 time, u32 code) const {
    if (d.rank == 0 && threadIdx.x == 0) codes()[(u32)time & d.p.rings[0].y] = (u8)code;
#pragma unroll 1
    for (u32 own = warp; own < layers; own += M::CHAIN)
      if (lane <= M::VECTOR) row(d.p.rings[d.first_layer() + own], time)[lane] = d.chain().inputs[own][lane];
  }

  // Hands on the gated units that belong into a place: to the next layer, here or in the next block, and to the skips.
  __device__ void hand_on(u32 place, u32 half, float2 sum) const {
    uint4 *units = d.chain().z[place] + warp;
    if (t < 2) ((u8 *)units)[unit % 16] = gated_byte(sum.x, sum.y);
    __syncwarp();
    if (lane == 0 && place == layers && d.rank + 1 < d.chains())
      send_async(address_in_block(d.rank + 1, &d.chain().z_before[half][warp]), *units,
                 address_in_block(d.rank + 1, &d.chain().before_barriers[half]));
    const u32 layer = d.first_layer() + place - 1, to = d.skip_rank_of(layer), at = d.skip_place_of(layer);
    if (lane == 1)
      send_async(address_in_block(to, &d.end().z[half][at][warp]), *units,
                 address_in_block(to, &d.end().z_barriers[half][at]));
    // Where the next layer is here its warps meet.
    if (place < layers) meet();
  }

  // Bytes of the residual stream, with the scale that its largest magnitude gives. `meanwhile` is done while that is
  // found.
  template <typename Act>
  __device__ float quantise(float2 x, uint4 *vector, Act meanwhile) const {
    ChainMemory<M> &m = d.chain();
    const u32 low = __float_as_uint(x.x) & 0x7fffffffu, high = __float_as_uint(x.y) & 0x7fffffffu;
    u32 largest = largest_of_warp(low > high ? low : high);
    if (lane == 0) ((u32 *)m.maxima)[warp] = largest;
    meet();
    uint4 maxima[M::CHAIN / 4];
#pragma unroll
    for (u32 i = 0; i < M::CHAIN / 4; ++i) maxima[i] = m.maxima[i];
    meanwhile();
#pragma unroll
    for (u32 i = 0; i < M::CHAIN / 4; ++i) {
      const uint4 four = maxima[i];
      largest = largest > four.x ? largest : four.x;
      largest = largest > four.y ? largest : four.y;
      largest = largest > four.z ? largest : four.z;
      largest = largest > four.w ? largest : four.w;
    }
    const Scale scaled(largest, 127.0f);
    if (t == 0) ((unsigned short *)vector)[channel / 2] = (unsigned short)(scaled.byte(x.x) | scaled.byte(x.y) << 8);
    if (threadIdx.x == 0) vector[M::VECTOR].x = __float_as_uint(scaled.scale);
    meet();
    return scaled.scale;
  }

  // One sample, from the first of this block's layers to the last. Gives the code that was heard, in the first block.
  // Weights come from shared memory while something else is waited for, and after what is waited for now: it hands out
  // 128 bytes a cycle, in the order in which it is asked.
  __device__ u32 pass(u32 sample) const {
    ChainMemory<M> &m = d.chain();
    const u32 half = sample & 1, phase = sample >> 1 & 1;
    u32 code = 0;
    float2 x = make_float2(0.0f, 0.0f);
    Tile residual;
    residual.load(residual_of(0));
    if (d.rank == 0) {
      mbarrier_wait(m.code_barriers[half], phase);
      code = m.code[half];
      const float *heard = d.p.floats + d.p.tables + ((d.p.kernel_size - 1) * d.p.levels + code) * 2 * M::R + unit;
      const float *embedding = d.p.floats + d.p.embedding + code * M::R + channel;
      const float2 ahead = m.ahead[0][unit], of_code = make_float2(heard[0], heard[M::R]);
      x = make_float2(embedding[0], embedding[1]);
      hand_on(0, half, make_float2(ahead.x + of_code.x, ahead.y + of_code.y));
      if (threadIdx.x == 0) mbarrier_expect(m.code_barriers[half], 4);
    }
#pragma unroll 1
    for (u32 own = 0; own < layers; ++own) {
      const uint4 *taps = packet(own) + warp * 2 * M::PARTS * 32, *constants = packet(own) + M::TAP + M::RESIDUAL;
      const float4 c = ((const float4 *)(constants + M::R / 2))[channel / 2];
      const float2 scale = ((const float2 *)constants)[unit], ahead = m.ahead[own + 1][unit];
      const bool is_from_before = own == 0 && d.rank > 0;
      if (is_from_before) {
        mbarrier_wait(m.before_barriers[half], phase);
        x = *(const float2 *)&m.x[half][channel];
      }
      const LaneVector<M::PARTS> z(is_from_before ? m.z_before[half] : m.z[own]);
      Tile filters, gates;
      filters.load(taps);
      int of_residual[1][4] = {};
      residual.multiply_held(z, of_residual);
      x.x = x.x + onto(c.y, of_residual[0][0], c.x, 1.0f);
      x.y = x.y + onto(c.w, of_residual[0][2], c.z, 1.0f);
      if (t == 0 && own + 1 == layers && d.rank + 1 < d.chains())
        send_async(address_in_block(d.rank + 1, &m.x[half][channel]), x.x, x.y,
                   address_in_block(d.rank + 1, &m.before_barriers[half]));
      const float of_x = quantise(x, m.inputs[own], [&] { gates.load(taps + M::PARTS * 32); });
      // It has come: more is expected of the sample after the next.
      if (is_from_before && threadIdx.x == 0) mbarrier_expect(m.before_barriers[half], 5 * M::R);
      const LaneVector<M::PARTS> input(m.inputs[own]);
      if (own + 1 < layers) residual.load(residual_of(own + 1));
      int of_filters[1][4] = {}, of_gates[1][4] = {};
      filters.multiply_held(input, of_filters);
      gates.multiply_held(input, of_gates);
      hand_on(own + 1, half, make_float2(onto(ahead.x, own_sum(of_filters[0]), scale.x, of_x),
                                         onto(ahead.y, own_sum(of_gates[0]), scale.y, of_x)));
    }
    return code;
  }

  __device__ void run() const {
    // What was heard last, before this slice.
    u32 code = d.rank == 0 && made > 0 ? codes()[(u32)(made - 1) & d.p.rings[0].y] : 0, sample = 0;
#pragma unroll 1
    for (; wait_for_grant(d, sample); ++sample) {
      const Grant &grant = d.grants().grants[sample % GRANTS];
      if (d.rank == 0) sum_codes(made + sample, code, grant);
#pragma unroll 1
      for (u32 own = 0; own < layers; ++own) sum_ahead(own, sample, grant);
      code = pass(sample);
      // The rows that it writes are read from the sample after the next on: all warps meet before.
      keep(made + sample, code);
    }
    // The end sends a code before it knows that there is no sample more; nothing is on its way when a block ends.
    if (d.rank == 0) mbarrier_wait(d.chain().code_barriers[sample & 1], sample >> 1 & 1);
  }
};
