// The layers, one after another: gate, residual. What of them does not depend on this sample is summed ahead for
// a voice that plays alone, who waits for each step of the chain; for several it is summed where it is wanted,
// which takes no memory.
#pragma once
#include "common/products.cuh"

// What of a layer's filters and gates does not depend on this sample: bias, past taps, conditioning. Row 0 of
// the share is their row `first_row`.
template <typename Share>
__device__ inline void sum_known(const Block &b, const Share &share, u32 layer, u32 first_row, float *sums) {
  const Params &p = b.p;
  const u32 width = 2 * p.gate.channels, taps = p.kernel_size - 1;
  const uint4 ring = p.rings[layer];
  for (int i = 0; i < Share::SUMS; ++i)
    sums[i] = layer == 0 ? 0.0f : p.floats[p.gate_bias + layer * width + first_row + share.row(i)];
#pragma unroll 1
  for (u32 tap = 0; tap < taps; ++tap) {
    const u32 back = (taps - tap) * ring.z;
    if (layer == 0) {
      for (int i = 0; i < Share::SUMS; ++i) {
        u32 code = tap * p.levels + b.past_code(share.voice(i), ring, back);
        float heard = p.floats[p.tables + code * width + first_row + share.row(i)];
        sums[i] = tap == 0 ? heard : sums[i] + heard;
      }
      continue;
    }
    const u32 index = (layer - 1) * p.kernel_size + tap;
    const auto past = [&](u32 v) { return b.past(v, layer, ring, back); };
    add_product(b, share, p.taps, index, first_row, p.residual, past, sums);
  }
  if (p.conditioning_vector.channels == 0) return;
  const auto h = [&](u32 v) { return b.h(v); };
  add_product(b, share, p.conditioning_weights, layer, first_row, p.conditioning_vector, h, sums);
}

// The same for all layers at once, before the chain of a voice that plays alone.
template <typename Share>
__device__ inline void ahead(const Block &b) {
  const Params &p = b.p;
#pragma unroll 1
  for (u32 layer = 0; layer < p.layers; ++layer) {
#pragma unroll 1
    for (Share share(2 * p.gate.channels, p.voices); share.more(); share.next()) {
      float sums[Share::SUMS];
      sum_known(b, share, layer, 0, sums);
      for (int i = 0; i < Share::SUMS; ++i)
        if (share.keeps(i)) b.ahead(share.voice(i), layer)[share.row(i)] = sums[i];
    }
  }
}

// The present tap, after what was known ahead or is summed here, and tanh(filter) . sigmoid(gate).
template <typename Share, bool IS_AHEAD>
__device__ inline void gate(const Block &b, u32 layer) {
  const Params &p = b.p;
  const u32 g = p.gate.channels, tap = p.kernel_size - 1;
#pragma unroll 1
  for (Share share(g, p.voices); share.more(); share.next()) {
    float sums[2][Share::SUMS];  // filter, gate
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if constexpr (IS_AHEAD) {
        for (int i = 0; i < Share::SUMS; ++i) sums[half][i] = b.ahead(share.voice(i), layer)[half * g + share.row(i)];
      } else {
        sum_known(b, share, layer, half * g, sums[half]);
      }
      if (layer == 0) {
        for (int i = 0; i < Share::SUMS; ++i) {
          const u32 code = tap * p.levels + b.voice(share.voice(i)).code;
          sums[half][i] = sums[half][i] + p.floats[p.tables + code * 2 * g + half * g + share.row(i)];
        }
        continue;
      }
      const u32 index = (layer - 1) * p.kernel_size + tap;
      const auto input = [&](u32 v) { return b.input(v); };
      add_product(b, share, p.taps, index, half * g, p.residual, input, sums[half]);
    }
    for (int i = 0; i < Share::SUMS; ++i) {
      if (!share.keeps(i)) continue;
      const u32 unit = share.row(i);
      uint4 *units = b.units(share.voice(i), layer);
#if defined(WAVENET_INT8)
      float2 f = tanh_ratio(sums[0][i]), s = tanh_ratio(0.5f * sums[1][i]);
      float unit_ = (f.x * (s.x + s.y)) / (f.y * s.y);
      ((u8 *)units)[unit] = (u8)__float_as_uint(fma_(unit_, 63.5f, ROUND));
#else
      ((float *)units)[place(p.gate, unit)] = tanh_(sums[0][i]) * sigmoid_(sums[1][i]);
#endif
    }
  }
}

// Brings the residual stream to the next layer, and stores it in that layer's queue.
template <typename Share>
__device__ inline void residual(const Block &b, u32 layer) {
  const Params &p = b.p;
  const u32 r = p.residual.channels;
  const uint4 ring = p.rings[layer + 1];
#pragma unroll 1
  for (Share share(r, p.voices); share.more(); share.next()) {
    float sums[Share::SUMS];
    for (int i = 0; i < Share::SUMS; ++i) sums[i] = p.floats[p.residual_bias + layer * r + share.row(i)];
    add_product(b, share, p.residuals, layer, 0, p.gate, [&](u32 v) { return b.units(v, layer); }, sums);
    for (int i = 0; i < Share::SUMS; ++i) {
      if (!share.keeps(i)) continue;
      const u32 row = share.row(i), v = share.voice(i);
      float x = b.x(v)[row] + sums[i];
      b.x(v)[row] = x;
#if !defined(WAVENET_INT8)
      const u32 at = place(p.residual, row);
      ((float *)b.input(v))[at] = x;
      if (b.voice(v).is_active) ((float *)b.row(v, ring, b.voice(v).made))[at] = x;
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
