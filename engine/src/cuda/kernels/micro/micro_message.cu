// What it costs to hand on a word as the pipeline does: by an mbarrier, between warps of a block, and by a message with
// its mbarrier, between blocks of a cluster. Two warps take turns; each waits for the other's word and answers.

#include "common/cluster.cuh"
#include "micro/micro.cuh"

// The turns of one warp: `say(half)` sends a word to the other warp, whose own words `barriers` count; `again(half)`
// lets the next one come.
template <typename Say, typename Again>
__device__ inline void take_turns(u32 side, u32 turns, Found *found, Mbarrier *barriers, Say say, Again again) {
  const u64 began = clock64();
#pragma unroll 1
  for (u32 turn = 0; turn < turns; ++turn) {
    const u32 half = turn & 1, phase = turn >> 1 & 1;
    if (side == 0) say(half);
    mbarrier_wait(barriers[half], phase);
    again(half);
    if (side == 1) say(half);
  }
  if (side == 0 && (threadIdx.x & 31) == 0) {
    found->cycles = clock64() - began;
    found->turns = turns;
  }
}

extern "C" __global__ void micro_mbarrier(u32 turns, Found *found, u32 *) {
  __shared__ Mbarrier barriers[2][2];
  const u32 side = threadIdx.x / 32;
  const bool is_first = (threadIdx.x & 31) == 0;
  if (is_first)
    for (u32 half = 0; half < 2; ++half) mbarrier_init(barriers[side][half], 1);
  __syncthreads();
  take_turns(
      side, turns, found, barriers[side],
      [&](u32 half) {
        if (is_first) mbarrier_arrive(barriers[1 - side][half]);
      },
      [](u32) {});
}

extern "C" __global__ void __cluster_dims__(2, 1, 1) micro_message(u32 turns, Found *found, u32 *) {
  __shared__ Mbarrier barriers[2];
  __shared__ u32 words[2];
  const u32 side = rank_in_cluster();
  const bool is_first = threadIdx.x == 0;
  if (is_first)
    for (u32 half = 0; half < 2; ++half) {
      mbarrier_init(barriers[half], 1);
      mbarrier_expect(barriers[half], 4);
    }
  cluster_sync();
  take_turns(
      side, turns, found, barriers,
      [&](u32 half) {
        if (is_first)
          send_async(address_in_block(1 - side, &words[half]), half, address_in_block(1 - side, &barriers[half]));
      },
      [&](u32 half) {
        if (is_first) mbarrier_expect(barriers[half], 4);
      });
  __syncwarp();
  cluster_sync();
}
