// Between the host and a soloist's block: one warp asks for goals, fetches conditioning vectors, draws, and brings the
// codes back, so that nobody else waits for the bus. It grants samples a little ahead; when the slice is over it
// grants no more.
#pragma once
#include "copies.cuh"
#include "sampling.cuh"
#include "soloist.cuh"

// Samples that are granted at once: their vectors travel together.
constexpr u32 AT_ONCE = 4;
// Channels of a conditioning vector, at most, in 32.
constexpr u32 MOST_CHANNELS = 4;

template <typename S>
struct Herald {
  const Desk<S> &d;
  u32 lane, goal, granted, sent, told, turns;
  bool is_last, is_over;

  __device__ explicit Herald(const Desk<S> &desk)
      : d(desk), lane(threadIdx.x & 31), goal(0), granted(0), sent(0), told(0), turns(0), is_last(false), is_over(false) {}

  __device__ Mail &mail() const { return d.p.mail[blockIdx.x]; }

  // Fetches conditioning vectors and makes bytes of them.
  __device__ void fetch(u32 first, u32 count) const {
    const Params &p = d.p;
    const Vector &shape = p.conditioning_vector;
    float values[AT_ONCE][MOST_CHANNELS];
#pragma unroll
    for (u32 row = 0; row < AT_ONCE; ++row)
#pragma unroll
      for (u32 i = 0; i < MOST_CHANNELS; ++i) {
        const u32 slot = ((u32)d.voice().made + first + row) & p.conditioning_mask, channel = lane + 32 * i;
        const u64 at = ((u64)blockIdx.x * (p.conditioning_mask + 1) + slot) * shape.channels + channel;
        values[row][i] = row < count && channel < shape.channels ? fresh(p.conditioning + at) : 0.0f;
      }
#pragma unroll
    for (u32 row = 0; row < AT_ONCE; ++row) {
      if (row >= count) continue;
      u32 largest = 0;
#pragma unroll
      for (u32 i = 0; i < MOST_CHANNELS; ++i) {
        const u32 magnitude = __float_as_uint(values[row][i]) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
      }
      const Scale scaled(largest_of_warp(largest), 127.0f);
      uint4 *vector = d.h(first + row);
#pragma unroll
      for (u32 i = 0; i < MOST_CHANNELS; ++i)
        if (lane + 32 * i < shape.channels) ((u8 *)vector)[lane + 32 * i] = (u8)scaled.byte(values[row][i]);
      if (lane == 0) vector[shape.scale].x = __float_as_uint(scaled.scale);
    }
  }

  // Looks for a goal that rose.
  __device__ void ask() {
    const u32 told_goal = __shfl_sync(ALL, *(volatile u32 *)&mail().goal, 0);
    goal = told_goal & ~LAST;
    is_last = told_goal & LAST;
    // What the host wrote before it is read after it.
    __threadfence_system();
  }

  // Grants what may be made by now.
  __device__ void grant(u32 made, long long began) {
    if (granted == goal && !is_last) ask();
    const u32 most = made + WINDOW - granted, left = goal - granted;
    u32 count = left < most ? left : most;
    count = count < AT_ONCE ? count : AT_ONCE;
    if (count > 0) {
      const Voice &voice = d.voice();
      if (d.p.conditioning_vector.channels > 0) fetch(granted, count);
      if (lane < count) d.draw(granted + lane) = draw(voice.key, voice.stream, voice.made + granted + lane);
      granted += count;
      turns = 0;
      __syncwarp();
      if (lane == 0) tell(d.counters().granted, granted);
      const bool is_late = lane == 0 && (u64)(clock64() - began) >= d.p.most_cycles;
      is_over = __any_sync(ALL, is_late);
    } else if (granted == goal && made == granted) {
      is_over = is_last || ++turns >= d.p.most_turns;
    }
    if (is_over && lane == 0) tell(d.counters().stop, granted);
  }

  // Brings codes to the host, and says so now and then.
  __device__ void send(u32 made) {
    const Params &p = d.p;
#pragma unroll 1
    for (u32 sample = sent + lane; sample < made; sample += 32)
      p.codes[(u64)blockIdx.x * (p.codes_mask + 1) + (((u32)d.voice().made + sample) & p.codes_mask)] = (u8)d.code(sample);
    sent = made;
    const bool is_all = made == granted && (is_over || made == goal);
    if (made - told < 32 && !(is_all && made > told)) return;
    told = made;
    __syncwarp();
    if (lane > 0) return;
    __threadfence_system();
    *(volatile u32 *)&mail().done = made;
  }

  __device__ void play(long long began) {
    u32 made = 0;
    while (!is_over || made != granted) {
      pause();
      made = __shfl_sync(ALL, look(d.counters().made), 0);
      keep_order();
      send(made);
      if (!is_over) grant(made, began);
    }
    send(made);
  }
};

// Brings the chain's weights into shared memory, layer after layer, where not all of them stay there.
template <typename S>
__device__ inline void load_packets(const Desk<S> &d) {
  const Params &p = d.p;
  const u32 lane = threadIdx.x & 31, resident = d.solo.resident, slots = d.solo.slots, each = p.layers - resident;
  if (each == 0) return;
#pragma unroll 1
  for (u32 sample = 0; d.await_grant(sample); ++sample) {
#pragma unroll 1
    for (u32 layer = resident; layer < p.layers; ++layer) {
      const u32 index = d.streamed(sample, layer);
      if (index >= slots) {
        // Whose place this packet takes: the chain has passed it, and used its residual too.
        const u32 before = index - slots, used = resident + before % each + 2;
        await(d.counters().passed, before / each * p.layers + (used < p.layers ? used : p.layers));
      }
      const uint4 *from = p.weights + d.solo.packets + layer * S::PACKET;
      uint4 *to = d.slot(index);
#pragma unroll 1
      for (u32 i = lane; i < S::PACKET; i += 32) copy_later(to + i, from + i);
      end_group();
      if (layer == resident) continue;
      await_groups<1>();
      __syncwarp();
      if (lane == 0) tell(d.counters().loaded, index);
    }
    await_groups<0>();
    __syncwarp();
    if (lane == 0) tell(d.counters().loaded, (sample + 1) * each);
  }
}
