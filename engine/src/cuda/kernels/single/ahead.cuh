// What of the voice's next sample is known before its code: bias, past taps and conditioning of every layer's filters
// and gates. It follows the chain close behind, for the latest past input is what the chain has just made. The layers
// are dealt out among the warps: a layer takes one of them longer than the chain, so several are under way.
#pragma once
#include "single/end.cuh"

// What was heard last before this slice, by all threads of the block.
template <typename S>
__device__ inline void recall(const SingleBlock<S> &d) {
  const Params &p = d.p;
  const u32 each = S::VECTOR + 1, before = (u32)d.voice().made - 1;
  if (d.voice().made == 0) return;
#pragma unroll 1
  for (u32 i = threadIdx.x; i < p.layers * each; i += S::BLOCK)
    if (i >= each) d.latest(i / each)[i % each] = d.row(i / each, before)[i % each];
  const u8 *codes = (const u8 *)(d.lane() + p.lane_codes);
  if (threadIdx.x == 0) d.counters().heard = codes[before & d.ring(0).y];
}

// One warp of those ahead: the same 32 units of every third layer. A tile of filters and one of the gates of
// the same 16 units make a pair; of each a lane has one row, row g or g + 8 of either.
template <typename S>
struct Ahead {
  static constexpr u32 PAIRS = 2, GROUPS = S::R / 32, STRIDE = S::AHEAD / GROUPS, TILES = 2 * PAIRS * S::R_PARTS * 32;
  const SingleBlock<S> &d;
  u32 warp, group, lane, unit, half, row;  // of the first pair

  __device__ explicit Ahead(const SingleBlock<S> &block)
      : d(block), warp(threadIdx.x / 32 - S::FIRST_AHEAD), lane(threadIdx.x & 31) {
    const u32 t = lane & 3;
    group = warp % GROUPS;
    unit = 32 * group + 8 * (t & 1) + lane / 4;
    half = t >> 1;
    row = half * S::R + unit;
  }

  // What one past tap of a layer needs.
  struct Asked {
    Rows16<2 * PAIRS, S::R_PARTS> weights;
    uint4 past;  // this lane's of the vector
    float scale;
  };

  // Asks for it early; but for the input of the sample before, which is not there yet.
  __device__ void ask(u32 layer, u32 tap, u64 time, Asked &asked) const {
    const u32 taps = d.p.kernel_size - 1, back = (taps - tap) * d.ring(layer).z;
    asked.weights.stream_in(d.p.weights + d.args.past_tiles + (((layer - 1) * taps + tap) * GROUPS + group) * TILES);
    if (time < back) {
      hear(d.p.silence + layer * d.p.residual.units, asked);
    } else if (back > 1) {
      hear(d.row(layer, (u32)time - back), asked);
    }
  }

  // This lane's of a vector.
  __device__ void hear(const uint4 *vector, Asked &asked) const {
    if constexpr (S::R_PARTS == 1) {
      const uint2 pair = ((const uint2 *)vector)[lane & 3];
      asked.past = make_uint4(pair.x, pair.y, 0, 0);
    } else {
      static_assert(S::R_PARTS == 2, "a unit a lane");
      asked.past = vector[lane & 3];
    }
    asked.scale = __uint_as_float(vector[S::VECTOR].x);
  }

  __device__ void multiply(const Asked &asked, int *totals) const {
    int sums[2 * PAIRS][4] = {};
#pragma unroll
    for (u32 part = 0; part < S::R_PARTS; ++part)
#pragma unroll
      for (u32 tile = 0; tile < 2 * PAIRS; ++tile)
        asked.weights.add(asked.weights.parts[tile][part], part ? asked.past.z : asked.past.x,
                          part ? asked.past.w : asked.past.y, sums[tile]);
#pragma unroll
    for (u32 pair = 0; pair < PAIRS; ++pair) totals[pair] = own(sums + 2 * pair);
  }

  // This lane's sum of a pair.
  __device__ int own(const int (*sums)[4]) const {
    const u32 t = lane & 3;
    const int filter = t & 1 ? sums[0][2] : sums[0][0], gate = t & 1 ? sums[1][2] : sums[1][0];
    return t & 2 ? gate : filter;
  }

  // This lane's floats, one a pair.
  __device__ void read(const float *from, float *floats) const {
#pragma unroll
    for (u32 pair = 0; pair < PAIRS; ++pair) floats[pair] = from[row + 16 * pair];
  }

  // The product with the conditioning vector of a sample.
  __device__ void condition(u32 layer, u32 sample, int *totals) const {
    const u32 parts = (d.p.conditioning_vector.channels + 31) / 32;
    const uint4 *tiles = d.p.weights + d.args.conditioning_tiles + (layer * GROUPS + group) * parts * 2 * PAIRS * 32;
    const uint4 *vector = d.h(sample);
    int sums[2 * PAIRS][4] = {};
#pragma unroll 1
    for (u32 part = 0; part < parts; ++part) {
      Rows16<2 * PAIRS, 1> weights;
      weights.stream_in(tiles + part * 2 * PAIRS * 32);
      weights.multiply(vector + 2 * part, sums);
    }
#pragma unroll
    for (u32 pair = 0; pair < PAIRS; ++pair) totals[pair] = own(sums + 2 * pair);
  }

