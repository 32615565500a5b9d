// How the warps of a block wait for each other: counters in shared memory, and named barriers of some of the warps.
#pragma once
#include "common/arithmetic.cuh"

// Counters and what they stand for lie in shared memory. A multiprocessor reads and writes it in the order in which a
// warp asks, and for several warps in that of their barriers. So the compiler must keep the order, and no fence is
// needed: one would wait for every load that is on its way, above all for weights that are fetched ahead. No counter
// stands for what lies in the device's memory: only the barriers at the end of a sample do.
__device__ inline void compiler_fence() {
#ifdef __CUDACC_RTC__
  asm volatile("" ::: "memory");
#endif
}

__device__ inline u32 load_volatile(const u32 &counter) { return *(const volatile u32 *)&counter; }

// Sets a counter. Who sees the value can read what this thread wrote to shared memory before, and what those threads
// wrote that it shared a barrier with.
__device__ inline void store_volatile(u32 &counter, u32 value) {
  compiler_fence();
  *(volatile u32 *)&counter = value;
}

// Between two loads of a counter.
__device__ inline void spin_pause() {
#ifndef __CUDACC_RTC__
  yield();
#endif
}

// Waits until a condition holds. It must hold for good, and all lanes must see the same.
template <typename Condition>
__device__ inline void spin_until(Condition holds) {
  while (!holds()) spin_pause();
  compiler_fence();
  __syncwarp();
}

// Waits until a counter is at least so much.
__device__ inline void spin_until_at_least(const u32 &counter, u32 value) {
  spin_until([&] { return (int)(load_volatile(counter) - value) >= 0; });
}

// Waits for other warps at a named barrier, or arrives there without waiting for them.
__device__ inline void named_barrier_sync(u32 barrier, u32 threads) {
#ifdef __CUDACC_RTC__
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
#else
  shim_named_barrier_sync(barrier, threads);
#endif
}
__device__ inline void named_barrier_arrive(u32 barrier, u32 threads) {
#ifdef __CUDACC_RTC__
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
#else
  shim_named_barrier_arrive(barrier, threads);
#endif
}
