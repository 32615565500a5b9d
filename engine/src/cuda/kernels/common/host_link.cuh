// Between the host and the threads that play one voice: a warp polls the goal, fetches conditioning vectors, draws, and
// brings the codes back, so that no other warp waits for the bus. It grants samples a little ahead; when the slice is
// over it grants no more. Its block says how the grants reach the others (`single/single.cuh`,
// `common/grants.cuh`):
//
//   order()               whose mail it is
//   keep_vector(..)       a conditioning vector, four channels a lane
//   grant(first, count)   these samples may be made; what they need is there
//   stop(first)           this one, and those after it, may not
//   made(before)          how many are
#pragma once
#include "common/hear.cuh"
#include "common/sampling.cuh"
#include "common/synchronization.cuh"

// Samples that are granted at once: their vectors travel together.
constexpr u32 AT_ONCE = 4;
// Channels of a conditioning vector, at most, in 32.
constexpr u32 MOST_CHANNELS = 4;

template <typename D>
struct HostLink {
  const D &d;
  u32 lane, goal, granted, sent, told, turns;
  bool is_last, is_over;

  __device__ explicit HostLink(const D &block)
      : d(block), lane(threadIdx.x & 31), goal(0), granted(0), sent(0), told(0), turns(0), is_last(false),
        is_over(false) {}

  __device__ Mail &mail() const { return d.p.mail[d.order()]; }

  // Fetches conditioning vectors.
  __device__ void fetch(u32 first, u32 count) const {
    const Params &p = d.p;
    const Vector &shape = p.conditioning_vector;
    float values[AT_ONCE][MOST_CHANNELS];
#pragma unroll
    for (u32 row = 0; row < AT_ONCE; ++row)
#pragma unroll
      for (u32 i = 0; i < MOST_CHANNELS; ++i) {
        const u32 slot = ((u32)d.voice().made + first + row) & p.conditioning_mask, channel = lane + 32 * i;
        const u64 at = ((u64)d.order() * (p.conditioning_mask + 1) + slot) * shape.channels + channel;
        values[row][i] = row < count && channel < shape.channels ? fresh(p.conditioning + at) : 0.0f;
      }
#pragma unroll
    for (u32 row = 0; row < AT_ONCE; ++row)
      if (row < count) d.keep_vector(first + row, values[row]);
  }

  // Looks for a goal that rose.
  __device__ void poll_goal() {
    const u32 told_goal = __shfl_sync(ALL, *(volatile u32 *)&mail().goal, 0);
    goal = told_goal & ~LAST;
    is_last = told_goal & LAST;
    // What the host wrote before it is read after it.
    __threadfence_system();
  }

  // Grants what may be made by now.
  __device__ void grant(u32 made, long long began) {
    if (granted == goal && !is_last) poll_goal();
    const u32 most = made + D::AHEAD_OF_MADE - granted, left = goal - granted;
    u32 count = left < most ? left : most;
    count = count < AT_ONCE ? count : AT_ONCE;
    if (count > 0) {
      const Voice &voice = d.voice();
      if (d.p.conditioning_vector.channels > 0) fetch(granted, count);
      if (lane < count) d.draw(granted + lane) = draw(voice.key, voice.stream, voice.made + granted + lane);
      turns = 0;
      __syncwarp();
      d.grant(granted, count);
      granted += count;
      const bool is_late = lane == 0 && (u64)(clock64() - began) >= d.p.most_cycles;
      is_over = __any_sync(ALL, is_late);
    } else if (granted == goal && made == granted) {
      is_over = is_last || ++turns >= d.p.most_turns;
    }
    if (is_over) d.stop(granted);
  }

  // Brings codes to the host, and publishes now and then how many they are.
  __device__ void send_codes(u32 made) {
    const Params &p = d.p;
#pragma unroll 1
    for (u32 sample = sent + lane; sample < made; sample += 32)
      p.codes[(u64)d.order() * (p.codes_mask + 1) + (((u32)d.voice().made + sample) & p.codes_mask)] =
          (u8)d.code(sample);
    sent = made;
    const bool is_all = made == granted && (is_over || made == goal);
    if (made - told < 32 && !(is_all && made > told)) return;
    told = made;
    __syncwarp();
    if (lane > 0) return;
    __threadfence_system();
    *(volatile u32 *)&mail().done = made;
  }

  __device__ void run(long long began) {
    u32 made = 0;
    while (!is_over || made != granted) {
      spin_pause();
      made = __shfl_sync(ALL, d.made(made), 0);
      compiler_fence();
      send_codes(made);
      if (!is_over) grant(made, began);
    }
    send_codes(made);
  }
};
