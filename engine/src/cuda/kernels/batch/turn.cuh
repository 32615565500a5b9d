// The beginning and the end of a batch's sample: what it hears, and the codes that are chosen, by a warp a voice.
#pragma once
#include "batch/batch.cuh"
#include "common/hear.cuh"
#include "common/turn.cuh"

// Conditioning vectors of the voices that have none left, from the host's memory: a warp brings one.
template <typename Batch>
__device__ inline void fetch_told(const Batch &b) {
  const Params &p = b.p;
  const u32 h = p.conditioning_vector.channels, lane = b.thread & 31;
  if (!__any_sync(ALL, lane < Batch::VOICES && to_fetch(b, lane) > 0)) return;
#pragma unroll 1
  for (u32 pair = b.warp(); pair < Batch::VOICES * p.told_rows; pair += Batch::Of::WARPS) {
    const u32 v = pair % Batch::VOICES, row = pair / Batch::VOICES;
    if (row >= to_fetch(b, v)) continue;
    const u32 slot = ((u32)b.voice(v).made + row) & p.conditioning_mask;
    const float *from = p.conditioning + ((u64)b.order(v) * (p.conditioning_mask + 1) + slot) * h;
    float *to = b.told(v, b.voice(v).done + row);
    // The bus answers late: several numbers are asked for before the first is kept.
    constexpr u32 AT_ONCE = 4;
#pragma unroll 1
    for (u32 first = lane; first < h; first += 32 * AT_ONCE) {
      float numbers[AT_ONCE];
#pragma unroll
      for (u32 n = 0; n < AT_ONCE; ++n)
        if (first + 32 * n < h) numbers[n] = fresh(from + first + 32 * n);
#pragma unroll
      for (u32 n = 0; n < AT_ONCE; ++n)
        if (first + 32 * n < h) to[first + 32 * n] = numbers[n];
    }
  }
  __syncthreads();
  // A vector that never changes is fetched once.
  const u32 v = b.thread;
  if (v < Batch::VOICES)
    if (const u32 rows = to_fetch(b, v)) b.voice(v).told = p.conditioning_mask ? b.voice(v).done + rows : ~0u;
}

template <typename Batch>
__device__ inline void hear_all(const Batch &b) {
  constexpr u32 R = Batch::Of::R;
  const Params &p = b.p;
  if (p.conditioning_vector.channels > 0) {
    fetch_told(b);
#pragma unroll 1
    for (u32 v = b.warp(); v < Batch::VOICES; v += Batch::Of::WARPS)
      quantise(b.told(v, b.voice(v).done), p.conditioning_vector, false, b.h(v));
  }
#pragma unroll 1
  for (u32 i = b.thread; i < Batch::VOICES * R / 4; i += Batch::Of::THREADS) {
    const u32 v = i / (R / 4), quarter = i % (R / 4);
    ((float4 *)b.x(v))[quarter] = ((const float4 *)(p.floats + p.embedding + b.voice(v).code * R))[quarter];
  }
  __syncthreads();
}

// Chooses among 256 codes, 8 a lane, as `pick` does; `logits` are used up where a nucleus is kept.
__device__ inline u32 pick_of_256(float *logits, float temperature, u64 share, u32 drawn) {
  const u32 lane = threadIdx.x & 31;
  const float4 low = ((const float4 *)logits)[2 * lane], high = ((const float4 *)logits)[2 * lane + 1];
  float own[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
  float max = negative_infinity();
#pragma unroll
  for (u32 i = 0; i < 8; ++i) max = own[i] > max ? own[i] : max;
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    const float other = __shfl_xor_sync(ALL, max, distance);
    max = other > max ? other : max;
  }
  // The lowest code of the largest; none where no logit is a number.
  u32 first = 8;
#pragma unroll
  for (u32 i = 8; i-- > 0;) first = own[i] == max ? i : first;
  const u32 those = __ballot_sync(ALL, first < 8);
  const u32 lowest = those ? __ffs(those) - 1 : 31;
  const u32 likeliest = lowest * 8 + __shfl_sync(ALL, those ? first : 7, lowest);
  if (temperature <= 0.0f || max == negative_infinity()) return likeliest;

  u32 weights[8];
#pragma unroll
  for (u32 i = 0; i < 8; ++i) own[i] = own[i] - max;
  if (temperature != 1.0f)
#pragma unroll
    for (u32 i = 0; i < 8; ++i) own[i] /= temperature;
#pragma unroll
  for (u32 i = 0; i < 8; ++i) weights[i] = truncate(exp_(own[i]) * 8388608.0f);
  if (share < 1ull << 32) {
    uint4 *kept = (uint4 *)logits + 2 * lane;
    __syncwarp();
    kept[0] = make_uint4(weights[0], weights[1], weights[2], weights[3]);
    kept[1] = make_uint4(weights[4], weights[5], weights[6], weights[7]);
    __syncwarp();
    keep_nucleus((u32 *)logits, 256, share);
    const uint4 left = kept[0], right = kept[1];
    weights[0] = left.x, weights[1] = left.y, weights[2] = left.z, weights[3] = left.w;
    weights[4] = right.x, weights[5] = right.y, weights[6] = right.z, weights[7] = right.w;
  }
  const u32 code = drawn_of_256(weights, drawn);
  return code < 256 ? code : likeliest;
}

// Draws the next code of each voice, and goes on to the next sample.
template <typename Batch>
__device__ inline void choose_all(const Batch &b) {
  constexpr u32 WARPS = Batch::Of::WARPS, LEVELS = Batch::Of::LEVELS;
  const Params &p = b.p;
  const u32 lane = b.thread & 31;
  // A lane draws for one of the warp's voices.
  const u32 drawing = b.warp() + lane * WARPS;
  u32 draws = 0;
  if (drawing < Batch::VOICES) {
    const Voice &voice = b.voice(drawing);
    draws = draw(voice.key, voice.stream, voice.made);
  }
  __syncwarp();
#pragma unroll 1
  for (u32 v = b.warp(), nth = 0; v < Batch::VOICES; v += WARPS, ++nth) {
    Voice &voice = b.voice(v);
    const u32 drawn = __shfl_sync(ALL, draws, nth);
    if (!voice.is_active) continue;
    if (p.logits)
#pragma unroll 1
      for (u32 i = lane; i < LEVELS; i += 32) p.logits[(u64)b.order(v) * LEVELS + i] = b.logits(v)[i];
    __syncwarp();
    const u32 code = pick_of_256(b.logits(v), voice.temperature, voice.share, drawn);
    __syncwarp();
    if (lane == 0) take(b, v, code, b.ring(0).y);
  }
  __syncthreads();
}
