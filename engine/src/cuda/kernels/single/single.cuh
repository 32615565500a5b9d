// The single-stream kernel: one voice, as fast as a multiprocessor can. It is specialised by warps; here is what they
// share, and how they wait for each other.
//
// A voice that plays alone is a chain of dependent steps; nothing of it is heavy, all of it waits. So every warp of
// the block has one part of the work for as long as the slice lasts, and keeps what it needs in registers:
//
//   chain       single/chain.cuh      layer after layer: present tap, gate, residual. Nothing else is on its way
//   ahead       single/ahead.cuh      bias, past taps and conditioning of the next sample, close behind the chain
//   head        single/head.cuh       skips while the layers run, then the first product of the end
//   end         single/end.cuh        chain and ahead again: the second product, and the choice of the code
//   host link   common/host_link.cuh  goals, conditioning vectors, draws and codes: all between host and block
//   loader      single/loader.cuh     the chain's weights, where not all of them fit into shared memory
//
// They tell each other how far they are through counters in shared memory, which only rise, and wait at named
// barriers where all of a group must be there. The products are the matrix units' with one vector in all columns
// of the second factor: seven eighths of the work are for nothing, and still it is the shortest way.
//
// Every sum has the order of the numeric contract; those of bytes are exact in any.
#pragma once
#include "common/hear.cuh"
#include "common/single_vector.cuh"
#include "common/synchronization.cuh"

// The shape of a model, which the compiler must know to keep weights in registers: channels of the residual stream
// and of the gated units, of the skips, and of the end.
template <u32 R_, u32 S_, u32 A_>
struct SingleShape {
  static constexpr u32 R = R_, S = S_, A = A_, LEVELS = 256;
  static constexpr u32 VECTOR = 4;  // units of R bytes, padded
  static constexpr u32 R_PARTS = R / 32, S_PARTS = S / 32, A_PARTS = A / 32, TILES = R / 16;
  // Warps.
  static constexpr u32 CHAIN = R / 32, AHEAD = 3 * R / 32, HEAD = (S > A ? S : A) / 32, END = CHAIN + AHEAD;
  static constexpr u32 FIRST_AHEAD = CHAIN, FIRST_HEAD = CHAIN + AHEAD;
  static constexpr u32 HOST_LINK = FIRST_HEAD + HEAD, LOADER = HOST_LINK + 1;
  static constexpr u32 BLOCK = 32 * (LOADER + 1);
  // The chain's weights of one layer, in units: the present tap, the residual, and their scales and biases.
  static constexpr u32 TAP = TILES * 2 * R_PARTS * 32, RESIDUAL = TILES * R_PARTS * 32, PACKET = TAP + RESIDUAL + R;
};

// Samples that may be granted before they are made, and that are kept for the host link. Powers of two.
constexpr u32 WINDOW = 16, KEPT = 64;
// Named barriers: of the chain, of the head, of all that make the end, of those that choose.
constexpr u32 CHAIN_BARRIER = 1, HEAD_BARRIER = 2, END_BARRIER = 3, MAXIMA_BARRIER = 4, WEIGHTS_BARRIER = 5;

// How far everyone is, in samples of this slice unless said otherwise. They only rise.
struct Counters {
  u32 granted;    // the host link: may be made, and what they need is there
  u32 stop;       // the host link: the last are granted; all ones before
  u32 passed;     // the chain: layers whose gated units are there, of all samples
  u32 made;       // the chain: codes
  u32 loaded;     // the loader: packets
  u32 summed[6];  // each warp of those ahead
  u32 hidden_scale;
  u32 heard;      // the chain: the code that it hears now
  u32 rest[3];
};

// One block, its shared memory, and the voice that it plays.
template <typename S>
struct SingleBlock {
  const Params &p;
  const SingleArgs &args;
  uint4 *work;

