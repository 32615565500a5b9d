// The skips of an int8 pipeline's layers: one sum of integers over the layers of a block. A warp has 16 rows, two
// neighbours in each group of four lanes.
#pragma once
#include "pipeline_int8/pipeline_int8.cuh"

template <typename M>
struct Int8Skips {
  const Int8Block<M> &d;
  u32 warp, lane, row;

  __device__ explicit Int8Skips(const Int8Block<M> &block)
      : d(block), warp(threadIdx.x / 32), lane(threadIdx.x & 31), row(16 * warp + lane / 4 * 2) {}

  __device__ int2 sum(u32 sample) const {
    EndMemory<M> &m = d.end();
    const u32 half = sample & 1, phase = sample >> 1 & 1, count = d.skips();
    int sums[1][4] = {};
#pragma unroll 1
    for (u32 own = 0; own < count; ++own) {
      Rows16<1, M::PARTS> rows;
      rows.load(d.weights() + own * M::SKIP + warp * M::PARTS * 32);
      mbarrier_wait(m.z_barriers[half][own], phase);
      rows.multiply(m.z[half][own], sums);
      if (threadIdx.x == 0) mbarrier_expect(m.z_barriers[half][own], M::R);
    }
    return make_int2(sums[0][0], sums[0][2]);
  }

  // Of the first layers, for the end.
  __device__ void run() const {
    const u32 from = d.rank - d.chains(), to = d.end_rank();
#pragma unroll 1
    for (u32 sample = 0; wait_for_grant(d, sample); ++sample) {
      const int2 sums = sum(sample);
      const u32 half = sample & 1;
      if ((lane & 3) == 0)
        send_async(address_in_block(to, &d.end().sums[half][from][row]), __int_as_float(sums.x), __int_as_float(sums.y),
                   address_in_block(to, &d.end().sums_barriers[half]));
    }
  }
};
