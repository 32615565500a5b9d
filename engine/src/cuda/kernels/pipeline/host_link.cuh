// The host-link block of the pipeline: its grants go to all other blocks, and the codes that were chosen come to it.
#pragma once
#include "pipeline/pipeline.cuh"

// What the host link needs (common/host_link.cuh).
template <typename M>
struct HostLinkBlock : PipelineBlock<M> {
  static constexpr u32 AHEAD_OF_MADE = GRANTS / 2;

  __device__ u32 &draw(u32 sample) const { return this->host_link().draws[sample % KEPT]; }
  __device__ u32 code(u32 sample) const { return load_volatile(this->host_link().codes[sample % KEPT]); }
  // Not fewer than before.
  __device__ u32 made(u32 before) const {
    while (load_volatile(this->host_link().codes[before % KEPT]) >> 8 == before + 1) ++before;
    return before;
  }

  // In this block's own grant of the sample, from which it goes to the chains.
  template <u32 N>
  __device__ void keep_vector(u32 sample, const float (&channels)[N]) const {
    const u32 lane = threadIdx.x & 31;
    uint4 *vector = this->host_link().grants[sample % GRANTS].h;
#pragma unroll
    for (u32 i = 0; i < N; ++i) ((unsigned short *)vector)[lane + 32 * i] = (unsigned short)rounded(channels[i], 0.0f);
  }

  // To every other block.
  __device__ void send_to_all(u32 sample, u32 word) const {
    const u32 lane = threadIdx.x & 31, units = this->units_of_h();
    Grant &own = this->host_link().grants[sample % GRANTS];
    const uint4 unit = lane > 0 && lane <= units ? own.h[lane - 1] : make_uint4(word, draw(sample), 0, 0);
    uint4 *to = lane > 0 ? &own.h[lane - 1] : &own.word;
#pragma unroll 1
    for (u32 rank = 0; rank <= this->head_rank(); ++rank)
      if (lane <= (rank < this->args.chains ? units : 0))
        send_async(address_in_block(rank, to), unit,
                   address_in_block(rank, &this->host_link().barriers[sample % GRANTS]));
  }
  __device__ void grant(u32 first, u32 count) const {
#pragma unroll 1
    for (u32 sample = first; sample < first + count; ++sample) send_to_all(sample, GO);
  }
  __device__ void stop(u32 first) const { send_to_all(first, STOP); }
};
