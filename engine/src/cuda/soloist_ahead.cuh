// What of a soloist's next sample is known before its code: bias, past taps and conditioning of every layer's filters
// and gates. It follows the chain close behind, for the latest past input is what the chain has just made. Each warp
// has 16 gated units, as one of the chain has, and tells for itself how far it is.
#pragma once
#include "soloist_end.cuh"

// What a lane keeps: tile 0 is filters, tile 1 gates; rows g and g + 8.
__device__ inline int of_lane(const int (&sums)[2][4]) {
  const u32 t = threadIdx.x & 3;
  const int filter = t & 1 ? sums[0][2] : sums[0][0], gate = t & 1 ? sums[1][2] : sums[1][0];
  return t & 2 ? gate : filter;
}

// What was heard last before this slice, by all threads of the block.
template <typename S>
__device__ inline void recall(const Desk<S> &d) {
  const Params &p = d.p;
  const u32 each = S::VECTOR + 1, before = (u32)d.voice().made - 1;
  if (d.voice().made == 0) return;
#pragma unroll 1
  for (u32 i = threadIdx.x; i < p.layers * each; i += S::BLOCK)
    if (i >= each) d.latest(i / each)[i % each] = d.row(i / each, before)[i % each];
  const u8 *codes = (const u8 *)(d.lane() + p.lane_codes);
  if (threadIdx.x == 0) d.counters().heard = codes[before & d.ring(0).y];
}

// Where a warp's tiles of one product lie, and what scales its rows.
template <typename S>
struct Product {
  Rows16<2, S::R_PARTS> weights;
  uint4 past[(S::R_PARTS + 1) / 2];  // this lane's of the vector
  float row_scale, vector_scale;
};

// One warp of those ahead: 16 filters, then the 16 gates of the same units.
template <typename S>
struct Ahead {
  const Desk<S> &d;
  u32 warp, lane, unit, half, row;

  __device__ explicit Ahead(const Desk<S> &desk) : d(desk), warp(threadIdx.x / 32 - S::FIRST_AHEAD), lane(threadIdx.x & 31) {
    const u32 t = lane & 3;
    unit = 16 * warp + 8 * (t & 1) + lane / 4;
    half = t >> 1;
    row = half * S::R + unit;
  }

  // The products with the conditioning vector of a sample, of all layers. They wait for nobody, so the weights of one
  // follow closely on those before.
  __device__ void condition(u32 sample) const {
    const u32 parts = (d.p.conditioning_vector.channels + 31) / 32, count = d.p.layers * parts;
    const uint4 *tiles = d.p.weights + d.solo.conditioning_tiles + warp * count * 64;
    int sums[2][4] = {};
    constexpr u32 DEPTH = 4;
    Rows16<2, 1> next[DEPTH];
#pragma unroll
    for (u32 i = 0; i < DEPTH; ++i)
      if (i < count) next[i].stream_in(tiles + i * 64);
    u32 layer = 0, part = 0;
#pragma unroll 1
    for (u32 first = 0; first < count; first += DEPTH) {
#pragma unroll
      for (u32 i = 0; i < DEPTH; ++i) {
        if (first + i >= count) continue;
        next[i].multiply(d.h(sample) + 2 * part, sums);
        const u32 following = first + i + DEPTH;
        if (following < count) next[i].stream_in(tiles + following * 64);
        if (++part < parts) continue;
        d.conditioned(layer)[row] = of_lane(sums);
        part = 0;
        ++layer;
        for (u32 tile = 0; tile < 2; ++tile) sums[tile][0] = sums[tile][1] = sums[tile][2] = sums[tile][3] = 0;
      }
    }
  }

  // What a past tap of a layer needs, asked for early; but for the input of the sample before, which is not there yet.
  __device__ void ask(u32 layer, u32 tap, u64 time, Product<S> &product) const {
    const Params &p = d.p;
    const u32 taps = p.kernel_size - 1, back = (taps - tap) * d.ring(layer).z;
    product.weights.stream_in(p.weights + d.solo.past_tiles +
                              (((layer - 1) * taps + tap) * S::AHEAD + warp) * 2 * S::R_PARTS * 32);
    product.row_scale = p.floats[p.taps.scales + ((layer - 1) * p.kernel_size + tap) * 2 * S::R + row];
    if (back == 1) return;
    const uint4 *past = time < back ? p.silence + layer * p.residual.units : d.row(layer, (u32)time - back);
    product.vector_scale = __uint_as_float(past[p.residual.scale].x);
    hear(past, product);
  }

  // This lane's of a vector.
  __device__ void hear(const uint4 *vector, Product<S> &product) const {
    if constexpr (S::R_PARTS == 1) {
      const uint2 pair = ((const uint2 *)vector)[lane & 3];
      product.past[0] = make_uint4(pair.x, pair.y, 0, 0);
    } else {
#pragma unroll
      for (u32 i = 0; i < S::R_PARTS / 2; ++i) product.past[i] = vector[4 * i + (lane & 3)];
    }
  }

