// What the sums of a product become: a vector of bytes and its scale. Every warp has a few rows of each voice.
// They find the largest magnitude together, wait at a barrier, and each turns its own rows into bytes.
#pragma once
#include "batch/tiles.cuh"

// Two neighbouring rows of a voice for each eight of the voices, N times.
template <u32 N, typename Batch>
struct Made {
  float of[N][Batch::EIGHTS][2];
};

// Merges the largest magnitudes of this warp's rows into those of the batch.
template <u32 N, typename Batch>
__device__ inline void merge_largest(const Batch &b, const Made<N, Batch> &made, u32 turn) {
#pragma unroll
  for (u32 eight = 0; eight < Batch::EIGHTS; ++eight) {
    u32 most = 0;
#pragma unroll
    for (u32 n = 0; n < N; ++n)
#pragma unroll
      for (u32 i = 0; i < 2; ++i) {
        const u32 magnitude = __float_as_uint(made.of[n][eight][i]) & 0x7fffffffu;
        most = magnitude > most ? magnitude : most;
      }
#pragma unroll
    for (int distance = 1; distance < 4; distance *= 2) {
      const u32 other = __shfl_xor_sync(ALL, most, distance);
      most = other > most ? other : most;
    }
    if (b.in_group() == 0) atomicMax(b.largest(turn) + b.voice_of(eight), most);
  }
}

// Turns rows into bytes, after all warps have merged theirs: `most` is what the largest becomes, 127, or 255 after a
// relu, when bytes stand for themselves less 128. The rows of n begin at row_of(n). As `quantise` does.
template <u32 N, typename Batch, typename RowOf>
__device__ inline void make_bytes(const Batch &b, const Made<N, Batch> &made, u32 turn, bool is_rectified,
                                  uint4 *vectors, u32 stride, u32 scale_unit, RowOf row_of) {
  const u32 lane = b.thread & 31;
  // A lane finds the factor of one voice; there are 32 at most.
  static_assert(Batch::VOICES <= 32);
  const bool is_voice = lane < Batch::VOICES;
  const float largest = __uint_as_float(is_voice ? b.largest(turn)[lane] : 0), most = is_rectified ? 255.0f : 127.0f;
  const bool is_usable = largest >= 1e-30f && largest <= 3.40282347e38f;
  const float factor = is_usable ? most / largest : 0.0f;
  if (b.warp() == 0 && is_voice) {
    vectors[lane * stride + scale_unit].x = __float_as_uint((is_usable ? largest : 0.0f) / most);
    b.largest(turn + 1)[lane] = 0;
  }
#pragma unroll
  for (u32 eight = 0; eight < Batch::EIGHTS; ++eight) {
    const u32 v = b.voice_of(eight);
    const float of_voice = __shfl_sync(ALL, factor, v);
    unsigned char *bytes = (u8 *)(vectors + v * stride) + 2 * b.in_group();
#pragma unroll
    for (u32 n = 0; n < N; ++n) {
      const u32 low = __float_as_uint(made.of[n][eight][0] * of_voice + ROUND);
      const u32 high = __float_as_uint(made.of[n][eight][1] * of_voice + ROUND);
      const u32 both = __byte_perm(low, high, 0x0040) ^ (is_rectified ? 0x8080u : 0);
      *(unsigned short *)(bytes + row_of(n)) = (unsigned short)both;
    }
  }
}
