// Copies from the device's memory to shared memory that nobody waits for until they are wanted.
#pragma once
#include "common/model.cuh"

// Copies a unit, some time before this thread has waited for it.
__device__ inline void copy_later(uint4 *shared_to, const uint4 *from) {
#ifdef __CUDACC_RTC__
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((u32)__cvta_generic_to_shared(shared_to)), "l"(from)
               : "memory");
#else
  copy_unit_later(shared_to, from);
#endif
}

// Ends a group of copies.
__device__ inline void end_group() {
#ifdef __CUDACC_RTC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  end_group_of_units();
#endif
}

// Waits for all of this thread's groups but the last so many.
template <int LEFT>
__device__ inline void await_groups() {
#ifdef __CUDACC_RTC__
  asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
#else
  await_units(LEFT);
#endif
}

// Waits for all of this thread's copies.
__device__ inline void await_copies() {
#ifdef __CUDACC_RTC__
  asm volatile("cp.async.wait_all;" ::: "memory");
#else
  end_group_of_units();
  await_units(0);
#endif
}