  __device__ int multiply(const Product<S> &product) const {
    int sums[2][4] = {};
#pragma unroll
    for (u32 part = 0; part < S::R_PARTS; ++part) {
      const uint4 four = product.past[part / 2];
      for (u32 tile = 0; tile < 2; ++tile)
        product.weights.add(product.weights.parts[tile][part], part % 2 ? four.z : four.x, part % 2 ? four.w : four.y,
                            sums[tile]);
    }
    return of_lane(sums);
  }

  // Past taps of layer 0, which hears codes: sums of tables.
  __device__ float sum_of_codes(u64 time) const {
    const Params &p = d.p;
    const u32 taps = p.kernel_size - 1;
    const u8 *codes = (const u8 *)(d.lane() + p.lane_codes);
    float sum = 0.0f;
#pragma unroll 1
    for (u32 tap = 0; tap < taps; ++tap) {
      const uint4 ring = d.ring(0);
      const u32 back = (taps - tap) * ring.z;
      u32 code = p.silent_code;
      if (time >= back) code = back == 1 ? look(d.counters().heard) : codes[(u32)(time - back) & ring.y];
      const float heard = p.floats[p.tables + (tap * p.levels + code) * 2 * S::R + row];
      sum = tap == 0 ? heard : sum + heard;
    }
    return sum;
  }

  // Keeps what a layer heard in a sample for when it is past, the layers dealt out among the warps.
  __device__ void keep(u32 layer, u64 time) const {
    if (layer % S::AHEAD != warp) return;
    if (layer == 0) {
      u8 *codes = (u8 *)(d.lane() + d.p.lane_codes);
      if (lane == 0) codes[(u32)time & d.ring(0).y] = (u8)look(d.counters().heard);
    } else if (lane <= S::VECTOR) {
      d.row(layer, (u32)time)[lane] = d.latest(layer)[lane];
    }
  }
  __device__ void keep_all(u64 time) const {
#pragma unroll 1
    for (u32 layer = 0; layer < d.p.layers; ++layer) keep(layer, time);
  }

  // All layers of one sample. `is_behind`: the sample before is not made yet.
  __device__ void sum(u32 sample, bool is_behind) const {
    const Params &p = d.p;
    const u32 taps = p.kernel_size - 1, h = p.conditioning_vector.channels;
    const u64 time = d.voice().made + sample;
    if (h > 0) condition(sample);
    const float scale_of_h = h > 0 ? __uint_as_float(d.h(sample)[p.conditioning_vector.scale].x) : 0.0f;
    float bias = 0.0f, row_of_h = h > 0 ? p.floats[p.conditioning_weights.scales + row] : 0.0f;
    Product<S> product = {};
#pragma unroll 1
    for (u32 layer = 0; layer < p.layers; ++layer) {
      const bool is_last = layer + 1 == p.layers;
      // The chain has passed this layer: its input is past now, and the place of the sums is free.
      if (is_behind) {
        await(d.counters().passed, (sample - 1) * p.layers + layer + 1);
        keep(layer, time - 1);
      }
      float sum = layer == 0 ? sum_of_codes(time) : bias;
#pragma unroll 1
      for (u32 tap = 0; tap < taps; ++tap) {
        if (layer > 0) {
          if ((taps - tap) * d.ring(layer).z == 1) {
            const uint4 *past = time == 0 ? p.silence + layer * p.residual.units : d.latest(layer);
            product.vector_scale = __uint_as_float(past[S::VECTOR].x);
            hear(past, product);
          }
          sum = onto(sum, multiply(product), product.row_scale, product.vector_scale);
        }
        // The next one is asked for as soon as this one is made.
        const bool is_next = tap + 1 < taps && layer > 0;
        if (is_next || (tap + 1 == taps && !is_last)) ask(is_next ? layer : layer + 1, is_next ? tap + 1 : 0, time, product);
      }
      if (h > 0) sum = onto(sum, d.conditioned(layer)[row], row_of_h, scale_of_h);
      ((float *)d.ahead(layer))[2 * unit + half] = sum;
      if (is_last) break;
      bias = p.floats[p.gate_bias + (layer + 1) * 2 * S::R + row];
      if (h > 0) row_of_h = p.floats[p.conditioning_weights.scales + (layer + 1) * 2 * S::R + row];
    }
    __syncwarp();
    if (lane == 0) tell(d.counters().summed[warp], sample + 1);
  }

  __device__ void play() const {
    const End<S> end(d, S::CHAIN + warp);
    u32 summed = 0;
#pragma unroll 1
    for (u32 sample = 0; d.await_grant(sample); ++sample) {
      if (summed == sample) sum(summed++, false);
      // Not waited for: the host may want this sample before it grants another.
      const bool is_more = __any_sync(ALL, (int)(look(d.counters().granted) - sample) > 1);
      keep_order();
      if (is_more) sum(summed++, true);
      const EndWeights<S> weights(d, S::CHAIN + warp);
      end.weigh(d, weights);
      arrive(WEIGHTS_MEET, 32 * S::END);
      if (!is_more) keep_all(d.voice().made + sample);
    }
  }
};
