// The layers: what of them does not depend on this sample, for all at once, and what is a chain.
#pragma once
#include "products.cuh"

template <int V>
__device__ inline void ahead(const Block &b) {
  const Params &p = b.p;
  const u32 width = 2 * p.gate.channels, taps = p.kernel_size - 1;
#pragma unroll 1
  for (u32 layer = 0; layer < p.layers; ++layer) {
    const uint4 ring = p.rings[layer];
#pragma unroll 1
    for (Items<V, 1> items(p, width); items.more(); items.next()) {
      const u32 row = items.row(), first = items.voice();
      float sums[V];
      Sum totals[V];
      const uint4 *inputs[V];
      for (int v = 0; v < V; ++v) sums[v] = layer == 0 ? 0.0f : p.floats[p.gate_bias + layer * width + row];
#pragma unroll 1
      for (u32 tap = 0; tap < taps; ++tap) {
        const u32 back = (taps - tap) * ring.z;
        if (layer == 0) {
          for (int v = 0; v < V; ++v) {
            u32 code = tap * p.levels + b.past_code(first + v, ring, back);
            float heard = p.floats[p.tables + code * width + row];
            sums[v] = tap == 0 ? heard : sums[v] + heard;
          }
          continue;
        }
        const u32 index = (layer - 1) * p.kernel_size + tap;
        for (int v = 0; v < V; ++v) inputs[v] = b.past(first + v, layer, ring, back);
        multiply<V, 1>(b.matrix(p.taps, index), width, p.taps.steps, row, inputs, p.residual, totals);
        const float scale = b.scale(p.taps, index, row);
        for (int v = 0; v < V; ++v) sums[v] = onto(sums[v], totals[v], scale, scale_of(inputs[v], p.residual));
      }
      if (p.conditioning_vector.channels > 0) {
        for (int v = 0; v < V; ++v) inputs[v] = b.h(first + v);
        const Matrices &kind = p.conditioning_weights;
        multiply<V, 1>(b.matrix(kind, layer), width, kind.steps, row, inputs, p.conditioning_vector, totals);
        const float scale = b.scale(kind, layer, row);
        for (int v = 0; v < V; ++v)
          sums[v] = onto(sums[v], totals[v], scale, scale_of(inputs[v], p.conditioning_vector));
      }
      if (!items.keeps()) continue;
      for (int v = 0; v < V; ++v) b.ahead(first + v, layer)[row] = sums[v];
    }
  }
}

// The present tap, and tanh(filter) . sigmoid(gate).
template <int V, int TEAM>
__device__ inline void gate(const Block &b, u32 layer) {
  const Params &p = b.p;
  const u32 g = p.gate.channels, tap = p.kernel_size - 1;
#pragma unroll 1
  for (Items<V, TEAM> items(p, g); items.more(); items.next()) {
    const u32 unit = items.row(), first = items.voice();
    float sums[2][V];  // filter, gate
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const u32 row = half * g + unit;
      if (layer == 0) {
        for (int v = 0; v < V; ++v) {
          u32 code = tap * p.levels + b.voice(first + v).code;
          sums[half][v] = b.ahead(first + v, 0)[row] + p.floats[p.tables + code * 2 * g + row];
        }
        continue;
      }
      Sum totals[V];
      const uint4 *inputs[V];
      const u32 index = (layer - 1) * p.kernel_size + tap;
      for (int v = 0; v < V; ++v) inputs[v] = b.input(first + v);
      multiply<V, TEAM>(b.matrix(p.taps, index), 2 * g, p.taps.steps, row, inputs, p.residual, totals);
      const float scale = b.scale(p.taps, index, row);
      for (int v = 0; v < V; ++v)
        sums[half][v] = onto(b.ahead(first + v, layer)[row], totals[v], scale, scale_of(inputs[v], p.residual));
    }
    if (!items.keeps()) continue;
    for (int v = 0; v < V; ++v) {
      uint4 *units = b.units(first + v, layer);
#if defined(WAVENET_INT8)
      float2 f = tanh_ratio(sums[0][v]), s = tanh_ratio(0.5f * sums[1][v]);
      float unit_ = (f.x * (s.x + s.y)) / (f.y * s.y);
      ((u8 *)units)[unit] = (u8)__float_as_uint(fma_(unit_, 63.5f, ROUND));
#else
      ((float *)units)[place(p.gate, unit)] = tanh_(sums[0][v]) * sigmoid_(sums[1][v]);
#endif
    }
  }
}

// Brings the residual stream to the next layer, and stores it in that layer's queue.
template <int V, int TEAM>
__device__ inline void residual(const Block &b, u32 layer) {
  const Params &p = b.p;
  const u32 r = p.residual.channels;
  const uint4 ring = p.rings[layer + 1];
#pragma unroll 1
  for (Items<V, TEAM> items(p, r); items.more(); items.next()) {
    const u32 row = items.row(), first = items.voice();
    Sum totals[V];
    const uint4 *inputs[V];
    for (int v = 0; v < V; ++v) inputs[v] = b.units(first + v, layer);
    multiply<V, TEAM>(b.matrix(p.residuals, layer), r, p.residuals.steps, row, inputs, p.gate, totals);
    const float scale = b.scale(p.residuals, layer, row);
    if (!items.keeps()) continue;
    for (int v = 0; v < V; ++v) {
      const u32 voice = first + v;
      float change = onto(p.floats[p.residual_bias + layer * r + row], totals[v], scale, 1.0f);
      float x = b.x(voice)[row] + change;
      b.x(voice)[row] = x;
#if !defined(WAVENET_INT8)
      const u32 at = place(p.residual, row);
      ((float *)b.input(voice))[at] = x;
      if (b.voice(voice).is_active) ((float *)b.row(voice, ring, b.voice(voice).made))[at] = x;
#endif
    }
  }
#if defined(WAVENET_INT8)
  __syncthreads();
#pragma unroll 1
  for (u32 v = threadIdx.x / 32; v < p.voices; v += blockDim.x / 32) {
    quantise(b.x(v), p.residual, false, b.input(v));
    __syncwarp();
    if (!b.voice(v).is_active) continue;
    uint4 *row = b.row(v, ring, b.voice(v).made);
#pragma unroll 1
    for (u32 i = threadIdx.x & 31; i < p.residual.units; i += 32) row[i] = b.input(v)[i];
  }
#endif
}
