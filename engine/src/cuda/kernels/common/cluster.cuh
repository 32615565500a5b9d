// The blocks of a cluster: how one writes into another's shared memory, and how that one hears of it.
//
// A bell (NVIDIA's "mbarrier") rings once for each of its phases: when so many have come, or so many bytes. Who waits for
// it can read what they wrote. A word that is sent to another block goes with its bell: no fence is needed.
#pragma once
#include "common/synchronization.cuh"

typedef u64 Bell;

// Where something lies, of this block's shared memory or another's.
typedef u32 Place;

__device__ inline Place place_of(const void *own) {
#ifdef __CUDACC_RTC__
  return (u32)__cvta_generic_to_shared(own);
#else
  return shared_place(own);
#endif
}

// The shared memory of this block, asked for once: the compiler would else ask a special register for it again and again,
// also where all wait for it.
__device__ inline uint4 *shared_once(uint4 *shared) {
#ifdef __CUDACC_RTC__
  return (uint4 *)__cvta_shared_to_generic(__shfl_sync(ALL, place_of(shared), threadIdx.x & 31));
#else
  return shared;
#endif
}

// The same place of another block.
__device__ inline Place place_in(u32 rank, const void *own) {
#ifdef __CUDACC_RTC__
  Place place;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(place) : "r"(place_of(own)), "r"(rank));
  return place;
#else
  return place_of_rank(rank, place_of(own));
#endif
}

__device__ inline u32 rank_in_cluster() {
#ifdef __CUDACC_RTC__
  u32 rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
#else
  return cluster_rank();
#endif
}

// All threads of all blocks meet.
__device__ inline void meet_cluster() {
#ifdef __CUDACC_RTC__
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
  wait_for_cluster();
#endif
}

// By one thread, before the cluster meets: so many must come for it to ring.
__device__ inline void hang(Bell &bell, u32 arrivals) {
#ifdef __CUDACC_RTC__
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\nfence.mbarrier_init.release.cluster;" ::"r"(place_of(&bell)),
               "r"(arrivals)
               : "memory");
#else
  bell_init(&bell, arrivals);
#endif
}

// Comes, of the same block; what the warp wrote before is heard.
__device__ inline void come(Bell &bell) {
#ifdef __CUDACC_RTC__
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(place_of(&bell)) : "memory");
#else
  bell_come(&bell, 0);
#endif
}

// Comes, and lets the bell wait for so many bytes of other blocks in this phase.
__device__ inline void expect(Bell &bell, u32 bytes) {
#ifdef __CUDACC_RTC__
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(place_of(&bell)), "r"(bytes) : "memory");
#else
  bell_come(&bell, bytes);
#endif
}

// Nobody waits longer: then the device has lost a block, and the launch fails.
constexpr long long MOST_CYCLES_OF_WAIT = 1ll << 32;

// Waits for a phase of a bell that is this one or the last: of number n the parity is that of n.
__device__ inline void hear(const Bell &bell, u32 parity) {
#ifdef __CUDACC_RTC__
  long long began = 0;
  for (;;) {
    u32 has_rung;
    asm volatile(
        "{\n.reg .pred rung;\nmbarrier.try_wait.parity.shared::cta.b64 rung, [%1], %2;\nselp.u32 %0, 1, 0, rung;\n}"
        : "=r"(has_rung)
        : "r"(place_of(&bell)), "r"(parity)
        : "memory");
    if (has_rung) break;
    const long long now = clock64();
    if (began == 0) began = now;
    if (now - began > MOST_CYCLES_OF_WAIT) __trap();
  }
  __syncwarp();
#else
  wait_for_bell(&bell, parity);
#endif
}

// Writes a word that tells all itself to a place; who looks for it sees it some time.
__device__ inline void write(Place to, u32 word) {
#ifdef __CUDACC_RTC__
  asm volatile("st.relaxed.cluster.shared::cluster.u32 [%0], %1;" ::"r"(to), "r"(word) : "memory");
#else
  send_words(to, &word, 1, NO_BELL);
#endif
}

// Sends one word, two or four to a place, whose block hears of their bytes by a bell.
__device__ inline void send(Place to, u32 word, Place bell) {
#ifdef __CUDACC_RTC__
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(to), "r"(word),
               "r"(bell)
               : "memory");
#else
  send_words(to, &word, 1, bell);
#endif
}
__device__ inline void send(Place to, float low, float high, Place bell) {
#ifdef __CUDACC_RTC__
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(to),
               "f"(low), "f"(high), "r"(bell)
               : "memory");
#else
  const u32 words[] = {__float_as_uint(low), __float_as_uint(high)};
  send_words(to, words, 2, bell);
#endif
}
__device__ inline void send(Place to, uint4 unit, Place bell) {
#ifdef __CUDACC_RTC__
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
      "r"(unit.x), "r"(unit.y), "r"(unit.z), "r"(unit.w), "r"(bell)
      : "memory");
#else
  const u32 words[] = {unit.x, unit.y, unit.z, unit.w};
  send_words(to, words, 4, bell);
#endif
}
