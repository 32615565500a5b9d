// The chain of the single-stream kernel: the only steps that all other warps wait for. A warp has 32 gated units,
// filter and gate of each in one lane. The residual stream is every warp's own, all of it: to share the work would cost
// two more barriers a layer. So a layer has one barrier, where the warps exchange their gated units.
#pragma once
#include "single/end.cuh"

// The residual stream of a warp: two neighbouring rows of tile t, t + 4 ... a lane, if need be in two lanes.
template <typename S>
struct Stream {
  static constexpr u32 PAIRS = S::TILES > 4 ? S::TILES / 4 : 1;
  float values[PAIRS][2];
  float scale;

  __device__ static u32 tile(u32 pair) { return ((threadIdx.x & 3) + 4 * pair) % S::TILES; }
  __device__ static u32 group() { return (threadIdx.x & 31) / 4; }

  // As the code that was made last is heard.
  __device__ void hear(const float *embedding) {
#pragma unroll
    for (u32 pair = 0; pair < PAIRS; ++pair)
#pragma unroll
      for (u32 i = 0; i < 2; ++i) values[pair][i] = embedding[16 * tile(pair) + 2 * group() + i];
  }

  // Scale and bias of each row of a layer's residual.
  __device__ static void load_constants(const float4 *from, float4 *constants) {
#pragma unroll
    for (u32 pair = 0; pair < PAIRS; ++pair) constants[pair] = from[8 * tile(pair) + group()];
  }

  // Adds the residual of a layer.
  __device__ void add(const int (*sums)[4], const float4 *constants) {
    constexpr u32 TILES = S::TILES < 4 ? S::TILES : 4;
#pragma unroll
    for (u32 pair = 0; pair < PAIRS; ++pair) {
      int low = sums[4 * pair][0], high = sums[4 * pair][2];
#pragma unroll
      for (u32 i = 1; i < TILES; ++i) {
        const bool is_mine = (threadIdx.x & 3) % TILES == i;
        low = is_mine ? sums[4 * pair + i][0] : low;
        high = is_mine ? sums[4 * pair + i][2] : high;
      }
      const float4 c = constants[pair];
      values[pair][0] = values[pair][0] + onto(c.y, low, c.x, 1.0f);
      values[pair][1] = values[pair][1] + onto(c.w, high, c.z, 1.0f);
    }
  }

  // Becomes bytes.
  __device__ void quantise(uint4 *vector) {
    u32 largest = 0;
#pragma unroll
    for (u32 pair = 0; pair < PAIRS; ++pair)
#pragma unroll
      for (u32 i = 0; i < 2; ++i) {
        const u32 magnitude = __float_as_uint(values[pair][i]) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
      }
    const Scale scaled(largest_of_warp(largest), 127.0f);
    scale = scaled.scale;
#pragma unroll
    for (u32 pair = 0; pair < PAIRS; ++pair) {
      const u32 two = scaled.byte(values[pair][0]) | scaled.byte(values[pair][1]) << 8;
      ((unsigned short *)vector)[8 * tile(pair) + group()] = (unsigned short)two;
    }
    __syncwarp();
  }
};

// All layers of one sample.
template <typename S>
__device__ inline void chain_sample(const SingleBlock<S> &d, u32 sample, u32 code) {
  const Params &p = d.p;
  const u32 warp = threadIdx.x / 32, t = threadIdx.x & 3;
  // Row g or g + 8 of the first or the second pair of tiles, filters and gates.
  const u32 unit = 32 * warp + 8 * t + (threadIdx.x & 31) / 4;
  const float *table = p.floats + p.tables + ((p.kernel_size - 1) * p.levels + code) * 2 * S::R;
  const float2 heard = make_float2(table[unit], table[S::R + unit]);
  Stream<S> x;
  x.hear(p.floats + p.embedding + code * S::R);
  const uint4 *packet = d.packet(sample, 0);
  float2 sum = d.ahead(0)[unit];
  sum = make_float2(sum.x + heard.x, sum.y + heard.y);
  u32 passed = sample * p.layers;
#pragma unroll 1
  for (u32 layer = 0;;) {
    // Loaded while the gate is computed.
    Rows16<S::TILES, S::R_PARTS> residual;
    residual.load(packet + S::TAP);
    float4 constants[Stream<S>::PAIRS];
    x.load_constants((const float4 *)(packet + S::TAP + S::RESIDUAL + S::R / 2), constants);
    const u8 byte = gated_byte(sum.x, sum.y);
    ((u8 *)d.units(layer))[unit] = byte;
    named_barrier_sync(CHAIN_BARRIER, 32 * S::CHAIN);
    store_volatile(d.counters().passed, ++passed);
    if (layer + 1 == p.layers) return;

    int sums[S::TILES][4] = {};
    residual.multiply(d.units(layer), sums);
    x.add(sums, constants);
    ++layer;
    packet = d.packet(sample, layer);
    Rows16<4, S::R_PARTS> taps;
    taps.load(packet + warp * 4 * S::R_PARTS * 32);
    const float2 scale = ((const float2 *)(packet + S::TAP + S::RESIDUAL))[unit];
    sum = d.ahead(layer)[unit];
    uint4 *vector = d.x(warp, layer);
    x.quantise(vector);
    if (threadIdx.x == 0) vector[S::VECTOR].x = __float_as_uint(x.scale);
    int of_taps[4][4] = {};
    taps.multiply(vector, of_taps);
    const int filter = t & 1 ? (t & 2 ? of_taps[2][2] : of_taps[0][2]) : (t & 2 ? of_taps[2][0] : of_taps[0][0]);
    const int gate = t & 1 ? (t & 2 ? of_taps[3][2] : of_taps[1][2]) : (t & 2 ? of_taps[3][0] : of_taps[1][0]);
    sum.x = onto(sum.x, filter, scale.x, x.scale);
    sum.y = onto(sum.y, gate, scale.y, x.scale);
  }
}

template <typename S>
__device__ inline void chain(const SingleBlock<S> &d) {
  const End<S> end(d, threadIdx.x / 32);
  u32 code = d.voice().code;
#pragma unroll 1
  for (u32 sample = 0; d.wait_for_grant(sample); ++sample) {
#pragma unroll 1
    for (u32 warp = 0; warp < S::AHEAD; ++warp) spin_until_at_least(d.counters().summed[warp], sample + 1);
    if (threadIdx.x == 0) d.counters().heard = code;
    chain_sample(d, sample, code);
    const EndWeights<S> weights(d, threadIdx.x / 32);
    end.weigh(d, weights);
    named_barrier_sync(WEIGHTS_BARRIER, 32 * S::END);
    code = choose_code(d, sample);
    if (threadIdx.x > 0) continue;
    d.code(sample) = code;
    store_volatile(d.counters().made, sample + 1);
  }
}
