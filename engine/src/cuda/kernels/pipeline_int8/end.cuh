// The end of an int8 pipeline: all skips, after a relu; the hidden channels; logits, and the choice of the code
// (`sampling.cuh` has the rule). A warp has 16 rows of each product, two neighbours in each group of four lanes, and
// the weights of the last two stay in its registers.
#pragma once
#include "pipeline_int8/skips.cuh"

// Scales, biases and corrections of two neighbouring rows.
struct RowPair {
  float2 scale, bias;
  int2 correction;

  __device__ RowPair(const Params &p, const Matrices &matrix, u32 biases, u32 row) {
    const float *scales = p.floats + matrix.scales + row, *from = p.floats + biases + row;
    scale = make_float2(scales[0], scales[1]);
    bias = make_float2(from[0], from[1]);
    correction = make_int2(0, 0);
    if (matrix.corrections == 0) return;
    const float *bits = p.floats + matrix.corrections + row;
    correction = make_int2((int)__float_as_uint(bits[0]), (int)__float_as_uint(bits[1]));
  }
  __device__ float2 finish(int low, int high, float of_vector) const {
    return make_float2(onto(bias.x, low + correction.x, scale.x, of_vector),
                       onto(bias.y, high + correction.y, scale.y, of_vector));
  }
};

template <typename M>
struct Int8End : Int8Skips<M> {
  using Int8Skips<M>::d;
  using Int8Skips<M>::warp;
  using Int8Skips<M>::lane;
  using Int8Skips<M>::row;

  __device__ explicit Int8End(const Int8Block<M> &block) : Int8Skips<M>(block) {}

  __device__ void meet() const { named_barrier_sync(END_BARRIER, M::BLOCK); }

  // The largest of what all warps tell.
  __device__ u32 largest_of_all(u32 which, u32 value) const {
    u32 *maxima = d.end().maxima[which];
    value = largest_of_warp(value);
    if (lane == 0) maxima[warp] = value;
    meet();
    return largest_of_warp(maxima[lane % M::WARPS]);
  }

  // Turns two floats of each thread, after a relu, into bytes less 128 of a vector; gives its scale.
  __device__ float quantise(u32 which, float2 values, uint4 *vector) const {
    const float low = relu_(values.x), high = relu_(values.y);
    const Scale scaled(largest_of_all(which, __float_as_uint(low > high ? low : high)), 255.0f);
    const u32 two = (scaled.byte(low) | scaled.byte(high) << 8) ^ 0x8080u;
    if ((lane & 3) == 0) ((unsigned short *)vector)[row / 2] = (unsigned short)two;
    meet();
    return scaled.scale;
  }

  // The sums of all layers' skips.
  __device__ int2 all_skips(u32 sample) const {
    EndMemory<M> &m = d.end();
    const u32 half = sample & 1, blocks = d.args.skip_blocks;
    int2 all = this->sum(sample);
    if (blocks == 0) return all;
    mbarrier_wait(m.sums_barriers[half], sample >> 1 & 1);
#pragma unroll 1
    for (u32 from = 0; from < blocks; ++from) {
      const int2 early = *(const int2 *)&m.sums[half][from][row];
      all = make_int2(all.x + early.x, all.y + early.y);
    }
    __syncwarp();
    if (threadIdx.x == 0) mbarrier_expect(m.sums_barriers[half], blocks * 4 * M::S);
    return all;
  }

  __device__ void run() const {
    const Params &p = d.p;
    EndMemory<M> &m = d.end();
    const RowPair of_skips(p, p.skips, p.skip_bias, row), of_hidden(p, p.end1, p.end1_bias, row),
        of_logits(p, p.end2, p.end2_bias, row);
    Rows16<1, M::S_PARTS> end1;
    end1.load(p.weights + d.args.end1 + warp * M::S_PARTS * 32);
    Rows16<1, M::A_PARTS> end2;
    end2.load(p.weights + d.args.end2 + warp * M::A_PARTS * 32);
    const float temperature = d.voice().temperature;
    u32 code = d.voice().code;
#pragma unroll 1
    for (u32 sample = 0;; ++sample) {
      const u32 half = sample & 1;
      // At once: whether it may be heard is known there too.
      if (threadIdx.x == 0)
        send_async(address_in_block(0, &d.chain().code[half]), code,
                   address_in_block(0, &d.chain().code_barriers[half]));
      if (!wait_for_grant(d, sample)) return;
      const u32 drawn = m.grants[sample % GRANTS].word.y;
      const int2 skips = all_skips(sample);
      const float of_skip = quantise(0, of_skips.finish(skips.x, skips.y, 1.0f), m.skips);
      int sums[1][4] = {};
      end1.multiply(m.skips, sums);
      const float of_end = quantise(1, of_hidden.finish(sums[0][0], sums[0][2], of_skip), m.hidden);
      int of_codes[1][4] = {};
      end2.multiply(m.hidden, of_codes);
      const float2 logits = of_logits.finish(of_codes[0][0], of_codes[0][2], of_end);
      if ((lane & 3) == 0) *(float2 *)&m.logits[row] = logits;
      if ((lane & 3) == 0 && p.logits) {
        p.logits[(u64)d.order() * M::LEVELS + row] = logits.x;
        p.logits[(u64)d.order() * M::LEVELS + row + 1] = logits.y;
      }
      const u32 low = order_of(logits.x), high = order_of(logits.y);
      const u32 largest = largest_of_all(2, low > high ? low : high);
      const float max = of_order(largest);
      // Of the four lanes that have both, one weighs each.
      if ((lane & 3) < 2 && !is_greedy(temperature, max))
        m.weights[row + (lane & 3)] = weight_of(lane & 3 ? logits.y : logits.x, max, temperature);
      meet();
      if (warp > 0) continue;
      code = chosen_of_256(temperature, d.voice().share, m.logits, m.weights, m.nucleus, drawn, largest);
      if (lane == 0)
        store_remote(address_in_block(d.host_link_rank(), &d.host_link().codes[sample % KEPT]),
                     (sample + 1) << 8 | code);
    }
  }
};
