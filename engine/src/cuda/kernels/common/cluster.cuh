// The blocks of a cluster: how one writes into another's shared memory, and how that one learns of it.
//
// A memory barrier (NVIDIA's "mbarrier") completes a phase when so many threads have arrived and so many bytes have
// come. Who waits for the phase can read what they wrote. A word that is sent to another block counts towards a barrier
// there: no fence is needed.
#pragma once
#include "common/synchronization.cuh"

typedef u64 Mbarrier;

// An address in the shared memory of this block or of another one of the cluster.
typedef u32 ClusterAddress;

__device__ inline ClusterAddress shared_address_of(const void *own) {
#ifdef __CUDACC_RTC__
  return (u32)__cvta_generic_to_shared(own);
#else
  return shim_shared_address_of(own);
#endif
}

// The shared memory of this block, asked for once: the compiler would else read a special register again and again,
// also where all threads wait for it.
__device__ inline uint4 *shared_once(uint4 *shared) {
#ifdef __CUDACC_RTC__
  return (uint4 *)__cvta_shared_to_generic(__shfl_sync(ALL, shared_address_of(shared), threadIdx.x & 31));
#else
  return shared;
#endif
}

// The address of the same object in another block.
__device__ inline ClusterAddress address_in_block(u32 rank, const void *own) {
#ifdef __CUDACC_RTC__
  ClusterAddress address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address_of(own)), "r"(rank));
  return address;
#else
  return shim_address_in_block(rank, shared_address_of(own));
#endif
}

__device__ inline u32 rank_in_cluster() {
#ifdef __CUDACC_RTC__
  u32 rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
#else
  return shim_cluster_rank();
#endif
}

// All threads of all blocks of the cluster wait for each other.
__device__ inline void cluster_sync() {
#ifdef __CUDACC_RTC__
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
  shim_cluster_sync();
#endif
}

// By one thread, before `cluster_sync`: so many arrivals complete a phase.
__device__ inline void mbarrier_init(Mbarrier &barrier, u32 arrivals) {
#ifdef __CUDACC_RTC__
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\nfence.mbarrier_init.release.cluster;" ::"r"(
                   shared_address_of(&barrier)),
               "r"(arrivals)
               : "memory");
#else
  shim_mbarrier_init(&barrier, arrivals);
#endif
}

// Arrives at a barrier of the same block; who waits for the phase can read what the warp wrote before.
__device__ inline void mbarrier_arrive(Mbarrier &barrier) {
#ifdef __CUDACC_RTC__
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address_of(&barrier)) : "memory");
#else
  shim_mbarrier_arrive(&barrier, 0);
#endif
}

// Arrives, and lets the phase wait for so many bytes from other blocks too.
__device__ inline void mbarrier_expect(Mbarrier &barrier, u32 bytes) {
#ifdef __CUDACC_RTC__
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address_of(&barrier)), "r"(bytes)
               : "memory");
#else
  shim_mbarrier_arrive(&barrier, bytes);
#endif
}

// Nobody waits longer: then the device has lost a block, and the launch fails.
constexpr long long MOST_CYCLES_OF_WAIT = 1ll << 32;

// Waits until a phase is complete, the current one or the one before: phase n has the parity of n.
__device__ inline void mbarrier_wait(const Mbarrier &barrier, u32 parity) {
#ifdef __CUDACC_RTC__
  long long began = 0;
  for (;;) {
    u32 is_complete;
    asm volatile(
        "{\n.reg .pred complete;\nmbarrier.try_wait.parity.shared::cta.b64 complete, [%1], %2;\n"
        "selp.u32 %0, 1, 0, complete;\n}"
        : "=r"(is_complete)
        : "r"(shared_address_of(&barrier)), "r"(parity)
        : "memory");
    if (is_complete) break;
    const long long now = clock64();
    if (began == 0) began = now;
    if (now - began > MOST_CYCLES_OF_WAIT) __trap();
  }
  __syncwarp();
#else
  shim_mbarrier_wait(&barrier, parity);
#endif
}

// Writes a word that is complete by itself; who polls the address sees it some time later. No barrier counts it.
__device__ inline void store_remote(ClusterAddress to, u32 word) {
#ifdef __CUDACC_RTC__
  asm volatile("st.relaxed.cluster.shared::cluster.u32 [%0], %1;" ::"r"(to), "r"(word) : "memory");
#else
  shim_send_async(to, &word, 1, NO_BARRIER);
#endif
}

// Sends one word, two or four; a barrier of the block that receives them counts their bytes.
__device__ inline void send_async(ClusterAddress to, u32 word, ClusterAddress barrier) {
#ifdef __CUDACC_RTC__
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(to), "r"(word),
               "r"(barrier)
               : "memory");
#else
  shim_send_async(to, &word, 1, barrier);
#endif
}
__device__ inline void send_async(ClusterAddress to, float low, float high, ClusterAddress barrier) {
#ifdef __CUDACC_RTC__
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(to),
               "f"(low), "f"(high), "r"(barrier)
               : "memory");
#else
  const u32 words[] = {__float_as_uint(low), __float_as_uint(high)};
  shim_send_async(to, words, 2, barrier);
#endif
}
__device__ inline void send_async(ClusterAddress to, uint4 unit, ClusterAddress barrier) {
#ifdef __CUDACC_RTC__
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
      "r"(unit.x), "r"(unit.y), "r"(unit.z), "r"(unit.w), "r"(barrier)
      : "memory");
#else
  const u32 words[] = {unit.x, unit.y, unit.z, unit.w};
  shim_send_async(to, words, 4, barrier);
#endif
}
