// A WaveNet that makes sample after sample without the host: one block plays a few voices, from the code
// that each made last to the next, until every goal is reached or the slice is over. Blocks know nothing of
// each other. What a voice remembers, its dilated queues, stays in device memory from slice to slice.
//
// A sample is a chain of phases with barriers between them:
//
//   hear     conditioning vectors, fetched from the host now and then, and the codes' embeddings
//   ahead    of all layers at once what does not depend on this sample: bias, past taps, conditioning
//   layers   one after another: the present tap and the gate; the residual
//   head     skips of all layers, two products
//   choose   draws the code, which is heard next
//
// `wavenet_solo` has teams of 4 lanes a row for one voice's sake, `wavenet_choir` one thread for a row and 4
// voices, so that weights are read once for them. Sums have the order of the numeric contract in both.

#ifndef __CUDACC_RTC__
#include "shim.h"
#endif
#include "sampling.cuh"

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
  __device__ uint4 *units(u32 v, u32 layer) const {
    return work + p.at_units + (v * p.layers + layer) * p.gate.units;
  }
  // Bias, past taps and conditioning of a layer's filters and gates.
  __device__ float *ahead(u32 v, u32 layer) const {
    return floats(p.at_ahead, p.layers * 2 * p.gate.channels, v) + layer * 2 * p.gate.channels;
  }
  __device__ float *skips(u32 v) const { return floats(p.at_skips, p.skip.channels, v); }
  __device__ uint4 *skip_input(u32 v) const { return work + p.at_skip_input + v * p.skip.units; }
  __device__ float *hidden(u32 v) const { return floats(p.at_hidden, p.end.channels, v); }
  __device__ uint4 *hidden_input(u32 v) const { return work + p.at_hidden_input + v * p.end.units; }
  __device__ float *logits(u32 v) const { return floats(p.at_logits, p.levels, v); }

  __device__ float *floats(u32 at, u32 width, u32 v) const { return (float *)(work + at) + v * width; }

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

// The scale of a vector of bytes.
__device__ inline float scale_of(const uint4 *vector, const Vector &shape) {
#if defined(WAVENET_INT8)
  return __uint_as_float(vector[shape.units - 1].x);
#else
  return 1.0f;
#endif
}

// Which row of a matrix and which voices a team works on. All lanes of a warp run as often as each other,
// because their sums meet; those beyond the last item repeat it and keep nothing.
template <int V, int TEAM>
struct Items {
  u32 rows, count, item;

  __device__ Items(const Params &p, u32 rows_) : rows(rows_), count(rows_ * (p.voices / V)), item(threadIdx.x / TEAM) {}
  __device__ bool more() const { return item - threadIdx.x / TEAM < count; }
  __device__ void next() { item += blockDim.x / TEAM; }
  __device__ u32 clamped() const { return item < count ? item : count - 1; }
  __device__ u32 row() const { return clamped() % rows; }
  __device__ u32 voice() const { return clamped() / rows * V; }
  // Whether this lane writes what the team has found.
  __device__ bool keeps() const { return item < count && threadIdx.x % TEAM == 0; }
};

#if defined(WAVENET_INT8)
// Turns floats into a vector of bytes, by one warp: the largest magnitude becomes `most`, 127, or 255 after
// a relu, when bytes stand for themselves less 128.
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
  const float largest = __uint_as_float(bits), most = is_rectified ? 255.0f : 127.0f;
  const bool is_usable = largest >= 1e-30f && largest <= 3.40282347e38f;
  const float factor = is_usable ? most / largest : 0.0f;
#pragma unroll 1
  for (u32 word = lane; word * 4 < shape.channels; word += 32) {
    u32 packed = 0;
    for (u32 i = 0; i < 4 && word * 4 + i < shape.channels; ++i) {
      float value = from[word * 4 + i];
      value = is_rectified ? relu_(value) : value;
      u32 byte = __float_as_uint(value * factor + ROUND) & 0xffu;
      packed |= (is_rectified ? byte ^ 0x80u : byte) << (8 * i);
    }
    ((u32 *)vector)[word] = packed;
  }
  if (lane == 0) vector[shape.units - 1].x = __float_as_uint((is_usable ? largest : 0.0f) / most);
}
#endif

