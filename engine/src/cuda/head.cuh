// From the gated units of all layers to the logits: the skips, and two products, each after a relu.
#pragma once
#include "products.cuh"

// What follows a relu: the sums of a product become the next one's inputs.
__device__ inline void rectify(const Block &b, float *sums, uint4 *inputs, const Vector &shape) {
#if defined(WAVENET_INT8)
  __syncthreads();
#pragma unroll 1
  for (u32 v = threadIdx.x / 32; v < b.p.voices; v += blockDim.x / 32)
    quantise(sums + v * shape.channels, shape, true, inputs + v * shape.units);
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

template <int V, int TEAM>
__device__ inline void skips(const Block &b) {
  const Params &p = b.p;
  const u32 s = p.skip.channels;
#pragma unroll 1
  for (Items<V, TEAM> items(p, s); items.more(); items.next()) {
    const u32 row = items.row(), first = items.voice();
    float sums[V];
    Sum totals[V], whole[V];
    const uint4 *inputs[V];
    for (int v = 0; v < V; ++v) {
      sums[v] = p.floats[p.skip_bias + row];
      whole[v] = 0;
    }
#pragma unroll 1
    for (u32 layer = 0; layer < p.layers; ++layer) {
      for (int v = 0; v < V; ++v) inputs[v] = b.units(first + v, layer);
      multiply<V, TEAM>(b.matrix(p.skips, layer), s, p.skips.steps, row, inputs, p.gate, totals);
      for (int v = 0; v < V; ++v) {
#if defined(WAVENET_INT8)
        whole[v] += totals[v];
#else
        sums[v] = sums[v] + totals[v];
#endif
      }
    }
    if (!items.keeps()) continue;
    for (int v = 0; v < V; ++v) {
#if defined(WAVENET_INT8)
      sums[v] = onto(sums[v], whole[v], b.scale(p.skips, 0, row), 1.0f);
#endif
      keep(sums[v], row, b.skips(first + v), b.skip_input(first + v), p.skip);
    }
  }
  rectify(b, b.skips(0), b.skip_input(0), p.skip);
}

// One of the two products of the head: the sum of row `row` goes to `keep_sum(voice, row, sum)`.
template <int V, int TEAM, typename Keep>
__device__ inline void head(const Block &b, const Matrices &kind, u32 bias, const uint4 *vectors,
                            const Vector &shape, Keep keep_sum) {
  const Params &p = b.p;
#pragma unroll 1
  for (Items<V, TEAM> items(p, kind.rows); items.more(); items.next()) {
    const u32 row = items.row(), first = items.voice();
    Sum totals[V];
    const uint4 *inputs[V];
    for (int v = 0; v < V; ++v) inputs[v] = vectors + (first + v) * shape.units;
    multiply<V, TEAM>(b.matrix(kind, 0), kind.rows, kind.steps, row, inputs, shape, totals);
    const float scale = b.scale(kind, 0, row);
    if (!items.keeps()) continue;
    for (int v = 0; v < V; ++v) {
#if defined(WAVENET_INT8)
      totals[v] += (int)__float_as_uint(p.floats[kind.corrections + row]);
#endif
      keep_sum(first + v, row, onto(p.floats[bias + row], totals[v], scale, scale_of(inputs[v], shape)));
    }
  }
}
