// A batch: the voices that a block plays together, of a model whose numbers of channels are known when this is
// compiled. Where its working memory lies, and which warp does what.
//
// A warp has 8 filters and the 8 gates of the same units, and as many rows of every other matrix as make equal
// shares, for all voices of the block: each weight is read once a block and sample. On the matrix units the
// voices are the rows of the first factor and the weights' rows the columns of the second: lane 4 g + t finds
// sums of rows 2 t and 2 t + 1 of 8, for the voices of number g in each eight of them.
#pragma once
#include "common/tiles.cuh"

// Channels of the residual stream and of the gated units, of skips, of the layer before the last, and codes.
template <u32 R_, u32 S_, u32 A_, u32 LEVELS_>
struct BatchShape {
  static constexpr u32 R = R_, S = S_, A = A_, LEVELS = LEVELS_;
  static constexpr u32 WARPS = R / 8, THREADS = WARPS * 32;
  // Blocks of a multiprocessor that are to find registers, 128 a thread or some more; `side_by_side` in shapes.rs
  // says the same.
  static constexpr u32 BLOCKS = THREADS < 256 ? 3 : 512 / THREADS;
  static_assert(R % 8 == 0 && S % (8 * WARPS) == 0 && A % (8 * WARPS) == 0 && LEVELS % (8 * WARPS) == 0);
  // Sums of so many bytes are exact as floats (`whole` in batch/tiles.cuh).
  static_assert(R <= 256 && S <= 256 && A <= 256);
  // A lane chooses among 8 codes.
  static_assert(LEVELS == 256);
};

// Steps of 64 columns of a vector.
__device__ constexpr u32 steps_of(u32 channels) { return (channels + 63) / 64; }

// A batch of so many voices, a multiple of 8.
template <typename Shape_, u32 VOICES_>
struct Batch : Block {
  using Of = Shape_;
  static constexpr u32 VOICES = VOICES_, EIGHTS = VOICES / 8, TILES = (VOICES + 15) / 16;
  static constexpr u32 INPUT_UNITS = 4 * steps_of(Of::R) + 1;
  static constexpr u32 GATED_UNITS = 4 * steps_of(Of::R);
  static constexpr u32 HEAD_UNITS = 4 * steps_of(Of::S > Of::A ? Of::S : Of::A) + 1;

  u32 thread;

  // The same for the phase that begins: what follows from the thread's number is found anew there, instead of
  // occupying registers everywhere.
  __device__ Batch anew() const {
    Batch same = *this;
#ifdef __CUDACC_RTC__
    asm volatile("" : "+r"(same.thread));
#endif
    return same;
  }

  __device__ u32 warp() const { return thread / 32; }
  __device__ u32 group() const { return (thread & 31) / 4; }
  __device__ u32 in_group() const { return thread & 3; }
  // The voice of this lane in an eight of them. Neighbouring groups are 4 voices apart: vectors are an odd number
  // of units long, so the 8 lanes that read at once find what they read in different banks.
  __device__ u32 voice_of(u32 eight) const { return eight * 8 + group() / 2 + (group() & 1) * 4; }

  __device__ long long &began() const { return *(long long *)&work[0].z; }
  __device__ uint4 ring(u32 layer) const { return work[p.at_rings + layer]; }
  __device__ float *x(u32 v) const { return (float *)(work + p.at_x) + v * constant_pitch(Of::R); }
  __device__ float *logits(u32 v) const { return (float *)(work + p.at_logits) + v * constant_pitch(Of::LEVELS); }
  __device__ uint4 *inputs() const { return work + p.at_input; }
  __device__ uint4 *past_inputs(u32 tap) const { return work + p.at_past + tap * VOICES * INPUT_UNITS; }
  __device__ u32 gated_stride() const { return p.layers * GATED_UNITS + 1; }
  __device__ uint4 *gated() const { return work + p.at_units; }
  // Bytes that follow a relu: of the skips, then of the layer after them.
  __device__ uint4 *rectified() const { return work + p.at_skip_input; }
  // The largest magnitudes of the vectors that are made now, or next.
  __device__ u32 *largest(u32 turn) const { return (u32 *)(work + p.at_largest) + (turn & 1) * VOICES; }
  // Two neighbouring floats, of rows 2 t and 2 t + 1 of 8.
  __device__ float2 pair(u32 at) const { return *(const float2 *)(p.floats + at + 2 * in_group()); }

 private:
  __device__ static constexpr u32 constant_pitch(u32 width) { return (width + 23) / 32 * 32 + 8; }
};
