// One voice, whose layers are a pipeline over the thread blocks of a cluster, in int8: the numbers of the numeric
// contract, so the codes are the processor's, byte for byte. Every block has some layers for good, and their weights
// stay in its shared memory; what is handed on is a vector with its barrier. The blocks, in the order of their ranks:
//
//   chains       chain.cuh   some layers each: residual, scale, present tap, gate; once the voice has gone on, bias,
//                            past taps and conditioning of the next sample
//   skip blocks  skips.cuh   the skips of the first layers, where the end has no room for all: sums of integers
//   the end      end.cuh     the skips of the last layers, the two products of the head, and the choice of the code
//   host link    grants.cuh  goals, conditioning vectors, draws and codes: all between host and cluster
//
// The blocks differ from those of the bf16 pipeline (pipeline_bf16/pipeline_bf16.cuh) in what a vector needs before a
// product: a scale, so a maximum over all of its channels. It is found within a block, which is why a layer is never
// shared by two.
//
// What blocks tell each other lies in memory that has a place for this sample and one for the next: nobody can be two
// samples late, for every sample needs the whole way of the one before.
#pragma once
#include "common/cluster.cuh"
#include "common/grants.cuh"
#include "common/single_vector.cuh"

// A model's shape, and how many layers a chain's block and one that sums skips have.
template <u32 R_, u32 S_, u32 A_, u32 LAYERS_, u32 SKIPS_>
struct Int8Shape {
  static constexpr u32 R = R_, S = S_, A = A_, LEVELS = 256, LAYERS = LAYERS_, SKIPS = SKIPS_;
  static constexpr u32 PARTS = R / 32, S_PARTS = S / 32, A_PARTS = A / 32, VECTOR = R / 16;
  // Warps: of a chain, 16 units and 16 channels each; of the other blocks, 16 rows each.
  static constexpr u32 CHAIN = R / 16, WARPS = 16, BLOCK = 32 * WARPS;
  static_assert(R >= 64 && CHAIN <= WARPS, "units of a chain's warp");
  static_assert(S == 16 * WARPS && A == 16 * WARPS && LEVELS == 16 * WARPS, "rows of a warp");
  // Units of a layer's weights: the present tap, as many for each past tap, the residual; scales and biases of both;
  // and of its skips.
  static constexpr u32 TAP = CHAIN * 2 * PARTS * 32, RESIDUAL = CHAIN * PARTS * 32, PACKET = TAP + RESIDUAL + R;
  static constexpr u32 SKIP = WARPS * PARTS * 32;
};

// Blocks that only sum skips; bytes of what is told: the twins of pipeline_int8.rs.
constexpr u32 MOST_SKIP_BLOCKS = 4, WORKING_BYTES = 20 << 10;
// Named barriers.
constexpr u32 CHAIN_BARRIER = 1, END_BARRIER = 2;

// What a block of a chain is told, and its warps each other. Place 0 of `z` is what its first layer's residual hears,
// place l + 1 the gated units of its own layer l; of `ahead` place 0 is layer 0 of the model.
template <typename M>
struct ChainMemory : Grants {
  float x[2][M::R];             // the residual stream, from the block before
  uint4 z_before[2][M::VECTOR];  // gated units, from there too
  uint4 z[M::LAYERS + 1][M::VECTOR];
  uint4 inputs[M::LAYERS][M::VECTOR + 1];  // bytes of the residual stream before each layer, and their scale
  float2 ahead[M::LAYERS + 1][M::R];
  uint4 maxima[M::CHAIN / 4];
  u32 code[2];
  Mbarrier before_barriers[2], code_barriers[2];
};

// The same of a block that sums skips, or of the end.
template <typename M>
struct EndMemory : Grants {
  uint4 z[2][M::SKIPS][M::VECTOR];
  int sums[2][MOST_SKIP_BLOCKS][M::S];
  uint4 skips[M::S / 16], hidden[M::A / 16];  // bytes, less 128
  u32 maxima[3][M::WARPS];
  float logits[M::LEVELS];
  u32 weights[M::LEVELS], nucleus[M::LEVELS];
  Mbarrier z_barriers[2][M::SKIPS], sums_barriers[2];
};

// One block, as its threads see it.
template <typename M>
struct Int8Block {
  static_assert(sizeof(ChainMemory<M>) <= WORKING_BYTES && sizeof(EndMemory<M>) <= WORKING_BYTES, "memory");
  const Params &p;
  const PipelineInt8Args &args;
  uint4 *work;
  u32 rank;

  __device__ ChainMemory<M> &chain() const { return *(ChainMemory<M> *)work; }
  __device__ EndMemory<M> &end() const { return *(EndMemory<M> *)work; }
  __device__ Grants &grants() const { return *(Grants *)work; }
  __device__ HostLinkMemory &host_link() const { return *(HostLinkMemory *)work; }
  __device__ uint4 *weights() const { return work + WORKING_BYTES / 16; }
  __device__ u32 order() const { return blockIdx.x / args.blocks; }
  __device__ const Voice &voice() const { return p.orders[order()]; }

  // Ranks.
  __device__ u32 chains() const { return args.chains; }
  __device__ u32 end_rank() const { return args.chains + args.skip_blocks; }
  __device__ u32 host_link_rank() const { return end_rank() + 1; }
  __device__ bool is_chain() const { return rank < args.chains; }
  __device__ bool is_end() const { return rank == end_rank(); }
  __device__ bool sums_skips() const { return !is_chain() && rank <= end_rank(); }
  __device__ bool is_host_link() const { return rank == host_link_rank(); }

  // Layers of a chain's block: its first, counted from 1 on, and how many.
  __device__ u32 first_layer() const { return 1 + rank * M::LAYERS; }
  __device__ u32 layers() const {
    const u32 left = p.layers - first_layer();
    return left < M::LAYERS ? left : M::LAYERS;
  }
  // Who sums the skips of a layer, and in which place.
  __device__ u32 skip_rank_of(u32 layer) const {
    return layer < args.early ? args.chains + layer / M::SKIPS : end_rank();
  }
  __device__ u32 skip_place_of(u32 layer) const {
    return layer < args.early ? layer % M::SKIPS : layer - args.early;
  }
  // The layers whose skips this block sums.
  __device__ u32 first_skip() const { return is_end() ? args.early : (rank - args.chains) * M::SKIPS; }
  __device__ u32 skips() const {
    const u32 left = (is_end() ? p.layers : args.early) - first_skip();
    return left < M::SKIPS ? left : M::SKIPS;
  }

  // Units of a conditioning vector in a grant, which only chains hear.
  __device__ u32 units_of_h() const { return p.conditioning_vector.units; }
  template <u32 N>
  __device__ void keep_in(uint4 *vector, const float (&channels)[N]) const {
    pack_vector(p.conditioning_vector, channels, vector);
  }
};
