// One voice on the blocks of a cluster, which are a pipeline of its layers: the fast mode, whose bytes are not the
// processor's.
//
// Every block has some layers for good, so its weights stay on its multiprocessor, in registers and shared memory, but
// for those of a layer or two of the first block, which looks codes up too: they come while the sample is in other
// blocks. And a layer is one product on the sample's critical path, where the exact kernels have two, the residual and
// the next present tap. With C the present tap of a layer, W the residual before it, x what that one heard and z its
// gated units:
//
//   C (x + W z + b) = C x + (C W) z + C b
//
// C W is computed ahead, C x while the gate before is computed, and x + W z + b, which only the layers after that
// hear, beside it. Products are of bf16 on the matrix units, sums and the residual stream are floats, tanh is the
// card's. The blocks, in the order of their ranks, and what their warps do:
//
//   chains       chain.cuh   gates: C x, then (C W) z and the gate; streams: x + W z + b
//                ahead.cuh   bias, past taps and conditioning of the next sample
//   skip blocks  skips.cuh   the skips of the first layers, where the ends cannot hold the weights of all
//   two ends     end.cuh     the skips of the last layers; then half of the hidden channels, and what these bring to
//                            the logits. Both sum the same skips: sending them on takes longer
//   the head     choice.cuh  logits, and the choice of the code
//   host link    grants.cuh  goals, conditioning vectors, draws and codes: all between host and cluster
//
// What they send each other is double-buffered: there is a place for this sample and one for the next, each with its
// barrier. No block can be two samples late, for every sample needs all blocks to have finished the one before.
#pragma once
#include "common/cluster.cuh"
#include "common/grants.cuh"
#include "common/hear.cuh"
#include "common/sampling.cuh"

// A model's shape, and how many layers a block of a chain and one that sums skips have.
template <u32 R_, u32 S_, u32 A_, u32 LAYERS_, u32 SKIPS_>
struct Bf16Shape {
  static constexpr u32 R = R_, S = S_, A = A_, LEVELS = 256, LAYERS = LAYERS_, SKIPS = SKIPS_;
  static constexpr u32 PARTS = R / 32, S_PARTS = S / 32;
  // Warps, a tile of 16 rows each; those ahead have two.
  static constexpr u32 GATES = R / 8, STREAMS = R / 16, AHEADS = R / 16;
  static constexpr u32 WARPS = 16, BLOCK = 32 * WARPS, SKIP_WARPS = S / 16;
  // Of an end: those that have hidden channels, and those that have codes, so many tiles each.
  static constexpr u32 HIDDEN = A / 2, HIDDEN_WARPS = HIDDEN / 16, HIDDEN_PARTS = HIDDEN / 32;
  static constexpr u32 FIRST_CODES = WARPS / 2, CODE_TILES = LEVELS / 16 / (WARPS - FIRST_CODES);
  static_assert(GATES + STREAMS + AHEADS <= WARPS && SKIP_WARPS <= WARPS && HIDDEN_WARPS <= FIRST_CODES, "warps");
  static_assert(LEVELS == 16 * WARPS && CODE_TILES == 2, "codes of a warp");
  // Units of the weights of a tile of a vector of R, and of matrices.
  static constexpr u32 TILE = PARTS * 64, GATE = GATES * TILE, RESIDUAL = STREAMS * TILE, SKIP = SKIP_WARPS * TILE;
};

// Blocks that sum skips alone; bytes of shared memory for what blocks and warps send each other, weights follow: the
// twins of pipeline_bf16.rs.
constexpr u32 MOST_SKIP_BLOCKS = 4, WORKING_BYTES = 24 << 10;
// Named barriers: of the warps ahead, of those of an end when the skips and when the hidden channels are there, of the
// head.
constexpr u32 AHEAD_BARRIER = 1, SKIPS_BARRIER = 2, HIDDEN_BARRIER = 3, HEAD_BARRIER = 4;

// What a block of a chain receives, and what its warps send each other. Place 0 of x and z is for what the block before
// sends: the input of the layer before this block's first, and its gated units. Place l + 1 is of this block's layer l.
template <typename M>
struct ChainMemory : Grants {
  float x[2][M::LAYERS + 1][M::R];
  uint4 x_rounded[2][M::LAYERS + 1][M::R / 8];
  float z[2][M::LAYERS + 1][M::R];
  float2 ahead[2][M::LAYERS + 1][M::R];  // of place 0: layer 0 of the model
  u32 code[2];
  Mbarrier x_barriers[2][M::LAYERS + 1], z_barriers[2][M::LAYERS + 1], ahead_barriers[2], code_barriers[2];
};

