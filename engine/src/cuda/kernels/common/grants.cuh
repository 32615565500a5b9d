// What the host link of a cluster tells the other blocks: that a sample may be made, its draw, and its conditioning
// vector; and what it keeps itself.
#pragma once
#include "common/cluster.cuh"
#include "common/host_link.cuh"

// Grants that may be under way; the host link is half as many samples ahead, at most. Units of a conditioning vector.
constexpr u32 GRANTS = 16, GRANTED_VECTOR = 16;

// Whether a sample may be made, its draw, and its conditioning vector.
constexpr u32 GO = 1, STOP = 2;
struct Grant {
  uint4 word;
  uint4 h[GRANTED_VECTOR];
};
// The memory of every block begins with them.
struct Grants {
  Grant grants[GRANTS];
  Mbarrier grant_barriers[GRANTS];
};

// Codes and draws that are kept by the host link: a power of two.
constexpr u32 KEPT = 64;
// A code lies in the low byte, above it how many samples were made with it.
struct HostLinkMemory : Grants {
  u32 draws[KEPT], codes[KEPT];
};

// Only chains hear the vector.
template <typename B>
__device__ inline u32 bytes_of_grant(const B &d, u32 rank) {
  return 16 + (rank < d.chains() ? 16 * d.units_of_h() : 0);
}

// By one thread, before the cluster meets.
template <typename B>
__device__ inline void prepare_grants(const B &d) {
  if (d.rank >= d.host_link_rank()) return;
  for (u32 place = 0; place < GRANTS; ++place) {
    mbarrier_init(d.grants().grant_barriers[place], 1);
    mbarrier_expect(d.grants().grant_barriers[place], bytes_of_grant(d, d.rank));
  }
}

// Waits until it is known whether a sample may be made. The first thread lets the next grant in the same place come.
template <typename B>
__device__ inline bool wait_for_grant(const B &d, u32 sample) {
  Grants &all = d.grants();
  const u32 place = sample % GRANTS;
  mbarrier_wait(all.grant_barriers[place], sample / GRANTS & 1);
  const bool may_go = all.grants[place].word.x == GO;
  __syncwarp();
  if (threadIdx.x == 0) mbarrier_expect(all.grant_barriers[place], bytes_of_grant(d, d.rank));
  return may_go;
}

// What the host link works with (host_link.cuh), of a block that says how a vector lies in a grant.
template <typename B>
struct ClusterHostLink : B {
  static constexpr u32 AHEAD_OF_MADE = GRANTS / 2;
  // Where it stops, that takes a place too, and no sample's that may still be made.
  static_assert(AHEAD_OF_MADE < GRANTS && AHEAD_OF_MADE < KEPT, "places");

  __device__ u32 &draw(u32 sample) const { return this->host_link().draws[sample % KEPT]; }
  __device__ u32 code(u32 sample) const { return load_volatile(this->host_link().codes[sample % KEPT]); }
  // Not fewer than before.
  __device__ u32 made(u32 before) const {
    while (load_volatile(this->host_link().codes[before % KEPT]) >> 8 == before + 1) ++before;
    return before;
  }

  // In this block's own grant of the sample, from which it goes to the chains.
  template <u32 N>
  __device__ void keep_vector(u32 sample, const float (&channels)[N]) const {
    this->keep_in(this->host_link().grants[sample % GRANTS].h, channels);
  }

  // To every other block.
  __device__ void send_to_all(u32 sample, u32 word) const {
    const u32 lane = threadIdx.x & 31, units = this->units_of_h();
    Grant &own = this->host_link().grants[sample % GRANTS];
    const uint4 unit = lane > 0 && lane <= units ? own.h[lane - 1] : make_uint4(word, draw(sample), 0, 0);
    uint4 *to = lane > 0 ? &own.h[lane - 1] : &own.word;
#pragma unroll 1
    for (u32 rank = 0; rank < this->host_link_rank(); ++rank)
      if (lane <= (rank < this->chains() ? units : 0))
        send_async(address_in_block(rank, to), unit,
                   address_in_block(rank, &this->host_link().grant_barriers[sample % GRANTS]));
  }
  __device__ void grant(u32 first, u32 count) const {
#pragma unroll 1
    for (u32 sample = first; sample < first + count; ++sample) send_to_all(sample, GO);
  }
  __device__ void stop(u32 first) const { send_to_all(first, STOP); }
};
