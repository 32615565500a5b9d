// The layers of a batch, one after another. A warp keeps the sums of its 8 filters and gates in registers, from
// what is known before this layer's input is (bias, past taps, conditioning) to the gated units:
//
//   gate       the present tap onto what was known; tanh(filter) . sigmoid(gate) as bytes
//   residual   brings the residual stream on and finds its largest magnitudes
//   hear_it    makes the next layer's input of it, and sums what is known of the next layer meanwhile
//
// with a barrier after each. Weights are on their way before the barrier that comes before their use.
#pragma once
#include "batch/vectors.cuh"
#include "common/copies.cuh"

__device__ inline float within_tanh(float x) {
#ifdef __CUDACC_RTC__
  asm("max.NaN.f32 %0, %0, %1;" : "+f"(x) : "f"(-TANH_END));
  asm("min.NaN.f32 %0, %0, %1;" : "+f"(x) : "f"(TANH_END));
  return x;
#else
  x = x < -TANH_END ? -TANH_END : x;
  return x > TANH_END ? TANH_END : x;
#endif
}

// The byte of a gated unit, in the low bits.
__device__ inline u32 gated_byte(float filter, float gate) {
  const float2 f = tanh_ratio_within(within_tanh(filter)), s = tanh_ratio_within(within_tanh(0.5f * gate));
  return __float_as_uint(fma_(divide(f.x * (s.x + s.y), f.y * s.y), 63.5f, ROUND));
}

// Weights of a tap, or of conditioning, for a warp's filters and gates.
template <typename Batch, u32 STEPS>
struct GateWeights {
  Weights<2, STEPS> rows;
  float2 scales[2];

  __device__ void load(const Batch &b, const Matrices &kind, u32 index, u32 step) {
    const u32 row = 8 * b.warp();
    const uint4 *first = b.p.weights + kind.start + index * kind.stride + step * 4 * kind.rows;
    rows.load(b, first, kind.rows, [&](u32 half) { return half * Batch::Of::R + row; });
#pragma unroll
    for (u32 half = 0; half < 2; ++half)
      scales[half] = b.pair(kind.scales + index * kind.rows + half * Batch::Of::R + row);
  }
};

// Filters and gates of a warp.
template <typename Batch>
struct Filters {
  using Of = typename Batch::Of;
  static constexpr u32 STEPS = steps_of(Of::R);
  float of[2][Batch::TILES][4];

  __device__ u32 row(const Batch &b, u32 half) const { return half * Of::R + 8 * b.warp(); }

  // Adds sums of whole numbers, times the scales of rows and vectors.
  template <typename Convert>
  __device__ void add(const Batch &b, const Sums<2, Batch> &sums, const float2 *scales, const uint4 *vectors,
                      u32 stride, u32 scale_unit, Convert convert) {
    float of_voice[Batch::EIGHTS];
#pragma unroll
    for (u32 eight = 0; eight < Batch::EIGHTS; ++eight)
      of_voice[eight] = __uint_as_float(vectors[b.voice_of(eight) * stride + scale_unit].x);
#pragma unroll
    for (u32 half = 0; half < 2; ++half)
      for_each_sum<Batch>([&](u32 tile, u32 i, u32 eight) {
        const float scale = of_pair(scales[half], i) * of_voice[eight];
        of[half][tile][i] = fma_(convert(sums.of[half][tile][i]), scale, of[half][tile][i]);
      });
  }

  // A tap of a layer's input of some time.
  __device__ void add_tap(const Batch &b, const GateWeights<Batch, STEPS> &weights, const uint4 *inputs) {
    Sums<2, Batch> sums;
    sums.start(WHOLE);
    sums.add(b, weights.rows, inputs, Batch::INPUT_UNITS);
    add(b, sums, weights.scales, inputs, Batch::INPUT_UNITS, 4 * STEPS, whole);
  }

  __device__ void add_conditioning(const Batch &b, u32 layer) {
    const Vector &h = b.p.conditioning_vector;
    if (h.channels == 0) return;
    const Matrices &kind = b.p.conditioning_weights;
    const uint4 *vectors = b.work + b.p.at_h;
    Sums<2, Batch> sums;
    sums.start(0);
    GateWeights<Batch, 1> weights;
#pragma unroll 1
    for (u32 step = 0; step < kind.steps; ++step) {
      weights.load(b, kind, layer, step);
      sums.add(b, weights.rows, vectors + 4 * step, h.units);
    }
    add(b, sums, weights.scales, vectors, h.units, h.scale, [](int sum) { return (float)sum; });
  }

