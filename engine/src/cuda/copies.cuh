// Copies from the device's memory to shared memory that nobody waits for until they are wanted.
#pragma once
#include "model.cuh"

__device__ inline void copy_async(uint4 *shared_to, const uint4 *from) {
#ifdef __CUDACC_RTC__
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((u32)__cvta_generic_to_shared(shared_to)), "l"(from)
               : "memory");
#else
  *shared_to = *from;
#endif
}

// Ends a group of copies.
__device__ inline void commit_copies() {
#ifdef __CUDACC_RTC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until all but the last so many groups are there.
template <int LEFT>
__device__ inline void wait_for_copies() {
#ifdef __CUDACC_RTC__
  asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
#endif
}
