// Draws, and the choice of a code (docs/model-format.md, section 8), by one warp. `sampling.rs` is its twin:
// the weights are integers, whose sums are exact in any order.
#pragma once
#include "common/arithmetic.cuh"

// The draw at an index: Philox4x32-10.
__device__ inline u32 draw(u64 key, u64 stream, u64 index) {
  u64 block = index >> 2;
  u32 c0 = (u32)block, c1 = (u32)(block >> 32), c2 = (u32)stream, c3 = (u32)(stream >> 32);
  u32 k0 = (u32)key, k1 = (u32)(key >> 32);
#pragma unroll 1
  for (int round = 0; round < 10; ++round) {
    u32 left_low = c0 * 0xD2511F53u, left_high = __umulhi(c0, 0xD2511F53u);
    u32 right_low = c2 * 0xCD9E8D57u, right_high = __umulhi(c2, 0xCD9E8D57u);
    c0 = right_high ^ c1 ^ k0;
    c1 = right_low;
    c2 = left_high ^ c3 ^ k1;
    c3 = left_low;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  switch (index & 3) {
    case 0: return c0;
    case 1: return c1;
    case 2: return c2;
    default: return c3;
  }
}

// The whole part of a value from 0 to 2^23; 0 for NaN.
__device__ inline u32 truncate(float value) {
  u32 bits = __float_as_uint(value);
  u32 shift = 150u - (bits >> 23);
  return ((bits & 0x7fffffu) | 0x800000u) >> (shift < 31u ? shift : 31u);
}

__device__ inline float negative_infinity() { return __uint_as_float(0xff800000u); }

// The lowest code of the largest logit that is a number, and that logit (-infinity where there is none).
// All lanes get both.
__device__ inline u32 first_maximum(const float *logits, u32 levels, float *largest) {
  const u32 lane = threadIdx.x & 31;
  u32 best = levels;
  float max = negative_infinity();
#pragma unroll 1
  for (u32 code = lane; code < levels; code += 32) {
    float logit = logits[code];
    bool is_number = logit == logit;
    if (is_number && (best == levels || logit > max)) {
      best = code;
      max = logit;
    }
  }
  for (int distance = 16; distance > 0; distance /= 2) {
    u32 other = __shfl_xor_sync(ALL, best, distance);
    float other_max = __shfl_xor_sync(ALL, max, distance);
    bool is_better = other_max > max || (other_max == max && other < best);
    if (other < levels && (best == levels || is_better)) {
      best = other;
      max = other_max;
    }
  }
  *largest = max;
  return best < levels ? best : levels - 1;
}

// Sets to zero what lies outside the nucleus: a code stays while those before it, heavier ones and lower
// codes of the same weight, make less than the goal.
__device__ inline void keep_nucleus(u32 *weights, u32 levels, u64 share) {
  const u32 lane = threadIdx.x & 31;
  u32 total = 0;
#pragma unroll 1
  for (u32 code = lane; code < levels; code += 32) total += weights[code];
  for (int distance = 16; distance > 0; distance /= 2) total += __shfl_xor_sync(ALL, total, distance);
  const u64 goal = (share * total) >> 32;
  u32 dropped = 0;  // bit i: code lane + 32 i
#pragma unroll 1
  for (u32 code = lane, bit = 1; code < levels; code += 32, bit *= 2) {
    u32 weight = weights[code];
    u64 before = 0;
#pragma unroll 4
    for (u32 other = 0; other < levels; ++other) {
      u32 theirs = weights[other];
      if (theirs > weight || (theirs == weight && other < code)) before += theirs;
    }
    if (before > 0 && before >= goal) dropped |= bit;
  }
  __syncwarp();
#pragma unroll 1
  for (u32 code = lane, bit = 1; code < levels; code += 32, bit *= 2)
    if (dropped & bit) weights[code] = 0;
  __syncwarp();
}

// The weight of a code (docs/model-format.md, section 8): of its logit and the largest.
__device__ inline u32 weight_of(float logit, float largest, float temperature) {
  float distance = logit - largest;
  if (temperature != 1.0f) distance /= temperature;
  return truncate(exp_(distance) * 8388608.0f);
}

// Chooses a code; the logits are used up. All lanes get it.
__device__ inline u32 pick(float *logits, u32 levels, float temperature, u64 share, u32 drawn) {
  const u32 lane = threadIdx.x & 31;
  float max;
  const u32 likeliest = first_maximum(logits, levels, &max);
  if (temperature <= 0.0f || max == negative_infinity()) return likeliest;
  u32 *weights = (u32 *)logits;
#pragma unroll 1
  for (u32 code = lane; code < levels; code += 32) weights[code] = weight_of(logits[code], max, temperature);
  __syncwarp();
  if (share < 1ull << 32) keep_nucleus(weights, levels, share);
  // Eight codes a lane, in order.
  u32 own = 0;
#pragma unroll 1
  for (u32 code = lane * 8; code < lane * 8 + 8 && code < levels; ++code) own += weights[code];
  u32 sum = own;
  for (int distance = 1; distance < 32; distance *= 2) {
    u32 lower = __shfl_up_sync(ALL, sum, distance);
    if (lane >= (u32)distance) sum += lower;
  }
  const u32 total = __shfl_sync(ALL, sum, 31);
  if (total == 0) return likeliest;
  const u32 target = (u32)(((u64)drawn * total) >> 32);
  u32 before = sum - own, code = lane * 8;
  const bool is_here = before <= target && target < sum;
  if (is_here)
    while ((before += weights[code]) <= target) ++code;
  return __shfl_sync(ALL, code, __ffs(__ballot_sync(ALL, is_here)) - 1);
}

// The code that is drawn among 256, whose weights lie 8 a lane, in order; 256 where no code has any. All lanes get it.
__device__ inline u32 drawn_of_256(const u32 (&weights)[8], u32 drawn) {
  const u32 lane = threadIdx.x & 31;
  u32 all = 0;
#pragma unroll
  for (u32 i = 0; i < 8; ++i) all += weights[i];
  u32 sum = all;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const u32 lower = __shfl_up_sync(ALL, sum, distance);
    if (lane >= (u32)distance) sum += lower;
  }
  const u32 total = __shfl_sync(ALL, sum, 31);
  if (total == 0) return 256;
  const u32 target = (u32)(((u64)drawn * total) >> 32);
  const u32 before = sum - all;
  const bool is_here = before <= target && target < sum;
  // How many of the lane's codes end at the target or below.
  u32 code = lane * 8, end = before;
#pragma unroll
  for (u32 i = 0; i < 8; ++i) {
    end += weights[i];
    code += end <= target ? 1 : 0;
  }
  return __shfl_sync(ALL, code, __ffs(__ballot_sync(ALL, is_here)) - 1);
}

