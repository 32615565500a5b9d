// Copies from the device's memory to shared memory that nobody waits for until they are wanted.
#pragma once
#include "common/model.cuh"

// Starts to copy a unit; it is there once this thread has waited for it.
__device__ inline void copy_async(uint4 *shared_to, const uint4 *from) {
#ifdef __CUDACC_RTC__
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((u32)__cvta_generic_to_shared(shared_to)), "l"(from)
               : "memory");
#else
  shim_copy_async(shared_to, from);
#endif
}

// Puts the copies since the last group into one.
__device__ inline void commit_group() {
#ifdef __CUDACC_RTC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  shim_commit_group();
#endif
}

// Waits for all of this thread's groups but the last so many.
template <int LEFT>
__device__ inline void wait_group() {
#ifdef __CUDACC_RTC__
  asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
#else
  shim_wait_group(LEFT);
#endif
}

// Waits for all of this thread's copies.
__device__ inline void wait_all_copies() {
#ifdef __CUDACC_RTC__
  asm volatile("cp.async.wait_all;" ::: "memory");
#else
  shim_commit_group();
  shim_wait_group(0);
#endif
}

// Copies units at once, by all threads of a block.
__device__ inline void copy_units(uint4 *to, const uint4 *from, u32 count) {
#pragma unroll 1
  for (u32 i = threadIdx.x; i < count; i += blockDim.x) to[i] = from[i];
}