// Looks which voices have a sample to make, and waits a bounded while for goals to rise where none has. False
// when the slice is over; thread 0 knows when it began.
__device__ inline bool begin_sample(const Block &b, long long began) {
  if (threadIdx.x < 32) {
    bool is_any, is_waiting;
    u32 turns = 0;
    do {
      bool is_mine = false, may_come = false;
#pragma unroll 1
      for (u32 v = threadIdx.x; v < b.p.voices; v += 32) {
        Voice &voice = b.voice(v);
        if (!b.exists(v)) continue;
        if (voice.done == voice.goal && !voice.is_last) {
          const u32 goal = *(volatile u32 *)&b.p.mail[b.order(v)].goal;
          voice.goal = goal & ~LAST;
          voice.is_last = goal & LAST;
          // What the host wrote before it is read after it.
          __threadfence_system();
        }
        voice.is_active = voice.done < voice.goal;
        is_mine = is_mine || voice.is_active;
        may_come = may_come || !voice.is_last;
      }
      is_any = __any_sync(ALL, is_mine);
      is_waiting = !is_any && __any_sync(ALL, may_come);
      ++turns;
    } while (is_waiting && turns < b.p.most_turns);
    if (threadIdx.x == 0) b.go() = is_any && (u64)(clock64() - began) < b.p.most_cycles;
  }
  __syncthreads();
  return b.go();
}

// A number that the host may have written while the kernel ran: no cache keeps it.
__device__ inline float fresh(const float *from) {
#ifdef __CUDACC_RTC__
  float value;
  asm volatile("ld.relaxed.sys.global.f32 %0, [%1];" : "=f"(value) : "l"(from));
  return value;
#else
  return *(const volatile float *)from;
#endif
}

// Vectors of a voice that shall be fetched now: none while some are left.
__device__ inline u32 to_fetch(const Block &b, u32 v) {
  const Voice &voice = b.voice(v);
  if (!b.exists(v) || !voice.is_active || voice.done < voice.told) return 0;
  const u32 left = voice.goal - voice.done;
  return left < b.p.told_rows ? left : b.p.told_rows;
}

// Fetches conditioning vectors from the host's memory, many at once.
__device__ inline void fetch(const Block &b) {
  const Params &p = b.p;
  const u32 h = p.conditioning_vector.channels;
  bool is_any = false;
#pragma unroll 1
  for (u32 v = 0; v < p.voices; ++v) {
    const u32 rows = to_fetch(b, v);
    is_any = is_any || rows > 0;
    const u64 ring = (u64)b.order(v) * (p.conditioning_mask + 1);
#pragma unroll 4
    for (u32 i = threadIdx.x; i < rows * h; i += blockDim.x) {
      const u32 slot = ((u32)b.voice(v).made + i / h) & p.conditioning_mask;
      b.told(v, b.voice(v).done + i / h)[i % h] = fresh(p.conditioning + (ring + slot) * h + i % h);
    }
  }
  if (!is_any) return;
  __syncthreads();
  // A vector that never changes is fetched once.
#pragma unroll 1
  for (u32 v = threadIdx.x; v < p.voices; v += blockDim.x)
    if (const u32 rows = to_fetch(b, v)) b.voice(v).told = p.conditioning_mask ? b.voice(v).done + rows : ~0u;
}

__device__ inline void hear(const Block &b) {
  const Params &p = b.p;
  const u32 h = p.conditioning_vector.channels, r = p.residual.channels;
  if (h > 0) fetch(b);
#pragma unroll 1
  for (u32 v = threadIdx.x / 32; v < p.voices && h > 0; v += blockDim.x / 32) {
    if (!b.exists(v)) continue;
    const float *from = b.told(v, b.voice(v).done);
#if defined(WAVENET_INT8)
    quantise(from, p.conditioning_vector, false, b.h(v));
#else
    for (u32 i = threadIdx.x & 31; i < h; i += 32) ((float *)b.h(v))[place(p.conditioning_vector, i)] = from[i];
#endif
  }
#pragma unroll 1
  for (u32 i = threadIdx.x; i < p.voices * r; i += blockDim.x)
    b.x(0)[i] = p.floats[p.embedding + b.voice(i / r).code * r + i % r];
}

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