  // Past taps of layer 0, which hears codes: sums of tables.
  __device__ void sum_codes(const u8 *codes, u64 time, float *sums) const {
    const Params &p = d.p;
    const u32 taps = p.kernel_size - 1;
    const uint4 ring = d.ring(0);
#pragma unroll
    for (u32 pair = 0; pair < PAIRS; ++pair) sums[pair] = 0.0f;
#pragma unroll 1
    for (u32 tap = 0; tap < taps; ++tap) {
      const u32 back = (taps - tap) * ring.z;
      u32 code = p.silent_code;
      if (time >= back) code = back == 1 ? load_volatile(d.counters().heard) : codes[(u32)(time - back) & ring.y];
      float heard[PAIRS];
      read(p.floats + p.tables + (tap * p.levels + code) * 2 * S::R, heard);
#pragma unroll
      for (u32 pair = 0; pair < PAIRS; ++pair) sums[pair] = tap == 0 ? heard[pair] : sums[pair] + heard[pair];
    }
  }

  // Keeps what a layer heard in a sample for when it is past.
  __device__ void keep(u32 layer, u64 time) const {
    if (layer == 0) {
      u8 *codes = (u8 *)(d.lane() + d.p.lane_codes);
      if (lane == 0) codes[(u32)time & d.ring(0).y] = (u8)load_volatile(d.counters().heard);
    } else if (lane <= S::VECTOR) {
      d.row(layer, (u32)time)[lane] = d.latest(layer)[lane];
    }
  }

  // This warp's layers of one sample. `is_behind`: the sample before is not made yet.
  __device__ void sum(u32 sample, bool is_behind) const {
    const Params &p = d.p;
    const u32 taps = p.kernel_size - 1, h = p.conditioning_vector.channels;
    const u64 time = d.voice().made + sample;
    const float scale_of_h = h > 0 ? __uint_as_float(d.h(sample)[p.conditioning_vector.scale].x) : 0.0f;
    Asked asked = {};
    const u32 first = warp / GROUPS;
    if (first > 0 && first < p.layers) ask(first, 0, time, asked);
#pragma unroll 1
    for (u32 layer = first; layer < p.layers; layer += STRIDE) {
      float sums[PAIRS], rows_of_h[PAIRS], scales[PAIRS];
      int of_h[PAIRS];
      read(p.floats + p.gate_bias + layer * 2 * S::R, sums);
      if (h > 0) {
        read(p.floats + p.conditioning_weights.scales + layer * 2 * S::R, rows_of_h);
        condition(layer, sample, of_h);
      }
      // The chain has passed this layer: its input is past now, and the place of the sums is free.
      if (is_behind) {
        spin_until_at_least(d.counters().passed, (sample - 1) * p.layers + layer + 1);
        if (group == 0) keep(layer, time - 1);
      }
      const u32 next = layer + STRIDE;
      if (layer == 0) {
        sum_codes((const u8 *)(d.lane() + p.lane_codes), time, sums);
        if (next < p.layers) ask(next, 0, time, asked);
      }
#pragma unroll 1
      for (u32 tap = 0; tap < taps && layer > 0; ++tap) {
        read(p.floats + p.taps.scales + ((layer - 1) * p.kernel_size + tap) * 2 * S::R, scales);
        if (time > 0 && (taps - tap) * d.ring(layer).z == 1) hear(d.latest(layer), asked);
        int totals[PAIRS];
        multiply(asked, totals);
        const float scale = asked.scale;
        const bool is_next_layer = tap + 1 == taps;
        if (!is_next_layer || next < p.layers)
          ask(is_next_layer ? next : layer, is_next_layer ? 0 : tap + 1, time, asked);
#pragma unroll
        for (u32 pair = 0; pair < PAIRS; ++pair) sums[pair] = onto(sums[pair], totals[pair], scales[pair], scale);
      }
      float *ahead = (float *)d.ahead(layer) + 2 * unit + half;
#pragma unroll
      for (u32 pair = 0; pair < PAIRS; ++pair) {
        if (h > 0) sums[pair] = onto(sums[pair], of_h[pair], rows_of_h[pair], scale_of_h);
        ahead[32 * pair] = sums[pair];
      }
    }
    __syncwarp();
    if (lane == 0) store_volatile(d.counters().summed[warp], sample + 1);
  }

  __device__ void run() const {
    bool is_summed = false;
#pragma unroll 1
    for (u32 sample = 0; d.wait_for_grant(sample); ++sample) {
      if (!is_summed) sum(sample, false);
      // Not waited for: the host may want this sample before it grants another.
      is_summed = __any_sync(ALL, (int)(load_volatile(d.counters().granted) - sample) > 1);
      compiler_fence();
      if (is_summed) sum(sample + 1, true);
      // Read anew for each sample: past taps leave no register for them.
      const End<S> end(d, S::CHAIN + warp);
      const EndWeights<S> weights(d, S::CHAIN + warp);
      end.weigh(d, weights);
      named_barrier_arrive(WEIGHTS_BARRIER, 32 * S::END);
      if (is_summed || group > 0) continue;
#pragma unroll 1
      for (u32 layer = warp / GROUPS; layer < d.p.layers; layer += STRIDE) keep(layer, d.voice().made + sample);
    }
  }
};
