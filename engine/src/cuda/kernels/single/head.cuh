// The skips of the single-stream kernel, while its layers run, and the first product of the end. A warp has 32 rows of
// both, a thread one. Most weights of the first product stay in registers; those of the skips come in a layer ahead,
// and the rest after them.
#pragma once
#include "single/single.cuh"

template <typename S>
struct Head {
  u32 warp, lane, row;

  __device__ Head() : warp(threadIdx.x / 32 - S::FIRST_HEAD), lane(threadIdx.x & 31) {
    const u32 t = lane & 3;
    row = 32 * warp + 16 * (t >> 1) + 8 * (t & 1) + lane / 4;
  }

  // This thread's of the sums of two tiles.
  __device__ int own(const int (&sums)[2][4]) const {
    const u32 t = lane & 3;
    const int low = t & 1 ? sums[0][2] : sums[0][0], high = t & 1 ? sums[1][2] : sums[1][0];
    return t & 2 ? high : low;
  }

  // Turns the floats of all threads, after a relu, into a vector of bytes, less 128; gives its scale. Those beyond the
  // last row bring nothing. A barrier must follow before the vector is read.
  __device__ float quantise(const SingleBlock<S> &d, u32 which, float value, bool is_row, uint4 *vector) const {
    value = is_row ? relu_(value) : 0.0f;
    u32 *maxima = d.maxima(which);
    u32 largest = largest_of_warp(__float_as_uint(value));
    if (lane == 0) maxima[warp] = largest;
    named_barrier_sync(HEAD_BARRIER, 32 * S::HEAD);
#pragma unroll
    for (u32 other = 0; other < S::HEAD; ++other) largest = maxima[other] > largest ? maxima[other] : largest;
    const Scale scaled(largest, 255.0f);
    if (is_row) ((u8 *)vector)[row] = (u8)(scaled.byte(value) ^ 0x80u);
    return scaled.scale;
  }

  __device__ void run(const SingleBlock<S> &d) const {
    const Params &p = d.p;
    const bool has_skip = S::S == 32 * S::HEAD || 32 * warp < S::S;
    const bool has_hidden = S::A == 32 * S::HEAD || 32 * warp < S::A;
    const u32 skip = has_skip ? row : 0, hidden = has_hidden ? row : 0;
    const uint4 *skips = p.weights + d.args.skip_tiles + (has_skip ? 2 * warp * S::R_PARTS * 32 : 0);
    const uint4 *ends = p.weights + d.args.end1_tiles + (has_hidden ? 2 * warp * S::S_PARTS * 32 : 0);
    const float skip_scale = p.floats[p.skips.scales + skip], skip_bias = p.floats[p.skip_bias + skip];
    const float hidden_scale = p.floats[p.end1.scales + hidden], hidden_bias = p.floats[p.end1_bias + hidden];
    const int correction = (int)__float_as_uint(p.floats[p.end1.corrections + hidden]);
    constexpr u32 HELD = S::S_PARTS > 6 ? 6 : S::S_PARTS, LEFT = S::S_PARTS - HELD;
    Rows16<2, HELD> end1;
    end1.load(ends);
#pragma unroll 1
    for (u32 sample = 0; d.wait_for_grant(sample); ++sample) {
      int sums[2][4] = {};
      Rows16<2, S::R_PARTS> weights;
      weights.stream_in(skips);
#pragma unroll 1
      for (u32 layer = 0; layer < p.layers; ++layer) {
        spin_until_at_least(d.counters().passed, sample * p.layers + layer + 1);
        weights.multiply(d.units(layer), sums);
        if (layer + 1 < p.layers)
          weights.stream_in(skips + (layer + 1) * (S::S / 16) * S::R_PARTS * 32);
      }
      Rows16<2, LEFT> rest;
      rest.stream_in(ends + 2 * HELD * 32);
      const float skip_sum = onto(skip_bias, own(sums), skip_scale, 1.0f);
      const float scale = quantise(d, 0, skip_sum, has_skip, d.skip_input());
      named_barrier_sync(HEAD_BARRIER, 32 * S::HEAD);

      int hidden_sums[2][4] = {};
      end1.multiply(d.skip_input(), hidden_sums);
      rest.multiply(d.skip_input() + 2 * HELD, hidden_sums);
      const float hidden_sum = onto(hidden_bias, own(hidden_sums) + correction, hidden_scale, scale);
      const float of_hidden = quantise(d, 1, hidden_sum, has_hidden, d.hidden_input());
      if (warp == 0 && lane == 0) d.counters().hidden_scale = __float_as_uint(of_hidden);
      named_barrier_arrive(END_BARRIER, 32 * (S::END + S::HEAD));
    }
  }
};
