// From the gated units of all layers to the logits: the skips, and two products, each after a relu.
#pragma once
#include "common/products.cuh"

// What follows a relu: the sums of a product become the next one's inputs.
__device__ inline void rectify(const Block &b, u32 at_sums, u32 at_inputs, const Vector &shape) {
#if defined(WAVENET_INT8)
  __syncthreads();
#pragma unroll 1
  for (u32 v = threadIdx.x / 32; v < b.p.voices; v += blockDim.x / 32)
    quantise(b.floats(at_sums, shape.channels, v), shape, true, b.work + at_inputs + v * shape.units);
#endif
  __syncthreads();
}

// Keeps a sum of a product that a relu follows.
__device__ inline void keep(float sum, u32 row, float *sums, uint4 *input, const Vector &shape) {
#if defined(WAVENET_INT8)
  sums[row] = sum;
#else
  ((float *)input)[place(shape, row)] = relu_(sum);
#endif
}

template <typename Share>
__device__ inline void skips(const Block &b) {
  const Params &p = b.p;
#if defined(WAVENET_INT8)
  // Of bytes one matrix has the skips of all layers, for their rows have joint scales.
  const u32 matrices = 1;
#else
  const u32 matrices = p.layers;
#endif
#pragma unroll 1
  for (Share share(p.skip.channels, p.voices); share.more(); share.next()) {
    float sums[Share::SUMS];
    for (int i = 0; i < Share::SUMS; ++i) sums[i] = p.floats[p.skip_bias + share.row(i)];
#pragma unroll 1
    for (u32 index = 0; index < matrices; ++index)
      add_product(b, share, p.skips, index, 0, p.gate, [&](u32 v) { return b.units(v, index); }, sums);
    for (int i = 0; i < Share::SUMS; ++i) {
      const u32 v = share.voice(i);
      if (share.keeps(i)) keep(sums[i], share.row(i), b.skips(v), b.skip_input(v), p.skip);
    }
  }
  rectify(b, p.at_skips, p.at_skip_input, p.skip);
}

// One of the two products of the head: the sum of row `row` goes to `keep_sum(voice, row, sum)`.
template <typename Share, typename Keep>
__device__ inline void head(const Block &b, const Matrices &kind, u32 bias, u32 at_inputs, const Vector &shape,
                            Keep keep_sum) {
  const Params &p = b.p;
#pragma unroll 1
  for (Share share(kind.rows, p.voices); share.more(); share.next()) {
    float sums[Share::SUMS];
    for (int i = 0; i < Share::SUMS; ++i) sums[i] = p.floats[bias + share.row(i)];
    add_product(b, share, kind, 0, 0, shape, [&](u32 v) { return b.work + at_inputs + v * shape.units; }, sums);
    for (int i = 0; i < Share::SUMS; ++i)
      if (share.keeps(i)) keep_sum(share.voice(i), share.row(i), sums[i]);
  }
}
