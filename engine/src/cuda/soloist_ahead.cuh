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

// The product with the conditioning vector of a sample, 32 columns at a time.
template <typename S>
__device__ inline int condition(const Desk<S> &d, u32 warp, u32 layer, u32 sample) {
  const u32 parts = (d.p.conditioning_vector.channels + 31) / 32;
  const uint4 *tiles = d.p.weights + d.solo.conditioning_tiles + (layer * S::AHEAD + warp) * parts * 64;
  int sums[2][4] = {};
#pragma unroll 1
  for (u32 part = 0; part < parts; ++part) {
    Rows16<2, 1> weights;
    weights.stream_in(tiles + part * 64);
    weights.multiply(d.h(sample) + 2 * part, sums);
  }
  return of_lane(sums);
}

// All layers of one sample. `is_behind`: the sample before is not made yet.
template <typename S>
__device__ inline void sum_ahead(const Desk<S> &d, u32 warp, u32 sample, bool is_behind) {
  const Params &p = d.p;
  const u32 t = threadIdx.x & 3, unit = 16 * warp + 8 * (t & 1) + (threadIdx.x & 31) / 4, half = t >> 1;
  const u32 row = half * S::R + unit, taps = p.kernel_size - 1, h = p.conditioning_vector.channels;
  const u64 time = d.voice().made + sample;
#pragma unroll 1
  for (u32 layer = 0; layer < p.layers; ++layer) {
    const uint4 ring = d.ring(layer);
    const u32 first = layer == 0 ? 0 : (layer - 1) * p.kernel_size;
    float sum = layer == 0 ? 0.0f : p.floats[p.gate_bias + layer * 2 * S::R + row];
    float scale_of_h = 0.0f;
    int of_h = 0;
    if (h > 0) {
      scale_of_h = p.floats[p.conditioning_weights.scales + layer * 2 * S::R + row];
      of_h = condition(d, warp, layer, sample);
    }
    Rows16<2, S::R_PARTS> weights;
    const uint4 *tiles =
        p.weights + d.solo.past_tiles + ((layer == 0 ? 0 : layer - 1) * taps * S::AHEAD + warp) * 2 * S::R_PARTS * 32;
    if (layer > 0 && taps > 0) weights.stream_in(tiles);
    // The chain has passed this layer: its input is past now, and the sums are free.
    if (is_behind) await(d.counters().passed, (sample - 1) * p.layers + layer + 1);
#pragma unroll 1
    for (u32 tap = 0; tap < taps; ++tap) {
      const u32 back = (taps - tap) * ring.z;
      if (layer == 0) {
        const u8 *codes = (const u8 *)(d.lane() + p.lane_codes);
        const u32 code = time < back ? p.silent_code : ((const volatile u8 *)codes)[(u32)(time - back) & ring.y];
        const float heard = p.floats[p.tables + (tap * p.levels + code) * 2 * S::R + row];
        sum = tap == 0 ? heard : sum + heard;
        continue;
      }
      if (tap > 0) {
        tiles += S::AHEAD * 2 * S::R_PARTS * 32;
        weights.stream_in(tiles);
      }
      const uint4 *past = time < back ? p.silence + layer * p.residual.units : d.row(layer, (u32)time - back);
      const float scale = __uint_as_float(past[p.residual.scale].x);
      int sums[2][4] = {};
      weights.multiply(past, sums);
      sum = onto(sum, of_lane(sums), p.floats[p.taps.scales + (first + tap) * 2 * S::R + row], scale);
    }
    if (h > 0) sum = onto(sum, of_h, scale_of_h, __uint_as_float(d.h(sample)[p.conditioning_vector.scale].x));
    ((float *)d.ahead(layer))[2 * unit + half] = sum;
  }
  __syncwarp();
  if ((threadIdx.x & 31) == 0) tell(d.counters().summed[warp], sample + 1);
}

template <typename S>
__device__ inline void ahead(const Desk<S> &d) {
  const u32 warp = threadIdx.x / 32 - S::FIRST_AHEAD;
  const End<S> end(d, S::CHAIN + warp);
  u32 summed = 0;
#pragma unroll 1
  for (u32 sample = 0; d.await_grant(sample); ++sample) {
    if (summed == sample) sum_ahead(d, warp, summed++, false);
    // Not waited for: the host may want this sample before it grants another.
    const bool is_more = (int)(look(d.counters().granted) - sample) > 1;
    if (__any_sync(ALL, is_more)) {
      fence_block();
      sum_ahead(d, warp, summed++, true);
    }
    const EndWeights<S> weights(d, S::CHAIN + warp);
    end.weigh(d, weights);
    arrive(WEIGHTS_MEET, 32 * S::END);
  }
}