  // Bias, past taps and conditioning of a layer; the oldest tap's weights were loaded before.
  __device__ void know(const Batch &b, u32 layer, GateWeights<Batch, STEPS> &weights, const float2 *bias) {
#pragma unroll
    for (u32 half = 0; half < 2; ++half)
      for_each_sum<Batch>([&](u32 tile, u32 i, u32) { of[half][tile][i] = of_pair(bias[half], i); });
    add_tap(b, weights, b.past_inputs(0));
#pragma unroll 1
    for (u32 tap = 1; tap + 1 < b.p.kernel_size; ++tap) {
      weights.load(b, b.p.taps, (layer - 1) * b.p.kernel_size + tap, 0);
      add_tap(b, weights, b.past_inputs(tap));
    }
    add_conditioning(b, layer);
  }

  // Layer 0 hears codes: rows of tables instead of products. Those of all taps are asked for at once.
  __device__ void know_first(const Batch &b) {
    const u32 taps = b.p.kernel_size - 1;
#pragma unroll 1
    for (u32 tap = 0; tap <= taps; ++tap) {
      if (tap == taps) add_conditioning(b, 0);
      u32 at[Batch::EIGHTS];
#pragma unroll
      for (u32 eight = 0; eight < Batch::EIGHTS; ++eight) {
        const u32 v = b.voice_of(eight);
        const u32 code = tap == taps ? b.voice(v).code : b.past_code(v, b.ring(0), (taps - tap) * b.ring(0).z);
        at[eight] = b.p.tables + (tap * Of::LEVELS + code) * 2 * Of::R;
      }
      float2 heard[2][Batch::EIGHTS];
#pragma unroll
      for (u32 half = 0; half < 2; ++half)
#pragma unroll
        for (u32 eight = 0; eight < Batch::EIGHTS; ++eight) heard[half][eight] = b.pair(at[eight] + row(b, half));
#pragma unroll
      for (u32 half = 0; half < 2; ++half)
        for_each_sum<Batch>([&](u32 tile, u32 i, u32 eight) {
          const float one = of_pair(heard[half][eight], i);
          of[half][tile][i] = tap == 0 ? one : of[half][tile][i] + one;
        });
    }
  }

  // Keeps the gated units of a layer.
  __device__ void gate(const Batch &b, u32 layer) const {
    u8 *units = (u8 *)(b.gated() + layer * Batch::GATED_UNITS) + 8 * b.warp() + 2 * b.in_group();
    for_each_sum<Batch>([&](u32 tile, u32 i, u32 eight) {
      if (i & 1) return;
      const u32 low = gated_byte(of[0][tile][i], of[1][tile][i]);
      const u32 high = gated_byte(of[0][tile][i + 1], of[1][tile][i + 1]);
      unsigned short *place = (unsigned short *)(units + b.voice_of(eight) * b.gated_stride() * sizeof(uint4));
      *place = (unsigned short)__byte_perm(low, high, 0x0040);
    });
  }
};

// The rows of a layer's residual product that a warp has.
template <typename Batch>
struct Residual {
  using Of = typename Batch::Of;
  static constexpr u32 STEPS = steps_of(Of::R);
  Weights<1, STEPS> rows;
  float2 scale, bias;

  __device__ void load(const Batch &b, u32 layer) {
    const Matrices &kind = b.p.residuals;
    const u32 row = 8 * b.warp();
    rows.load(b, b.p.weights + kind.start + layer * kind.stride, Of::R, [&](u32) { return row; });
    scale = b.pair(kind.scales + layer * Of::R + row);
    bias = b.pair(b.p.residual_bias + layer * Of::R + row);
  }

