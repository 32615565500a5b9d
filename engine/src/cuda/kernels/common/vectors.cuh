// How what a product hears becomes a vector: floats in quarters, or bytes with a scale.
#pragma once
#include "common/block.cuh"

// Where channel i of a vector of floats lies.
__device__ inline u32 place(const Vector &shape, u32 i) {
  u32 quarter = __umulhi(2 * i, shape.reciprocal);
  return quarter * shape.pitch + i - quarter * shape.quarter;
}

// The scale of a vector of bytes; of gated units it is part of their weights' scales.
__device__ inline float scale_of(const uint4 *vector, const Vector &shape) {
#if defined(WAVENET_INT8)
  return shape.scale == 0 ? 1.0f : __uint_as_float(vector[shape.scale].x);
#else
  return 1.0f;
#endif
}

#if defined(WAVENET_INT8)
// What makes a vector of floats bytes: its largest magnitude becomes `most`, 127, or 255 after a relu.
struct Scale {
  float factor, scale;

  __device__ Scale(u32 largest_bits, float most) {
    const float largest = __uint_as_float(largest_bits);
    factor = divide(most, largest);
    scale = divide(largest, most);
    // From 2^-90 to 2^90.
    if (largest_bits - 0x12800000u <= 0x6c800000u - 0x12800000u) return;
    // Others are brought there by a power of two, which changes no digit of a quotient.
    const bool is_usable = largest >= 1e-30f && largest <= 3.40282347e38f, is_large = largest > 1.0f;
    const float within = largest * (is_large ? 0x1p-64f : 0x1p64f);
    factor = is_usable ? divide(most, within) * (is_large ? 0x1p-64f : 0x1p64f) : 0.0f;
    scale = is_usable ? divide(within, most) * (is_large ? 0x1p64f : 0x1p-64f) : 0.0f;
  }
  // In the low eight bits.
  __device__ u32 byte(float value) const { return __float_as_uint(value * factor + ROUND) & 0xffu; }
};

// Turns floats into a vector of bytes, by one warp; those after a relu stand for themselves less 128.
__device__ inline void quantise(const float *from, const Vector &shape, bool is_rectified, uint4 *vector) {
  const u32 lane = threadIdx.x & 31;
  u32 bits = 0;
#pragma unroll 1
  for (u32 i = lane; i < shape.channels; i += 32) {
    float value = is_rectified ? relu_(from[i]) : from[i];
    u32 magnitude = __float_as_uint(value) & 0x7fffffffu;
    bits = magnitude > bits ? magnitude : bits;
  }
  for (int distance = 16; distance > 0; distance /= 2) {
    u32 other = __shfl_xor_sync(ALL, bits, distance);
    bits = other > bits ? other : bits;
  }
  const Scale scaled(bits, is_rectified ? 255.0f : 127.0f);
#pragma unroll 1
  for (u32 word = lane; word * 4 < shape.channels; word += 32) {
    u32 packed = 0;
    for (u32 i = 0; i < 4 && word * 4 + i < shape.channels; ++i) {
      float value = from[word * 4 + i];
      value = is_rectified ? relu_(value) : value;
      packed |= (scaled.byte(value) ^ (is_rectified ? 0x80u : 0)) << (8 * i);
    }
    ((u32 *)vector)[word] = packed;
  }
  if (lane == 0) vector[shape.scale].x = __float_as_uint(scaled.scale);
}
#endif
