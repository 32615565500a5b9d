// The beginning and the end of a sample: what is asked of the voices, and what they made of it.
#pragma once
#include "common/block.cuh"
#include "common/sampling.cuh"

// Looks which voices have a sample to make, and waits a bounded while for goals to rise where none has. False
// when the slice is over; thread 0 knows when it began.
__device__ inline bool begin_sample(const Block &b, long long began) {
  if (threadIdx.x < 32) {
    bool is_any, is_waiting;
    u32 turns = 0;
    do {
      bool is_mine = false, may_come = false;
#pragma unroll 1
      for (u32 v = threadIdx.x; v < b.p.voices; v += 32) {
        Voice &voice = b.voice(v);
        if (!b.exists(v)) continue;
        if (voice.done == voice.goal && !voice.is_last) {
          const u32 goal = *(volatile u32 *)&b.p.mail[b.order(v)].goal;
          voice.goal = goal & ~LAST;
          voice.is_last = goal & LAST;
          // What the host wrote before it is read after it.
          __threadfence_system();
        }
        voice.is_active = voice.done < voice.goal;
        is_mine = is_mine || voice.is_active;
        may_come = may_come || !voice.is_last;
      }
      is_any = __any_sync(ALL, is_mine);
      is_waiting = !is_any && __any_sync(ALL, may_come);
      ++turns;
    } while (is_waiting && turns < b.p.most_turns);
    if (threadIdx.x == 0) b.go() = is_any && (u64)(clock64() - began) < b.p.most_cycles;
  }
  __syncthreads();
  return b.go();
}

// Publishes to the host how far a voice is.
__device__ inline void publish(const Block &b, u32 v) {
  __threadfence_system();
  *(volatile u32 *)&b.p.mail[b.order(v)].done = b.voice(v).done;
}

// Goes on to a voice's next sample: the code that it heard is past, and `code` is told to the host. By one thread.
__device__ inline void take(const Block &b, u32 v, u32 code, u32 codes_mask) {
  const Params &p = b.p;
  Voice &voice = b.voice(v);
  b.codes(v)[(u32)voice.made & codes_mask] = (u8)voice.code;
  p.codes[(u64)b.order(v) * (p.codes_mask + 1) + ((u32)voice.made & p.codes_mask)] = (u8)code;
  voice.code = code;
  ++voice.made;
  ++voice.done;
  if (voice.done == voice.goal || voice.done % 32 == 0) publish(b, v);
}

// Draws the next code of each voice, by a warp a voice, and goes on to the next sample.
__device__ inline void choose(const Block &b) {
  const Params &p = b.p;
#pragma unroll 1
  for (u32 v = threadIdx.x / 32; v < p.voices; v += blockDim.x / 32) {
    Voice &voice = b.voice(v);
    if (!voice.is_active) continue;
    const u32 lane = threadIdx.x & 31;
    if (p.logits)
#pragma unroll 1
      for (u32 i = lane; i < p.levels; i += 32) p.logits[(u64)b.order(v) * p.levels + i] = b.logits(v)[i];
    const u32 drawn = draw(voice.key, voice.stream, voice.made);
    const u32 code = pick(b.logits(v), p.levels, voice.temperature, voice.share, drawn);
    __syncwarp();
    if (lane == 0) take(b, v, code, p.rings[0].y);
  }
  __syncthreads();
}