  // Brings the residual stream on.
  __device__ void add(const Batch &b, u32 layer, Made<1, Batch> &made) const {
    const u32 row = 8 * b.warp() + 2 * b.in_group();
    Sums<1, Batch> sums;
    sums.start(WHOLE);
    sums.add(b, rows, b.gated() + layer * Batch::GATED_UNITS, b.gated_stride());
    for_each_sum<Batch>([&](u32 tile, u32 i, u32 eight) {
      if (i & 1) return;
      float2 *place = (float2 *)(b.x(b.voice_of(eight)) + row), x = *place;
      x.x += fma_(whole(sums.of[0][tile][i]), scale.x, bias.x);
      x.y += fma_(whole(sums.of[0][tile][i + 1]), scale.y, bias.y);
      *place = x;
      made.of[0][eight][0] = x.x;
      made.of[0][eight][1] = x.y;
    });
  }
};

// Stores a layer's input in its queue, if it has one, and asks for the past inputs of the next.
template <typename Batch>
__device__ inline void exchange(const Batch &b, u32 layer) {
  const Params &p = b.p;
  constexpr u32 UNITS = Batch::INPUT_UNITS;
  const uint4 ring = b.ring(layer);
  const u32 next = layer + 1, taps = p.kernel_size - 1;
#pragma unroll 1
  for (u32 i = b.thread; i < Batch::VOICES * UNITS; i += Batch::Of::THREADS) {
    const u32 v = i / UNITS, unit = i % UNITS;
    const u64 made = b.voice(v).made;
    uint4 *lane = b.lane(v) + unit;
    if (layer > 0 && b.voice(v).is_active) lane[ring.x + ((u32)made & ring.y) * UNITS] = b.inputs()[i];
    if (next == p.layers) continue;
    const uint4 of_next = b.ring(next);
#pragma unroll 1
    for (u32 tap = 0; tap < taps; ++tap) {
      const u32 back = (taps - tap) * of_next.z;
      const bool is_silent = made < back;
      const uint4 *from = lane + of_next.x + (((u32)made - back) & of_next.y) * UNITS;
      copy_async(b.past_inputs(tap) + i, is_silent ? p.silence + next * UNITS + unit : from);
    }
  }
}

// All layers, up to their gated units. `turn` counts the vectors that were made.
template <typename Batch>
__device__ inline void layers(const Batch &b, u32 &turn) {
  const Params &p = b.p;
  const u32 row = 8 * b.warp(), present = p.kernel_size - 1;
  // How early weights are asked for, which come from the second cache: there are not registers enough for many of them,
  // nor for more than the next product's beside many voices.
  constexpr bool IS_SMALL = Filters<Batch>::STEPS == 1, IS_EARLY = Batch::EIGHTS <= (IS_SMALL ? 2 : 1);
  Residual<Batch> early;
  if (IS_EARLY && p.layers > 1) early.load(b, 0);
  Filters<Batch> filters;
  filters.know_first(b);
#pragma unroll 1
  for (u32 layer = 0;; ++layer) {
    exchange(b, layer);
    const bool is_last = layer + 1 == p.layers;
    Residual<Batch> residual;
    if (IS_EARLY) {
      residual = early;
    } else if (!is_last) {
      residual.load(b, layer);
    }
    filters.gate(b, layer);
    __syncthreads();
    if (is_last) return;

    GateWeights<Batch, Filters<Batch>::STEPS> weights, of_present;
    weights.load(b, p.taps, layer * p.kernel_size, 0);
    if (IS_EARLY) of_present.load(b, p.taps, layer * p.kernel_size + present, 0);
    float2 bias[2];
#pragma unroll
    for (u32 half = 0; half < 2; ++half)
      bias[half] = b.pair(p.gate_bias + (layer + 1) * 2 * Batch::Of::R + filters.row(b, half));
    Made<1, Batch> made;
    residual.add(b, layer, made);
    merge_largest(b, made, turn);
    wait_all_copies();
    __syncthreads();

    make_bytes(b, made, turn, false, b.inputs(), Batch::INPUT_UNITS, Batch::INPUT_UNITS - 1,
               [&](u32) { return row; });
    ++turn;
    if (IS_EARLY && layer + 2 < p.layers) early.load(b, layer + 1);
    if (IS_SMALL && !IS_EARLY) of_present.load(b, p.taps, layer * p.kernel_size + present, 0);
    filters.know(b, layer + 1, weights, bias);
    if (!IS_SMALL && !IS_EARLY) of_present.load(b, p.taps, layer * p.kernel_size + present, 0);
    __syncthreads();
    filters.add_tap(b, of_present, b.inputs());
  }
}
