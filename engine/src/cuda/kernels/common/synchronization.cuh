// How the warps of a block wait for each other: counters in shared memory, and barriers that not all of them meet at.
#pragma once
#include "common/arithmetic.cuh"

// Counters and what they stand for lie in shared memory, which a multiprocessor reads and writes in the order in which a
// warp asks, and warps in that of their barriers. So the compiler must keep the order, and no fence is needed: one
// would wait for every load that is on its way, above all for weights that are fetched ahead. What lies in the
// device's memory is never told by a counter, only by the barriers at the end of a sample.
__device__ inline void keep_order() {
#ifdef __CUDACC_RTC__
  asm volatile("" ::: "memory");
#endif
}

__device__ inline u32 look(const u32 &counter) { return *(const volatile u32 *)&counter; }

// Tells a counter; what this thread, and those that it met, wrote to shared memory before can be read by who sees it.
__device__ inline void tell(u32 &counter, u32 value) {
  keep_order();
  *(volatile u32 *)&counter = value;
}

// Between two looks.
__device__ inline void pause() {
#ifndef __CUDACC_RTC__
  yield();
#endif
}

// Waits until a condition holds. It must hold for good, and all lanes must see the same.
template <typename Condition>
__device__ inline void wait_until(Condition holds) {
  while (!holds()) pause();
  keep_order();
  __syncwarp();
}

// Waits until a counter is at least so much.
__device__ inline void await(const u32 &counter, u32 value) {
  wait_until([&] { return (int)(look(counter) - value) >= 0; });
}

// Meets others at a barrier, or lets them know without waiting for them.
__device__ inline void join(u32 barrier, u32 threads) {
#ifdef __CUDACC_RTC__
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
#else
  join_group(barrier, threads);
#endif
}
__device__ inline void arrive(u32 barrier, u32 threads) {
#ifdef __CUDACC_RTC__
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
#else
  arrive_at_group(barrier, threads);
#endif
}