// The same of a block that sums skips.
template <typename M>
struct SkipMemory : Grants {
  float z[2][M::SKIPS][M::R];
  float sums[2][MOST_SKIP_BLOCKS][M::S];
  uint4 skips[2][M::S / 8], hidden[2][M::HIDDEN / 8];  // after the relu
  Mbarrier z_barriers[2][M::SKIPS], sums_barriers[2];
};

// The same of the block that chooses.
template <typename M>
struct HeadMemory : Grants {
  float parts[2][2][M::LEVELS];  // what each end brings to the logits
  float logits[M::LEVELS];
  u32 weights[M::LEVELS], nucleus[M::LEVELS];
  u32 maxima[2][M::WARPS];
  Mbarrier parts_barriers[2];
};

// Two floats of bf16, the first lower.
__device__ inline float2 floats_of(u32 both) {
  return make_float2(__uint_as_float(both << 16), __uint_as_float(both & 0xffff0000u));
}
// Two floats as bf16, the first lower.
__device__ inline u32 rounded(float low, float high) {
#ifdef __CUDACC_RTC__
  u32 both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
#else
  return bf16_of(low) | bf16_of(high) << 16;
#endif
}

// One block of the pipeline, as its threads see it.
template <typename M>
struct Bf16Block {
  static_assert(sizeof(ChainMemory<M>) <= WORKING_BYTES, "a chain's memory");
  static_assert(sizeof(SkipMemory<M>) <= WORKING_BYTES && sizeof(HeadMemory<M>) <= WORKING_BYTES, "the others' memory");
  const Params &p;
  const PipelineBf16Args &args;
  uint4 *work;
  u32 rank;

  __device__ ChainMemory<M> &chain() const { return *(ChainMemory<M> *)work; }
  __device__ SkipMemory<M> &skip() const { return *(SkipMemory<M> *)work; }
  __device__ HeadMemory<M> &head() const { return *(HeadMemory<M> *)work; }
  __device__ Grants &grants() const { return *(Grants *)work; }
  __device__ HostLinkMemory &host_link() const { return *(HostLinkMemory *)work; }
  __device__ uint4 *weights() const { return work + WORKING_BYTES / 16; }
  // Of a chain: its packets in shared memory, and how many they are.
  __device__ uint4 *packets() const { return weights() + (rank == 0 ? args.heard_units : 0); }
  __device__ u32 resident() const { return rank == 0 ? args.resident_first : args.resident; }
  // What the first block looks a code up in.
  __device__ const uint4 *heard() const { return args.heard_units ? weights() : p.weights + args.heard; }
  __device__ u32 order() const { return blockIdx.x / args.blocks; }
  __device__ const Voice &voice() const { return p.orders[order()]; }

  // Ranks.
  __device__ u32 chains() const { return args.chains; }
  __device__ u32 end_rank(u32 which) const { return args.chains + args.skip_blocks + which; }
  __device__ u32 head_rank() const { return end_rank(2); }
  __device__ u32 host_link_rank() const { return end_rank(3); }
  __device__ bool is_chain() const { return rank < args.chains; }
  __device__ bool is_end() const { return rank == end_rank(0) || rank == end_rank(1); }
  __device__ bool is_head() const { return rank == head_rank(); }
  __device__ bool is_host_link() const { return rank == host_link_rank(); }
  __device__ bool is_skip_block() const { return !is_chain() && rank < end_rank(0); }

  // Layers of a chain: its first, counted from 1 on, and how many.
  __device__ u32 first_layer() const { return 1 + rank * M::LAYERS; }
  __device__ u32 layers() const {
    const u32 left = p.layers - first_layer();
    return left < M::LAYERS ? left : M::LAYERS;
  }
  // Who sums the skips of a layer, one or, of the last ones, two; and in which place.
  __device__ u32 skip_blocks_of(u32 layer) const { return layer < args.early ? 1 : 2; }
  __device__ u32 skip_block_of(u32 layer, u32 which) const {
    return layer < args.early ? args.chains + layer / M::SKIPS : end_rank(which);
  }
  __device__ u32 skip_place_of(u32 layer) const { return layer < args.early ? layer % M::SKIPS : layer - args.early; }
  // The layers whose skips this block sums.
  __device__ u32 first_skip() const { return is_end() ? args.early : (rank - args.chains) * M::SKIPS; }
  __device__ u32 skips() const {
    const u32 left = (is_end() ? p.layers : args.early) - first_skip();
    return left < M::SKIPS ? left : M::SKIPS;
  }

