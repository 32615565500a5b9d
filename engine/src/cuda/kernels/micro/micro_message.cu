// What it costs to hand on a word as relays do: by a bell, between warps of a block, and by a message with its bell,
// between blocks of a cluster. Two warps take turns; each waits for the other's word and answers.

#include "common/cluster.cuh"
#include "micro/micro.cuh"

// The game of one warp: `say(half)` tells the other, whose word comes with `bells`; `again(half)` lets the next come.
template <typename Say, typename Again>
__device__ inline void take_turns(u32 side, u32 turns, Found *found, Bell *bells, Say say, Again again) {
  const u64 began = clock64();
#pragma unroll 1
  for (u32 turn = 0; turn < turns; ++turn) {
    const u32 half = turn & 1, phase = turn >> 1 & 1;
    if (side == 0) say(half);
    hear(bells[half], phase);
    again(half);
    if (side == 1) say(half);
  }
  if (side == 0 && (threadIdx.x & 31) == 0) {
    found->cycles = clock64() - began;
    found->turns = turns;
  }
}

extern "C" __global__ void micro_bell(u32 turns, Found *found, u32 *) {
  __shared__ Bell bells[2][2];
  const u32 side = threadIdx.x / 32;
  const bool is_first = (threadIdx.x & 31) == 0;
  if (is_first)
    for (u32 half = 0; half < 2; ++half) hang(bells[side][half], 1);
  __syncthreads();
  take_turns(
      side, turns, found, bells[side],
      [&](u32 half) {
        if (is_first) come(bells[1 - side][half]);
      },
      [](u32) {});
}

extern "C" __global__ void __cluster_dims__(2, 1, 1) micro_message(u32 turns, Found *found, u32 *) {
  __shared__ Bell bells[2];
  __shared__ u32 words[2];
  const u32 side = rank_in_cluster();
  const bool is_first = threadIdx.x == 0;
  if (is_first)
    for (u32 half = 0; half < 2; ++half) {
      hang(bells[half], 1);
      expect(bells[half], 4);
    }
  meet_cluster();
  take_turns(
      side, turns, found, bells,
      [&](u32 half) {
        if (is_first) send(place_in(1 - side, &words[half]), half, place_in(1 - side, &bells[half]));
      },
      [&](u32 half) {
        if (is_first) expect(bells[half], 4);
      });
  __syncwarp();
  meet_cluster();
}