// Tells the host how far a voice is.
__device__ inline void publish(const Block &b, u32 v) {
  __threadfence_system();
  *(volatile u32 *)&b.p.mail[b.order(v)].done = b.voice(v).done;
}

// Draws the next code of each voice, by a warp a voice, and goes on to the next sample.
__device__ inline void choose(const Block &b) {
  const Params &p = b.p;
#pragma unroll 1
  for (u32 v = threadIdx.x / 32; v < p.voices; v += blockDim.x / 32) {
    Voice &voice = b.voice(v);
    if (!voice.is_active) continue;
    const u32 lane = threadIdx.x & 31;
    if (p.logits)
#pragma unroll 1
      for (u32 i = lane; i < p.levels; i += 32) p.logits[(u64)b.order(v) * p.levels + i] = b.logits(v)[i];
    const u32 drawn = draw(voice.key, voice.stream, voice.made);
    const u32 code = pick(b.logits(v), p.levels, voice.temperature, voice.share, drawn);
    __syncwarp();
    if (lane > 0) continue;
    b.codes(v)[(u32)voice.made & p.rings[0].y] = (u8)voice.code;
    p.codes[(u64)b.order(v) * (p.codes_mask + 1) + ((u32)voice.made & p.codes_mask)] = (u8)code;
    voice.code = code;
    ++voice.made;
    ++voice.done;
    if (voice.done == voice.goal || voice.done % 32 == 0) publish(b, v);
  }
  __syncthreads();
}

// All of a slice. V voices share a thread's weights; TEAM lanes share a row where a sample waits for it.
template <int V, int TEAM>
__device__ inline void play(const Params &p) {
#ifdef __CUDACC_RTC__
  extern __shared__ uint4 shared[];
#endif
  const u32 tid = threadIdx.x, threads = blockDim.x;
  const long long began = tid == 0 ? clock64() : 0;
  uint4 *work = p.work_is_shared ? shared : p.scratch + (u64)blockIdx.x * p.work_units;
  uint4 *resident = p.work_is_shared ? shared + p.work_units : shared;
#pragma unroll 1
  for (u32 i = tid; i < p.work_units; i += threads) work[i] = make_uint4(0, 0, 0, 0);
#pragma unroll 1
  for (u32 i = tid; i < p.resident_units; i += threads) resident[i] = p.weights[i];
  __syncthreads();
  const Block b = {p, work, resident};
#pragma unroll 1
  for (u32 v = tid; v < p.voices; v += threads)
    if (b.exists(v)) b.voice(v) = p.orders[b.order(v)];
  __syncthreads();

  while (begin_sample(b, began)) {
    hear(b);
    __syncthreads();
    ahead<V>(b);
    __syncthreads();
#pragma unroll 1
  for (u32 layer = 0; layer < p.layers; ++layer) {
      gate<V, TEAM>(b, layer);
      __syncthreads();
      if (layer + 1 == p.layers) break;
      residual<V, TEAM>(b, layer);
      __syncthreads();
    }
    skips<V, TEAM>(b);
    head<V, TEAM>(b, p.end1, p.end1_bias, b.skip_input(0), p.skip, [&](u32 v, u32 row, float sum) {
      keep(sum, row, b.hidden(v), b.hidden_input(v), p.end);
    });
    rectify(b, b.hidden(0), b.hidden_input(0), p.end);
    head<V, TEAM>(b, p.end2, p.end2_bias, b.hidden_input(0), p.end,
                  [&](u32 v, u32 row, float sum) { b.logits(v)[row] = sum; });
    __syncthreads();
    choose(b);
  }
#pragma unroll 1
  for (u32 v = tid; v < p.voices; v += threads)
    if (b.exists(v)) publish(b, v);
}

// Threads of a block, at most.
#define THREADS 512

extern "C" __global__ void __launch_bounds__(THREADS, 1) wavenet_solo(const __grid_constant__ Params p) { play<1, 4>(p); }

extern "C" __global__ void __launch_bounds__(THREADS, 1) wavenet_choir(const __grid_constant__ Params p) { play<4, 1>(p); }
