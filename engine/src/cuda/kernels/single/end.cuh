// The end of a sample of the single-stream kernel: logits, and the choice of a code (`common/sampling.cuh` has the
// rule). The warps of the chain and those ahead have nothing else to do then, so they share the rows; each thread of
// them has the same few codes in every sample. Each warp of the chain chooses for itself, so that none waits for
// another.
#pragma once
#include "common/sampling.cuh"
#include "single/single.cuh"

// Tiles of a warp; two codes a tile and lane, each in four lanes.
template <typename S>
constexpr u32 END_TILES = S::LEVELS / 16 / S::END;

// The part of a warp's weights of the last product that it has in registers when the hidden channels come.
template <typename S>
struct EndWeights : Rows16<END_TILES<S>, (S::A_PARTS > 4 ? 4 : S::A_PARTS)> {
  static constexpr u32 HELD = S::A_PARTS > 4 ? 4 : S::A_PARTS, LEFT = S::A_PARTS - HELD, UNITS = 32 * END_TILES<S>;
  const uint4 *left;

  __device__ EndWeights(const SingleBlock<S> &d, u32 warp) : left(d.end2() + (warp * S::A_PARTS + HELD) * UNITS) {
    this->load(left - HELD * UNITS);
  }
  __device__ void multiply_all(const uint4 *vector, int (*sums)[4]) const {
    Rows16<END_TILES<S>, LEFT> rest;
    rest.load(left);
    this->multiply(vector, sums);
    rest.multiply(vector + 2 * HELD, sums);
  }
};

// The largest of all logits.
template <typename S>
__device__ inline u32 largest_logit(const SingleBlock<S> &d) {
  const u32 *maxima = d.maxima(2);
  u32 largest = 0;
#pragma unroll
  for (u32 warp = 0; warp < S::END; ++warp) largest = maxima[warp] > largest ? maxima[warp] : largest;
  return largest;
}

template <typename S>
struct End {
  static constexpr u32 TILES = END_TILES<S>, CODES = TILES / 2;
  u32 warp, codes[CODES];
  float scales[CODES], biases[CODES];
  int corrections[CODES];

  __device__ End(const SingleBlock<S> &d, u32 warp_) : warp(warp_) {
    const Params &p = d.p;
#pragma unroll
    for (u32 i = 0; i < CODES; ++i) {
      const u32 half = (threadIdx.x & 3) * CODES + i;
      const u32 code = 16 * (warp * TILES + half / 2) + 8 * (half & 1) + (threadIdx.x & 31) / 4;
      codes[i] = code;
      scales[i] = p.floats[p.end2.scales + code];
      biases[i] = p.floats[p.end2_bias + code];
      corrections[i] = (int)__float_as_uint(p.floats[p.end2.corrections + code]);
    }
  }

  // From the hidden channels, once they are there, to the weight of each code.
  __device__ void weigh(const SingleBlock<S> &d, const EndWeights<S> &weights) const {
    named_barrier_sync(END_BARRIER, 32 * (S::END + S::HEAD));
    const float scale = __uint_as_float(d.counters().hidden_scale), temperature = d.voice().temperature;
    int sums[TILES][4] = {};
    weights.multiply_all(d.hidden_input(), sums);
    float logits[CODES];
    u32 largest = 0;
#pragma unroll
    for (u32 i = 0; i < CODES; ++i) {
      int sum = sums[i / 2][i % 2 * 2];
#pragma unroll
      for (u32 t = 1; t < 4; ++t)
        sum = (threadIdx.x & 3) == t ? sums[(t * CODES + i) / 2][(t * CODES + i) % 2 * 2] : sum;
      logits[i] = onto(biases[i], sum + corrections[i], scales[i], scale);
      d.logits()[codes[i]] = logits[i];
      if (d.p.logits) d.p.logits[(u64)blockIdx.x * S::LEVELS + codes[i]] = logits[i];
      const u32 order = order_of(logits[i]);
      largest = order > largest ? order : largest;
    }
    largest = largest_of_warp(largest);
    if ((threadIdx.x & 31) == 0) d.maxima(2)[warp] = largest;
    named_barrier_sync(MAXIMA_BARRIER, 32 * S::END);
    const float max = of_order(largest_logit(d));
    if (is_greedy(temperature, max)) return;
#pragma unroll
    for (u32 i = 0; i < CODES; ++i) d.weights()[codes[i]] = weight_of(logits[i], max, temperature);
  }
};

// Chooses the code of a sample; every warp that asks gets the same.
template <typename S>
__device__ inline u32 choose_code(const SingleBlock<S> &d, u32 sample) {
  const Voice &voice = d.voice();
  return chosen_of_256(voice.temperature, voice.share, d.logits(), d.weights(), d.nucleus(threadIdx.x / 32),
                       d.draw(sample), largest_logit(d));
}
