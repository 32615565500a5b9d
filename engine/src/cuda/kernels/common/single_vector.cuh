// One voice in int8 on the matrix units: rows of weights times one vector, and how a vector becomes bytes.
#pragma once
#include "common/sampling.cuh"
#include "common/tiles.cuh"
#include "common/vectors.cuh"

// A unit of weights that is read once a sample: the first cache is for others. Not moved across a wait.
__device__ inline uint4 stream(const uint4 *from) {
#ifdef __CUDACC_RTC__
  uint4 unit;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(unit.x), "=r"(unit.y), "=r"(unit.z), "=r"(unit.w)
               : "l"(from));
  return unit;
#else
  return *from;
#endif
}

// A lane's part of a vector of 64 columns or more: for who wants it before other loads.
template <u32 PARTS>
struct LaneVector {
  uint4 units[PARTS / 2];

  __device__ explicit LaneVector(const uint4 *vector) {
#pragma unroll
    for (u32 i = 0; i < PARTS / 2; ++i) units[i] = vector[4 * i + (threadIdx.x & 3)];
  }
};

// Tiles of 16 rows of weights, 32 columns a part, as a warp holds them, and their product with one vector in all
// columns of the second factor. Lane 4 g + t brings 16 bytes of the vector that lie together, of 64 columns; where
// there are but 32, 8 bytes. In memory the tiles of a part follow each other: [PARTS][TILES][32] units.
template <u32 TILES, u32 PARTS>
struct Rows16 {
  uint4 parts[TILES][PARTS];


  __device__ void load(const uint4 *tiles) {
#pragma unroll
    for (u32 i = 0; i < TILES * PARTS; ++i) parts[i % TILES][i / TILES] = tiles[32 * i + (threadIdx.x & 31)];
  }
  __device__ void stream_in(const uint4 *tiles) {
#pragma unroll
    for (u32 i = 0; i < TILES * PARTS; ++i) parts[i % TILES][i / TILES] = stream(tiles + 32 * i + (threadIdx.x & 31));
  }
  // Adds to the sums of each tile: number 0 is of row g, number 2 of row g + 8, the others are the same again.
  __device__ void multiply(const uint4 *vector, int (*sums)[4]) const {
    const u32 t = threadIdx.x & 3;
    if constexpr (PARTS == 1) {
      const uint2 pair = ((const uint2 *)vector)[t];
#pragma unroll
      for (u32 tile = 0; tile < TILES; ++tile) add(parts[tile][0], pair.x, pair.y, sums[tile]);
    } else {
#pragma unroll
      for (u32 i = 0; i < PARTS; i += 2) {
        const uint4 unit = vector[2 * i + t];
#pragma unroll
        for (u32 tile = 0; tile < TILES; ++tile) add(parts[tile][i], unit.x, unit.y, sums[tile]);
#pragma unroll
        for (u32 tile = 0; tile < TILES; ++tile) add(parts[tile][i + 1], unit.z, unit.w, sums[tile]);
      }
    }
  }
  __device__ void multiply_held(const LaneVector<PARTS> &lane, int (*sums)[4]) const {
#pragma unroll
    for (u32 i = 0; i < PARTS; ++i)
#pragma unroll
      for (u32 tile = 0; tile < TILES; ++tile) {
        const uint4 unit = lane.units[i / 2];
        add(parts[tile][i], i % 2 ? unit.z : unit.x, i % 2 ? unit.w : unit.y, sums[tile]);
      }
  }
  __device__ static void add(const uint4 &part, u32 low, u32 high, int *sums) {
    multiply_16x8(part.x, part.y, part.z, part.w, low, high, sums);
  }
};

template <u32 TILES>
struct Rows16<TILES, 0> {
  __device__ void load(const uint4 *) {}
  __device__ void stream_in(const uint4 *) {}
  __device__ void multiply(const uint4 *, int (*)[4]) const {}
};

// tanh(filter) . sigmoid(gate) as a byte.
__device__ inline u8 gated_byte(float filter, float gate) {
  const float2 f = tanh_ratio(filter), s = tanh_ratio(0.5f * gate);
  const float unit = divide(f.x * (s.x + s.y), f.y * s.y);
  return (u8)__float_as_uint(fma_(unit, 63.5f, ROUND));
}

// A conditioning vector as bytes, by one warp: channels lane, lane + 32 ... of each lane.
template <u32 N>
__device__ inline void pack_vector(const Vector &shape, const float (&channels)[N], uint4 *vector) {
  const u32 lane = threadIdx.x & 31;
  u32 largest = 0;
#pragma unroll
  for (u32 i = 0; i < N; ++i) {
    const u32 magnitude = __float_as_uint(channels[i]) & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
  }
  const Scale scaled(largest_of_warp(largest), 127.0f);
#pragma unroll
  for (u32 i = 0; i < N; ++i)
    if (lane + 32 * i < shape.channels) ((u8 *)vector)[lane + 32 * i] = (u8)scaled.byte(channels[i]);
  if (lane == 0) vector[shape.scale].x = __float_as_uint(scaled.scale);
}
