// What it costs to hand on a word: within a block, between blocks, between a block and the host. Two sides
// take turns; each waits for the other's number and answers with the next. `wavenet bench --micro` says what
// one way takes. Every wait has a bound: a side that hears nothing gives up, and the turns that it made tell.

#include "micro/micro.cuh"

typedef unsigned int u32;
typedef unsigned long long u64;

#define MOST_LOOKS 4000000u

// Waits until a word is at least so much.
template <typename Look>
__device__ inline bool wait_for(u32 number, Look look) {
  for (u32 looks = 0; looks < MOST_LOOKS; ++looks)
    if (look() >= number) return true;
  return false;
}

// One side of a ping-pong: side 0 says 1, 3, 5 ..., side 1 answers 2, 4, 6 ...
template <typename Look, typename Say>
__device__ inline void take_turns(u32 side, u32 turns, Found *found, Look look, Say say) {
  const u64 began = clock64();
  u32 turn = 0;
  for (; turn < turns; ++turn) {
    if (side == 0) say(2 * turn + 1);
    if (!wait_for(2 * turn + 2 - side, look)) break;
    if (side == 1) say(2 * turn + 2);
  }
  if (side == 0) {
    found->cycles = clock64() - began;
    found->turns = turn;
  }
}

#if !defined(WAVENET_CLUSTER)

// A barrier of the block, again and again.
extern "C" __global__ void micro_barrier(u32 turns, Found *found, u32 *) {
  const u64 began = clock64();
#pragma unroll 1
  for (u32 turn = 0; turn < turns; ++turn) __syncthreads();
  if (threadIdx.x == 0) {
    found->cycles = clock64() - began;
    found->turns = turns;
  }
}

// Two warps through shared memory.
extern "C" __global__ void micro_shared(u32 turns, Found *found, u32 *) {
  __shared__ volatile u32 said[2];
  if (threadIdx.x < 2) said[threadIdx.x] = 0;
  __syncthreads();
  const u32 side = threadIdx.x / 32;
  if (threadIdx.x % 32 || side > 1) return;
  take_turns(
      side, turns, found, [&] { return said[1 - side]; },
      [&](u32 number) { said[side] = number; });
}

// Two blocks through the second cache; `flags` has two lines of 128 bytes.
extern "C" __global__ void micro_flag(u32 turns, Found *found, u32 *flags) {
  const u32 side = blockIdx.x;
  if (threadIdx.x) return;
  volatile u32 *mine = flags + 32 * side, *theirs = flags + 32 * (1 - side);
  take_turns(
      side, turns, found, [&] { return *theirs; },
      [&](u32 number) {
        __threadfence();
        *mine = number;
      });
}

// A block and the host, through memory that both see: the host begins.
extern "C" __global__ void micro_host(u32 turns, Found *found, u32 *flags) {
  if (threadIdx.x) return;
  volatile u32 *host = flags, *mine = flags + 32;
  take_turns(
      1, turns, found, [&] { return *host; },
      [&](u32 number) {
        __threadfence_system();
        *mine = number;
      });
}

#else

// Two blocks of a cluster, each writing into the other's shared memory.
extern "C" __global__ void __cluster_dims__(2, 1, 1) micro_cluster(u32 turns, Found *found, u32 *) {
  __shared__ u32 said;
  if (threadIdx.x == 0) said = 0;
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
  if (threadIdx.x == 0) {
    const u32 side = blockIdx.x;
    const u32 own = (u32)__cvta_generic_to_shared(&said);
    u32 other;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(other) : "r"(own), "r"(1 - side));
    take_turns(
        side, turns, found,
        [&] {
          u32 heard;
          asm volatile("ld.acquire.cluster.shared::cluster.u32 %0, [%1];" : "=r"(heard) : "r"(own) : "memory");
          return heard;
        },
        [&](u32 number) {
          asm volatile("st.release.cluster.shared::cluster.u32 [%0], %1;" ::"r"(other), "r"(number) : "memory");
        });
  }
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

#endif
