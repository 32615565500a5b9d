// Brings the chain's weights into shared memory, layer after layer, where not all of them stay there.
#pragma once
#include "common/copies.cuh"
#include "single/single.cuh"

template <typename S>
__device__ inline void load_packets(const SingleBlock<S> &d) {
  const Params &p = d.p;
  const u32 lane = threadIdx.x & 31, resident = d.args.resident, slots = d.args.slots, each = p.layers - resident;
  if (each == 0) return;
#pragma unroll 1
  for (u32 sample = 0; d.wait_for_grant(sample); ++sample) {
#pragma unroll 1
    for (u32 layer = resident; layer < p.layers; ++layer) {
      const u32 index = d.streamed(sample, layer);
      if (index >= slots) {
        // Whose place this packet takes: the chain has passed it, and used its residual too.
        const u32 before = index - slots, used = resident + before % each + 2;
        spin_until_at_least(d.counters().passed, before / each * p.layers + (used < p.layers ? used : p.layers));
      }
      const uint4 *from = p.weights + d.args.packets + layer * S::PACKET;
      uint4 *to = d.slot(index);
#pragma unroll 1
      for (u32 i = lane; i < S::PACKET; i += 32) copy_async(to + i, from + i);
      commit_group();
      if (layer == resident) continue;
      wait_group<1>();
      __syncwarp();
      if (lane == 0) store_volatile(d.counters().loaded, index);
    }
    wait_group<0>();
    __syncwarp();
    if (lane == 0) store_volatile(d.counters().loaded, (sample + 1) * each);
  }
}
