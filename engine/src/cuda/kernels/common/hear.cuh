// What a sample begins with: conditioning vectors, fetched from the host's memory now and then, and the
// embeddings of the codes that were made last.
#pragma once
#include "common/vectors.cuh"

// A number that the host may have written while the kernel ran: no cache keeps it.
__device__ inline float fresh(const float *from) {
#ifdef __CUDACC_RTC__
  float value;
  // Not as a relaxed load of the whole system: lanes would go over the bus one by one.
  asm volatile("ld.global.cv.f32 %0, [%1];" : "=f"(value) : "l"(from) : "memory");
  return value;
#else
  return *(const volatile float *)from;
#endif
}

// Vectors of a voice that shall be fetched now: none while some are left.
__device__ inline u32 to_fetch(const Block &b, u32 v) {
  const Voice &voice = b.voice(v);
  if (!b.exists(v) || !voice.is_active || voice.done < voice.told) return 0;
  const u32 left = voice.goal - voice.done;
  return left < b.p.told_rows ? left : b.p.told_rows;
}

// Fetches conditioning vectors from the host's memory, many at once. The bus answers late: a thread asks for
// several numbers before it keeps the first.
__device__ inline void fetch(const Block &b) {
  const Params &p = b.p;
  const u32 h = p.conditioning_vector.channels, of_voice = p.told_rows * h, count = p.voices * of_voice;
  bool is_any = false;
#pragma unroll 1
  for (u32 v = 0; v < p.voices; ++v) is_any = is_any || to_fetch(b, v) > 0;
  if (!is_any) return;
  constexpr u32 AT_ONCE = 4;
#pragma unroll 1
  for (u32 first = threadIdx.x; first < count; first += AT_ONCE * blockDim.x) {
    float numbers[AT_ONCE], *places[AT_ONCE];
#pragma unroll
    for (u32 n = 0; n < AT_ONCE; ++n) {
      const u32 at = first + n * blockDim.x, v = at / of_voice, row = at % of_voice / h, i = at % h;
      places[n] = nullptr;
      if (at >= count || row >= to_fetch(b, v)) continue;
      const u32 slot = ((u32)b.voice(v).made + row) & p.conditioning_mask;
      numbers[n] = fresh(p.conditioning + ((u64)b.order(v) * (p.conditioning_mask + 1) + slot) * h + i);
      places[n] = b.told(v, b.voice(v).done + row) + i;
    }
#pragma unroll
    for (u32 n = 0; n < AT_ONCE; ++n)
      if (places[n]) *places[n] = numbers[n];
  }
  __syncthreads();
  // A vector that never changes is fetched once.
#pragma unroll 1
  for (u32 v = threadIdx.x; v < p.voices; v += blockDim.x)
    if (const u32 rows = to_fetch(b, v)) b.voice(v).told = p.conditioning_mask ? b.voice(v).done + rows : ~0u;
}

__device__ inline void hear(const Block &b) {
  const Params &p = b.p;
  const u32 h = p.conditioning_vector.channels, r = p.residual.channels;
  if (h > 0) fetch(b);
#pragma unroll 1
  for (u32 v = threadIdx.x / 32; v < p.voices && h > 0; v += blockDim.x / 32) {
    if (!b.exists(v)) continue;
    const float *from = b.told(v, b.voice(v).done);
#if defined(WAVENET_INT8)
    quantise(from, p.conditioning_vector, false, b.h(v));
#else
    for (u32 i = threadIdx.x & 31; i < h; i += 32) ((float *)b.h(v))[place(p.conditioning_vector, i)] = from[i];
#endif
  }
#pragma unroll 1
  for (u32 i = threadIdx.x; i < p.voices * r; i += blockDim.x)
    b.x(i / r)[i % r] = p.floats[p.embedding + b.voice(i / r).code * r + i % r];
}