// The largest of a warp.
__device__ inline u32 largest_of_warp(u32 value) {
#ifdef __CUDACC_RTC__
  asm volatile("redux.sync.max.u32 %0, %0, 0xffffffff;" : "+r"(value));
  return value;
#else
  for (int distance = 16; distance > 0; distance /= 2) {
    u32 other = __shfl_xor_sync(ALL, value, distance);
    value = other > value ? other : value;
  }
  return value;
#endif
}

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

__device__ inline bool is_greedy(float temperature, float largest) {
  return temperature <= 0.0f || largest == negative_infinity();
}

// The lowest code of the largest of 256 logits; the last where none is a number. All lanes get it.
__device__ inline u32 likeliest_of_256(const float *logits, u32 largest) {
  const float max = of_order(largest);
  const u32 lane = threadIdx.x & 31;
  u32 code = 255;
#pragma unroll 1
  for (u32 i = 8; i-- > 0;) {
    const u32 equal = __ballot_sync(ALL, logits[32 * i + lane] == max);
    if (equal && largest) code = 32 * i + __ffs(equal) - 1;
  }
  return code;
}

// The code that is chosen among 256, by one warp, all of which gets it: of their logits, the order of the largest, and
// the weights that follow from them. `kept` is memory for the nucleus.
__device__ inline u32 chosen_of_256(float temperature, u64 share, const float *logits, const u32 *weights, u32 *kept,
                                    u32 drawn, u32 largest) {
  const u32 lane = threadIdx.x & 31;
  if (is_greedy(temperature, of_order(largest))) return likeliest_of_256(logits, largest);
  if (share < 1ull << 32) {
#pragma unroll 1
    for (u32 code = lane; code < 256; code += 32) kept[code] = weights[code];
    __syncwarp();
    keep_nucleus(kept, 256, share);
    weights = kept;
  }
  const uint4 first = ((const uint4 *)weights)[2 * lane], last = ((const uint4 *)weights)[2 * lane + 1];
  const u32 own[8] = {first.x, first.y, first.z, first.w, last.x, last.y, last.z, last.w};
  const u32 code = drawn_of_256(own, drawn);
  return code < 256 ? code : likeliest_of_256(logits, largest);
}