  __device__ Counters &counters() const { return *(Counters *)work; }
  __device__ Voice &voice() const { return *(Voice *)(work + args.at_voice); }
  __device__ uint4 ring(u32 layer) const { return work[args.at_rings + layer]; }
  // The gated units of a layer.
  __device__ uint4 *units(u32 layer) const { return work + args.at_units + layer * S::VECTOR; }
  // What is summed ahead for a layer, filter and gate of each unit.
  __device__ float2 *ahead(u32 layer) const { return (float2 *)(work + args.at_ahead) + layer * S::R; }
  // The conditioning vector of a sample.
  __device__ uint4 *h(u32 sample) const {
    return work + args.at_h + (sample & (WINDOW - 1)) * p.conditioning_vector.units;
  }
  // The residual stream before a layer, bytes and their scale: of this sample as far as the chain has come, else of the
  // one before. So the first warp of the chain keeps it; each other one has its own, always in the same place.
  __device__ uint4 *latest(u32 layer) const { return work + args.at_latest + layer * (S::VECTOR + 1); }
  __device__ uint4 *x(u32 warp, u32 layer) const {
    return warp == 0 ? latest(layer) : work + args.at_x + (warp - 1) * S::VECTOR;
  }
  __device__ uint4 *skip_input() const { return work + args.at_skip_input; }
  __device__ uint4 *hidden_input() const { return work + args.at_hidden_input; }
  // The largest of each warp: of the skips, of the hidden channels, of the logits; eight each.
  __device__ u32 *maxima(u32 which) const { return (u32 *)(work + args.at_maxima) + 8 * which; }
  __device__ float *logits() const { return (float *)(work + args.at_logits); }
  __device__ u32 *weights() const { return (u32 *)(work + args.at_weights); }
  __device__ u32 *nucleus(u32 warp) const { return (u32 *)(work + args.at_nucleus) + warp * S::LEVELS; }
  __device__ u32 &draw(u32 sample) const { return ((u32 *)(work + args.at_draws))[sample & (KEPT - 1)]; }
  __device__ u32 &code(u32 sample) const { return ((u32 *)(work + args.at_codes))[sample & (KEPT - 1)]; }
  __device__ uint4 *end2() const { return work + args.at_end2; }

  // What the voice remembers.
  __device__ uint4 *lane() const { return p.lanes + (u64)voice().lane * p.lane_units; }
  __device__ uint4 *row(u32 layer, u32 time) const {
    const uint4 ring = this->ring(layer);
    return lane() + ring.x + (time & ring.y) * p.residual.units;
  }

  // Packets of layers beyond the resident ones, counted through all samples; and where one is.
  __device__ u32 streamed(u32 sample, u32 layer) const {
    return sample * (p.layers - args.resident) + layer - args.resident;
  }
  __device__ uint4 *slot(u32 streamed) const {
    return work + args.at_packets + (args.resident + (streamed & (args.slots - 1))) * S::PACKET;
  }
  // The chain's weights of a layer, once they are there.
  __device__ const uint4 *packet(u32 sample, u32 layer) const {
    if (layer < args.resident) return work + args.at_packets + layer * S::PACKET;
    const u32 index = streamed(sample, layer);
    spin_until_at_least(counters().loaded, index + 1);
    return slot(index);
  }

  // What the host link needs.
  static constexpr u32 AHEAD_OF_MADE = WINDOW;
  __device__ u32 order() const { return blockIdx.x; }
  __device__ u32 made(u32) const { return load_volatile(counters().made); }
  __device__ void grant(u32 first, u32 count) const {
    if ((threadIdx.x & 31) == 0) store_volatile(counters().granted, first + count);
  }
  __device__ void stop(u32 first) const {
    if ((threadIdx.x & 31) == 0) store_volatile(counters().stop, first);
  }
  // Makes bytes of a conditioning vector.
  template <u32 N>
  __device__ void keep_vector(u32 sample, const float (&channels)[N]) const {
    pack_vector(p.conditioning_vector, channels, h(sample));
  }

  // Waits until a sample may be made; false when it will not be in this slice.
  __device__ bool wait_for_grant(u32 sample) const {
    bool is_granted = false;
    spin_until([&] {
      is_granted = (int)(load_volatile(counters().granted) - sample) > 0;
      // What was granted last is read again: it may have risen before the end was told.
      return is_granted || load_volatile(counters().stop) != ~0u;
    });
    return is_granted || (int)(load_volatile(counters().granted) - sample) > 0;
  }
};
