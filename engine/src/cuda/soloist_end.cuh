// The end of a soloist's sample: logits, and the choice of a code (`sampling.cuh` has the rule). Those of the chain and
// those ahead have nothing else to do then, so they share the rows; each thread of them has the same few codes in
// every sample. Each warp of the chain chooses for itself, so that none waits for another.
#pragma once
#include "sampling.cuh"
#include "soloist.cuh"

// Tiles of a warp; two codes a tile and lane, each in four lanes.
template <typename S>
constexpr u32 END_TILES = S::LEVELS / 16 / S::END;

// The part of a warp's weights of the last product that it has in registers when the hidden channels come.
template <typename S>
struct EndWeights : Rows16<END_TILES<S>, (S::A_PARTS > 4 ? 4 : S::A_PARTS)> {
  static constexpr u32 HELD = S::A_PARTS > 4 ? 4 : S::A_PARTS, LEFT = S::A_PARTS - HELD, UNITS = 32 * END_TILES<S>;
  const uint4 *left;

  __device__ EndWeights(const Desk<S> &d, u32 warp) : left(d.end2() + (warp * S::A_PARTS + HELD) * UNITS) {
    this->load(left - HELD * UNITS);
  }
  __device__ void multiply_all(const uint4 *vector, int (*sums)[4]) const {
    Rows16<END_TILES<S>, LEFT> rest;
    rest.load(left);
    this->multiply(vector, sums);
    rest.multiply(vector + 2 * HELD, sums);
  }
};

// A float as a number of the same order; 0 for NaN.
__device__ inline u32 order_of(float value) {
  const u32 bits = __float_as_uint(value);
  if (value != value) return 0;
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ inline float of_order(u32 order) {
  if (order == 0) return negative_infinity();
  return __uint_as_float(order >> 31 ? order & 0x7fffffffu : ~order);
}

// The largest of all logits.
template <typename S>
__device__ inline u32 largest_logit(const Desk<S> &d) {
  const u32 *maxima = d.maxima(2);
  u32 largest = 0;
#pragma unroll
  for (u32 warp = 0; warp < S::END; ++warp) largest = maxima[warp] > largest ? maxima[warp] : largest;
  return largest;
}

__device__ inline bool is_greedy(float temperature, float largest) {
  return temperature <= 0.0f || largest == negative_infinity();
}

template <typename S>
struct End {
  static constexpr u32 TILES = END_TILES<S>, CODES = TILES / 2;
  u32 warp, codes[CODES];
  float scales[CODES], biases[CODES];
  int corrections[CODES];

  __device__ End(const Desk<S> &d, u32 warp_) : warp(warp_) {
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
  __device__ void weigh(const Desk<S> &d, const EndWeights<S> &weights) const {
    join(END_MEETS, 32 * (S::END + S::HEAD));
    const float scale = __uint_as_float(d.counters().hidden_scale), temperature = d.voice().temperature;
    int sums[TILES][4] = {};
    weights.multiply_all(d.hidden_input(), sums);
    float logits[CODES];
    u32 largest = 0;
#pragma unroll
    for (u32 i = 0; i < CODES; ++i) {
      int sum = sums[i / 2][i % 2 * 2];
#pragma unroll
      for (u32 t = 1; t < 4; ++t) sum = (threadIdx.x & 3) == t ? sums[(t * CODES + i) / 2][(t * CODES + i) % 2 * 2] : sum;
      logits[i] = onto(biases[i], sum + corrections[i], scales[i], scale);
      d.logits()[codes[i]] = logits[i];
      if (d.p.logits) d.p.logits[(u64)blockIdx.x * S::LEVELS + codes[i]] = logits[i];
      const u32 order = order_of(logits[i]);
      largest = order > largest ? order : largest;
    }
    largest = largest_of_warp(largest);
    if ((threadIdx.x & 31) == 0) d.maxima(2)[warp] = largest;
    join(MAXIMA_MEET, 32 * S::END);
    const float max = of_order(largest_logit(d));
    if (is_greedy(temperature, max)) return;
#pragma unroll
    for (u32 i = 0; i < CODES; ++i) {
      float distance = logits[i] - max;
      if (temperature != 1.0f) distance /= temperature;
      d.weights()[codes[i]] = truncate(exp_(distance) * 8388608.0f);
    }
  }
};

// The lowest code of the largest logit; the last where none is a number. All lanes get it.
template <typename S>
__device__ inline u32 likeliest(const Desk<S> &d, u32 largest) {
  const float max = of_order(largest);
  const u32 lane = threadIdx.x & 31;
  u32 code = S::LEVELS - 1;
#pragma unroll 1
  for (u32 i = S::LEVELS / 32; i-- > 0;) {
    const u32 equal = __ballot_sync(ALL, d.logits()[32 * i + lane] == max);
    if (equal && largest) code = 32 * i + __ffs(equal) - 1;
  }
  return code;
}

// Chooses the code of a sample; every warp that asks gets the same.
template <typename S>
__device__ inline u32 choose_code(const Desk<S> &d, u32 sample) {
  const u32 lane = threadIdx.x & 31, largest = largest_logit(d);
  const Voice &voice = d.voice();
  if (is_greedy(voice.temperature, of_order(largest))) return likeliest(d, largest);
  constexpr u32 EACH = S::LEVELS / 32;
  static_assert(EACH == 8, "two units a lane");
  const u32 *weights = d.weights();
  if (voice.share < 1ull << 32) {
    u32 *kept = d.nucleus(threadIdx.x / 32);
#pragma unroll 1
    for (u32 code = lane; code < S::LEVELS; code += 32) kept[code] = weights[code];
    __syncwarp();
    keep_nucleus(kept, S::LEVELS, voice.share);
    weights = kept;
  }
  const uint4 first = ((const uint4 *)weights)[2 * lane], last = ((const uint4 *)weights)[2 * lane + 1];
  const u32 own[EACH] = {first.x, first.y, first.z, first.w, last.x, last.y, last.z, last.w};
  const u32 code = drawn_of_256(own, d.draw(sample));
  return code < S::LEVELS ? code : likeliest(d, largest);
}