  // A conditioning vector as it lies in a grant, in bf16: how many units, and its channels lane, lane + 32 ...
  __device__ u32 units_of_h() const { return (p.conditioning_vector.channels + 31) / 32 * 4; }
  template <u32 N>
  __device__ void keep_in(uint4 *vector, const float (&channels)[N]) const {
    const u32 lane = threadIdx.x & 31;
#pragma unroll
    for (u32 i = 0; i < N; ++i) ((unsigned short *)vector)[lane + 32 * i] = (unsigned short)rounded(channels[i], 0.0f);
  }
};

__device__ inline float tanh_of_card(float x) {
#ifdef __CUDACC_RTC__
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return tanh_roughly(x);
#endif
}

// tanh(filter) . sigmoid(gate)
__device__ inline float gated(float filter, float gate) {
  return tanh_of_card(filter) * fma_(tanh_of_card(0.5f * gate), 0.5f, 0.5f);
}

// The lane of a thread, and its warp: asked for once, as the compiler would else ask the special register again and
// again, also where all wait for it.
__device__ inline u32 lane_once() { return __shfl_sync(ALL, threadIdx.x & 31, threadIdx.x & 31); }
__device__ inline u32 warp_once() { return __shfl_sync(ALL, threadIdx.x / 32, threadIdx.x & 31); }

// What a lane brings of a vector in bf16: eight channels that lie together of every 32. Lane t of its group.
template <u32 PARTS>
struct Eights {
  uint4 parts[PARTS];

  __device__ static Eights of(const uint4 *vector, u32 t) {
    Eights all;
#pragma unroll
    for (u32 part = 0; part < PARTS; ++part) all.parts[part] = vector[4 * part + t];
    return all;
  }
  __device__ static Eights of(const float *vector, u32 t) {
    Eights all;
#pragma unroll
    for (u32 part = 0; part < PARTS; ++part) {
      const float4 *eight = (const float4 *)vector + 8 * part + 2 * t, low = eight[0], high = eight[1];
      all.parts[part] = make_uint4(rounded(low.x, low.y), rounded(low.z, low.w), rounded(high.x, high.y),
                                   rounded(high.z, high.w));
    }
    return all;
  }
};

// Sums of a tile's rows: of row g of the lanes of group g, and of row g + 8. Two chains, which wait half as long.
struct Sums {
  float even[4], odd[4];

  __device__ Sums() : even{}, odd{} {}
  __device__ Sums(float low, float high) : even{low, low, high, high}, odd{} {}
  __device__ float low() const { return even[0] + odd[0]; }
  __device__ float high() const { return even[2] + odd[2]; }
};

// 16 rows times one vector in all columns of the second factor: 16 columns of the rows.
__device__ inline void multiply_16(const uint4 &rows, u32 low, u32 high, float *sums) {
#ifdef __CUDACC_RTC__
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(rows.x), "r"(rows.y), "r"(rows.z), "r"(rows.w), "r"(low), "r"(high));
#else
  mma_m16n8k16(rows.x, rows.y, rows.z, rows.w, low, high, sums);
#endif
}

// A tile of 16 rows of weights, as a warp holds it.
template <u32 PARTS>
struct Tile {
  uint4 halves[2 * PARTS];

  __device__ void load(const uint4 *from, u32 lane) {
#pragma unroll
    for (u32 i = 0; i < 2 * PARTS; ++i) halves[i] = from[32 * i + lane];
  }
  template <u32 N>
  __device__ void multiply(const Eights<N> &vector, Sums &sums, u32 first = 0) const {
#pragma unroll
    for (u32 part = 0; part < N; ++part) {
      multiply_16(halves[2 * (first + part)], vector.parts[part].x, vector.parts[part].y, sums.even);
      multiply_16(halves[2 * (first + part) + 1], vector.parts[part].z, vector.parts[part].w, sums.odd);
    }
  }
  // In one chain: for sums that nobody waits for, of half the registers.
  __device__ void multiply(const Eights<PARTS> &vector, float (&sums)[4]) const {
#pragma unroll
    for (u32 part = 0; part < PARTS; ++part) {
      multiply_16(halves[2 * part], vector.parts[part].x, vector.parts[part].y, sums);
      multiply_16(halves[2 * part + 1], vector.parts[part].z, vector.parts[part].w, sums);
    }
  }
  // With a long vector, of which it never holds all.
  __device__ void multiply(const uint4 *vector, u32 t, Sums &sums) const {
    constexpr u32 HELD = PARTS < 4 ? PARTS : 4;
#pragma unroll
    for (u32 first = 0; first < PARTS; first += HELD) {
      multiply(Eights<HELD>::of(vector + 4 * first, t), sums, first);
      compiler_fence();
    }
  }
};
