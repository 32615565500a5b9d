// One block of the grid: the voices that it plays, and where everything lies that belongs to them.
#pragma once
#include "common/arithmetic.cuh"

// Floats from one voice to the next: 8 more than a multiple of 32, so that 8 rows of each of 4 voices, which
// a warp keeps at once, lie in different banks.
__device__ inline u32 pitch(u32 width) { return (width + 23) / 32 * 32 + 8; }

// One block and its working memory.
struct Block {
  const Params &p;
  uint4 *work;
  const uint4 *resident;

  __device__ Voice &voice(u32 v) const { return ((Voice *)(work + p.at_voices))[v]; }
  // The flag that all threads look at: whether there is a sample to make.
  __device__ u32 &go() const { return work[0].x; }
  __device__ u32 order(u32 v) const { return blockIdx.x * p.voices + v; }
  __device__ bool exists(u32 v) const { return order(v) < p.orders_count; }
  // A vector as the host told it.
  __device__ float *told(u32 v, u32 sample) const {
    const u32 h = p.conditioning_vector.channels;
    return floats(p.at_told, p.told_rows * h, v) + (sample & (p.told_rows - 1)) * h;
  }
  __device__ uint4 *h(u32 v) const { return work + p.at_h + v * p.conditioning_vector.units; }
  __device__ float *x(u32 v) const { return floats(p.at_x, p.residual.channels, v); }
  __device__ uint4 *input(u32 v) const { return work + p.at_input + v * p.residual.units; }
  // The gated units of a layer. One unit more a voice: so the voices of a tile lie in different banks.
  __device__ uint4 *units(u32 v, u32 layer) const {
    return work + p.at_units + v * (p.layers * p.gate.units + 1) + layer * p.gate.units;
  }
  // Bias, past taps and conditioning of a layer's filters and gates, of a voice that plays alone.
  __device__ float *ahead(u32 v, u32 layer) const {
    return floats(p.at_ahead, p.layers * 2 * p.gate.channels, v) + layer * 2 * p.gate.channels;
  }
  __device__ float *skips(u32 v) const { return floats(p.at_skips, p.skip.channels, v); }
  __device__ uint4 *skip_input(u32 v) const { return work + p.at_skip_input + v * p.skip.units; }
  __device__ float *hidden(u32 v) const { return floats(p.at_hidden, p.end.channels, v); }
  __device__ uint4 *hidden_input(u32 v) const { return work + p.at_hidden_input + v * p.end.units; }
  __device__ float *logits(u32 v) const { return floats(p.at_logits, p.levels, v); }

  __device__ float *floats(u32 at, u32 width, u32 v) const { return (float *)(work + at) + v * pitch(width); }

  __device__ const uint4 *matrix(const Matrices &kind, u32 index) const {
    u32 start = kind.start + index * kind.stride;
    return (start + kind.stride <= p.resident_units ? resident : p.weights) + start;
  }
  __device__ float scale(const Matrices &kind, u32 index, u32 row) const {
#if defined(WAVENET_INT8)
    return p.floats[kind.scales + index * kind.rows + row];
#else
    return 1.0f;
#endif
  }
  __device__ uint4 *lane(u32 v) const { return p.lanes + (u64)voice(v).lane * p.lane_units; }
  // Where a layer's input of a time lies, for layers from 1 on.
  __device__ uint4 *row(u32 v, uint4 ring, u64 time) const {
    return lane(v) + ring.x + ((u32)time & ring.y) * p.residual.units;
  }
  // A layer's input `back` samples ago.
  __device__ const uint4 *past(u32 v, u32 layer, uint4 ring, u32 back) const {
    u64 made = voice(v).made;
    return made < back ? p.silence + layer * p.residual.units : row(v, ring, made - back);
  }
  __device__ u8 *codes(u32 v) const { return (u8 *)(lane(v) + p.lane_codes); }
  __device__ u32 past_code(u32 v, uint4 ring, u32 back) const {
    u64 made = voice(v).made;
    return made < back ? p.silent_code : codes(v)[(u32)(made - back) & ring.y];
  }
};
