// The head of the pipeline: logits, and the choice of the code (`common/sampling.cuh` has the rule, with the
// processor's draws). A warp has 16 codes, two neighbours in each group of four lanes.
#pragma once
#include "pipeline_bf16/pipeline_bf16.cuh"

template <typename M>
__device__ inline void choose(const Bf16Block<M> &d) {
  const Params &p = d.p;
  HeadMemory<M> &memory = d.head();
  const u32 warp = warp_once(), lane = lane_once(), first = 16 * warp + lane / 4 * 2;
  const float temperature = d.voice().temperature;
  const u64 share = d.voice().share;
  const float2 bias = make_float2(p.floats[p.end2_bias + first], p.floats[p.end2_bias + first + 1]);
  u32 code = d.voice().code;
#pragma unroll 1
  for (u32 sample = 0;; ++sample) {
    const u32 half = sample & 1, phase = sample >> 1 & 1;
    // At once: whether it may be heard is known there too.
    if (threadIdx.x == 0)
      send_async(address_in_block(0, &d.chain().code[half]), code,
                 address_in_block(0, &d.chain().code_barriers[half]));
    if (!wait_for_grant(d, sample)) return;
    const u32 drawn = memory.grants[sample % GRANTS].word.y;
    mbarrier_wait(memory.parts_barriers[half], phase);
    const float2 one = *(const float2 *)&memory.parts[half][0][first];
    const float2 other = *(const float2 *)&memory.parts[half][1][first];
    const float low = bias.x + one.x + other.x, high = bias.y + one.y + other.y;
    const u32 order_of_low = order_of(low), order_of_high = order_of(high);
    u32 largest = largest_of_warp(order_of_low > order_of_high ? order_of_low : order_of_high);
    if (lane == 0) memory.maxima[half][warp] = largest;
    if ((lane & 3) == 0) *(float2 *)&memory.logits[first] = make_float2(low, high);
    if ((lane & 3) == 0 && p.logits) {
      p.logits[(u64)d.order() * M::LEVELS + first] = low;
      p.logits[(u64)d.order() * M::LEVELS + first + 1] = high;
    }
    named_barrier_sync(HEAD_BARRIER, M::BLOCK);
    if (threadIdx.x == 0) mbarrier_expect(memory.parts_barriers[half], 2 * 4 * M::LEVELS);
    largest = largest_of_warp(memory.maxima[half][lane % M::WARPS]);
    const float max = of_order(largest);
    // Of the four lanes that have both, one weighs each.
    if ((lane & 3) < 2 && !is_greedy(temperature, max))
      memory.weights[first + (lane & 3)] = weight_of(lane & 3 ? high : low, max, temperature);
    named_barrier_sync(HEAD_BARRIER, M::BLOCK);
    if (warp > 0) continue;
    code = chosen_of_256(temperature, share, memory.logits, memory.weights, memory.nucleus, drawn, largest);
    if (lane == 0)
      store_remote(address_in_block(d.host_link_rank(), &d.host_link().codes[sample % KEPT]), (sample + 1) << 8 | code);
  }
}
