// From the gated units of all layers of a batch to the logits: the skips and two products, whose sums stay in
// registers until they are bytes.
#pragma once
#include "batch/vectors.cuh"

// A warp's rows of a matrix of so many: N times 8.
template <typename Batch, u32 ROWS>
struct Share {
  static constexpr u32 N = ROWS / 8 / Batch::Of::WARPS;
  __device__ static u32 row(const Batch &b, u32 n) { return (b.warp() * N + n) * 8; }
};

// Adds products of so many steps; the weights of the next are on their way while one is multiplied.
template <typename Batch, u32 N, typename RowOf>
__device__ inline void multiply_ahead(const Batch &b, Sums<N, Batch> &sums, const uint4 *weights, u32 rows, u32 steps,
                                      RowOf row_of, const uint4 *vectors, u32 stride) {
  Weights<N, 1> next;
  next.load(b, weights, rows, row_of);
#pragma unroll 1
  for (u32 step = 0; step < steps; ++step) {
    const Weights<N, 1> now = next;
    if (step + 1 < steps) next.load(b, weights + (step + 1) * 4 * rows, rows, row_of);
    sums.add(b, now, vectors + 4 * step, stride);
  }
}

// The skips of all layers: of bytes one product over all of their units.
template <typename Batch>
__device__ inline void skips(const Batch &b, u32 &turn) {
  using Rows = Share<Batch, Batch::Of::S>;
  constexpr u32 N = Rows::N;
  const Params &p = b.p;
  const auto row_of = [&](u32 n) { return Rows::row(b, n); };
  Sums<N, Batch> sums;
  sums.start(0);
  multiply_ahead(b, sums, p.weights + p.skips.start, Batch::Of::S, p.layers * steps_of(Batch::Of::R), row_of, b.gated(),
                 b.gated_stride());
  Made<N, Batch> made;
#pragma unroll
  for (u32 n = 0; n < N; ++n) {
    const float2 scale = b.pair(p.skips.scales + row_of(n)), bias = b.pair(p.skip_bias + row_of(n));
    for_each_sum<Batch>([&](u32 tile, u32 i, u32 eight) {
      made.of[n][eight][i & 1] = relu_(fma_((float)sums.of[n][tile][i], of_pair(scale, i), of_pair(bias, i)));
    });
  }
  merge_largest(b, made, turn);
  __syncthreads();
  make_bytes(b, made, turn++, true, b.rectified(), Batch::HEAD_UNITS, 4 * steps_of(Batch::Of::S), row_of);
  __syncthreads();
}

// A product of the head with what a relu made of so many channels: `finish(n, eight, i, sum)` gets its sums.
template <typename Batch, u32 CHANNELS, u32 N, typename RowOf, typename Finish>
__device__ inline void head_product(const Batch &b, const Matrices &kind, u32 rows, u32 bias, RowOf row_of,
                                    Finish finish) {
  constexpr u32 STEPS = steps_of(CHANNELS);
  const uint4 *first = b.p.weights + kind.start;
  Sums<N, Batch> sums;
  sums.start(WHOLE);
  multiply_ahead(b, sums, first, rows, STEPS, row_of, b.rectified(), Batch::HEAD_UNITS);
  float of_voice[Batch::EIGHTS];
#pragma unroll
  for (u32 eight = 0; eight < Batch::EIGHTS; ++eight)
    of_voice[eight] = __uint_as_float(b.rectified()[b.voice_of(eight) * Batch::HEAD_UNITS + 4 * STEPS].x);
#pragma unroll
  for (u32 n = 0; n < N; ++n) {
    const float2 scale = b.pair(kind.scales + row_of(n)), before = b.pair(bias + row_of(n));
    const float2 bits = b.pair(kind.corrections + row_of(n));
    const float2 corrections = make_float2(correction(bits.x), correction(bits.y));
    for_each_sum<Batch>([&](u32 tile, u32 i, u32 eight) {
      const float sum = __uint_as_float((u32)sums.of[n][tile][i]) + of_pair(corrections, i);
      finish(n, eight, i & 1, fma_(sum, of_pair(scale, i) * of_voice[eight], of_pair(before, i)));
    });
  }
}

template <typename Batch>
__device__ inline void head(const Batch &b, u32 &turn) {
  using Of = typename Batch::Of;
  using Hidden = Share<Batch, Of::A>;
  const Params &p = b.p;
  const auto hidden = [&](u32 n) { return Hidden::row(b, n); };
  Made<Hidden::N, Batch> made;
  head_product<Batch, Of::S, Hidden::N>(b, p.end1, Of::A, p.end1_bias, hidden, [&](u32 n, u32 eight, u32 i, float sum) {
    made.of[n][eight][i] = relu_(sum);
  });
  merge_largest(b, made, turn);
  __syncthreads();
  make_bytes(b, made, turn++, true, b.rectified(), Batch::HEAD_UNITS, 4 * steps_of(Of::A), hidden);
  __syncthreads();
  // Four times 8 rows at once are as many as registers hold.
  constexpr u32 N = Share<Batch, Of::LEVELS>::N, AT_ONCE = N < 4 ? N : 4;
#pragma unroll 1
  for (u32 first = 0; first < N; first += AT_ONCE) {
    const auto row_of = [&](u32 n) { return Share<Batch, Of::LEVELS>::row(b, first + n); };
    float before = 0.0f;
    head_product<Batch, Of::A, AT_ONCE>(b, p.end2, Of::LEVELS, p.end2_bias, row_of,
                                        [&](u32 n, u32 eight, u32 i, float sum) {
                                          // The lower of two neighbours comes first.
                                          if (i == 0) {
                                            before = sum;
                                            return;
                                          }
                                          float *place = b.logits(b.voice_of(eight)) + row_of(n) + 2 * b.in_group();
                                          *(float2 *)place = make_float2(before, sum);
                                        });
  }
  __syncthreads();
}
