// Enough of CUDA to run the kernel's own text on a processor, thread by thread, so that its logic is tested
// without a GPU.
//
// A block's threads are fibers on one OS thread. A fiber runs until it reaches a barrier, of its block, of a group of
// warps or of its warp (a shuffle is one), and goes on when all have come; or until it looks at a counter in vain.
// Between barriers the fibers run one after another in an order that a seed shuffles: where a barrier is missing,
// some order gives other bytes. Barriers that not all threads reach end the program with a message. The blocks of a
// cluster run side by side; what one sends another comes when chance has it.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define __device__
#define __global__
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__ static

struct alignas(8) float2 { float x, y; };
struct alignas(8) int2 { int x, y; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct uint3 { unsigned x, y, z; };
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// Of the fiber that runs, and of its block.
static uint3 threadIdx, blockIdx, blockDim;
// The dynamic shared memory of the block that runs, and of all blocks of its cluster.
enum { MOST_SHARED = 1 << 16, MOST_BLOCKS = 16 };
static uint4 memories[MOST_BLOCKS][MOST_SHARED], *shared;

static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline unsigned __float_as_uint(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }
static inline float __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }
static inline float __int_as_float(int bits) { return __uint_as_float((unsigned)bits); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (uint64_t)a * b >> 32; }
static inline int __ffs(unsigned bits) { return __builtin_ffs((int)bits); }
static inline void __threadfence_system() { __sync_synchronize(); }
static inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) c += (int)(int8_t)(a >> 8 * i) * (int8_t)(b >> 8 * i);
  return c;
}
// Counts looks, not time: so a slice ends at the same sample in every run.
static long long looks;
static inline long long clock64() { return looks++; }

enum { WARP = 32, MOST_THREADS = 1024, STACK_BYTES = 1 << 16 };

// What a fiber waits for; nothing where it only let others run.
enum Wait { NOTHING, ITS_WARP, ITS_BLOCK, ITS_NAMED_BARRIER, ITS_CLUSTER, THE_END };

struct Fiber {
  jmp_buf place;
  ucontext_t first;
  bool has_begun;
  Wait wait;
  unsigned named_barrier, completions;  // which named barrier, and how often it was complete before
};

// The named barriers of a block: how many are there, and how often all were.
struct NamedBarrier { unsigned there, completions; };
enum { NAMED_BARRIERS = 16 };
static NamedBarrier named_barriers[MOST_BLOCKS][NAMED_BARRIERS];

static Fiber all_fibers[MOST_BLOCKS][MOST_THREADS];
// Which block of its cluster runs, and its fibers.
static unsigned rank_of_block;
static Fiber *fibers;
static char *stacks;
static jmp_buf scheduler;
static ucontext_t scheduler_context;
static void (*body)(const void *);
static const void *body_argument;
// What the lanes of each warp bring to an exchange, this one and the next.
struct Brought { unsigned words[6]; };
static Brought brought[MOST_BLOCKS][2][MOST_THREADS];
static unsigned shuffles[MOST_BLOCKS][MOST_THREADS];

static void wait_for(Wait wait) {
  Fiber &fiber = fibers[threadIdx.x];
  fiber.wait = wait;
  if (!_setjmp(fiber.place)) _longjmp(scheduler, 1);
}

// Lets others run.
static inline void yield() { wait_for(NOTHING); }

static void shim_named_barrier_arrive(unsigned barrier, unsigned threads) {
  NamedBarrier &all = named_barriers[rank_of_block][barrier];
  if (++all.there < threads) return;
  all.there = 0;
  ++all.completions;
}

static void shim_named_barrier_sync(unsigned barrier, unsigned threads) {
  Fiber &fiber = fibers[threadIdx.x];
  fiber.named_barrier = barrier;
  fiber.completions = named_barriers[rank_of_block][barrier].completions;
  shim_named_barrier_arrive(barrier, threads);
  wait_for(ITS_NAMED_BARRIER);
}

static inline void __syncthreads() { wait_for(ITS_BLOCK); }
static inline void __syncwarp() { wait_for(ITS_WARP); }

// Waits for the other lanes of the warp; returns what each of them brought.
static const Brought *exchange_in_warp(Brought mine) {
  Brought *all = brought[rank_of_block][shuffles[rank_of_block][threadIdx.x]++ & 1];
  all[threadIdx.x] = mine;
  wait_for(ITS_WARP);
  return all + threadIdx.x / WARP * WARP;
}

static inline unsigned bits_of(unsigned value) { return value; }
static inline unsigned bits_of(int value) { return (unsigned)value; }
static inline unsigned bits_of(float value) { return __float_as_uint(value); }
static inline void from_bits(unsigned bits, unsigned &value) { value = bits; }
static inline void from_bits(unsigned bits, int &value) { value = (int)bits; }
static inline void from_bits(unsigned bits, float &value) { value = __uint_as_float(bits); }

template <typename T>
static inline T __shfl_sync(unsigned, T value, int lane) {
  T out;
  from_bits(exchange_in_warp({bits_of(value)})[lane & 31].words[0], out);
  return out;
}
template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T value, int distance) {
  return __shfl_sync(mask, value, (int)(threadIdx.x & 31) ^ distance);
}
template <typename T>
static inline T __shfl_up_sync(unsigned mask, T value, int distance) {
  const int lane = threadIdx.x & 31;
  return __shfl_sync(mask, value, lane < distance ? lane : lane - distance);
}
static inline unsigned __ballot_sync(unsigned, bool is_so) {
  const Brought *all = exchange_in_warp({is_so});
  unsigned bits = 0;
  for (int lane = 0; lane < WARP; ++lane) bits |= all[lane].words[0] << lane;
  return bits;
}
static inline bool __any_sync(unsigned mask, bool is_so) { return __ballot_sync(mask, is_so) != 0; }

template <typename T>
static inline T atomicMax(T *place, T value) {
  const T before = *place;
  *place = before > value ? before : value;
  return before;
}
static inline unsigned __byte_perm(unsigned low, unsigned high, unsigned chosen) {
  const uint64_t both = (uint64_t)high << 32 | low;
  unsigned bytes = 0;
  for (int i = 0; i < 4; ++i) bytes |= (unsigned)(both >> 8 * (chosen >> 4 * i & 7) & 0xff) << 8 * i;
  return bytes;
}
// As a card's, it may be off in its last bit: here by one more, one less or not at all.
static inline float reciprocal_roughly(float x) {
  return __uint_as_float(__float_as_uint(1.0f / x) + __float_as_uint(x) % 3 - 1);
}

// As a card's, it is off by up to one in 2^11.
static inline float tanh_roughly(float x) { return __uint_as_float(__float_as_uint(tanhf(x)) & ~0xfffu); }

// Copies that come to pass when they are waited for; before that nobody may read the place or change the source.
struct Copy { uint4 *to; const uint4 *from; uint4 value; unsigned group; };
enum { MOST_COPIES = 64 };
static Copy copies[MOST_THREADS][MOST_COPIES];
static unsigned copy_counts[MOST_THREADS], copy_groups[MOST_THREADS];
static inline void shim_copy_async(uint4 *to, const uint4 *from) {
  unsigned &count = copy_counts[threadIdx.x];
  if (count == MOST_COPIES) abort();
  copies[threadIdx.x][count++] = {to, from, *from, copy_groups[threadIdx.x]};
  memset(to, 0xa5, sizeof *to);
}
static inline void shim_commit_group() { ++copy_groups[threadIdx.x]; }
// Those of groups that have ended, but for the last so many.
static inline void shim_wait_group(unsigned left) {
  Copy *all = copies[threadIdx.x];
  unsigned kept = 0;
  for (unsigned i = 0; i < copy_counts[threadIdx.x]; ++i) {
    const Copy copy = all[i];
    if (copy.group + left >= copy_groups[threadIdx.x]) {
      all[kept++] = copy;
      continue;
    }
    if (memcmp(copy.from, &copy.value, sizeof copy.value)) abort();
    *copy.to = copy.value;
  }
  copy_counts[threadIdx.x] = kept;
}

static inline unsigned bf16_of(float x) {
  const unsigned bits = __float_as_uint(x);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
static inline float float_of_bf16(unsigned low_bits) { return __uint_as_float(low_bits << 16); }

// The matrix units: products of bytes and of bf16, as the warp holds them ("Matrix Fragments for mma" in NVIDIA's PTX
// ISA). Row r of the first factor and column c of the second lie with the four lanes of group r % 8 or c, four bytes of
// 16 a lane; what is beyond 8 rows or 16 bytes, in further words.
static inline void mma_m8n8k16(unsigned a, unsigned b, int *sums) {
  const Brought *all = exchange_in_warp({a, b});
  const int lane = threadIdx.x & 31, row = lane / 4;
  for (int i = 0; i < 2; ++i)
    for (int k = 0; k < 4; ++k) {
      const int column = lane % 4 * 2 + i;
      sums[i] = __dp4a((int)all[row * 4 + k].words[0], (int)all[column * 4 + k].words[1], sums[i]);
    }
}
static inline void mma_m16n8k32(unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1, int *sums) {
  const Brought *all = exchange_in_warp({a0, a1, a2, a3, b0, b1});
  const int lane = threadIdx.x & 31, row = lane / 4;
  for (int i = 0; i < 4; ++i)
    for (int k = 0; k < 8; ++k) {
      const int column = lane % 4 * 2 + i % 2, far = k / 4;
      const unsigned *of_row = all[row * 4 + k % 4].words, *of_column = all[column * 4 + k % 4].words + 4;
      sums[i] = __dp4a((int)of_row[i / 2 + 2 * far], (int)of_column[far], sums[i]);
    }
}

static inline void mma_m16n8k16(unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1,
                                float *sums) {
  const Brought *all = exchange_in_warp({a0, a1, a2, a3, b0, b1});
  const int lane = threadIdx.x & 31, row = lane / 4;
  for (int i = 0; i < 4; ++i)
    for (int k = 0; k < 8; ++k) {
      const int column = lane % 4 * 2 + i % 2, far = k / 4;
      const unsigned of_row = all[row * 4 + k % 4].words[i / 2 + 2 * far];
      const unsigned of_column = all[column * 4 + k % 4].words[4 + far];
      for (int half = 0; half < 2; ++half)
        sums[i] += float_of_bf16(of_row >> 16 * half) * float_of_bf16(of_column >> 16 * half);
    }
}

// Shared memory of a block of the cluster, by its rank and the bytes from its beginning.
static inline unsigned shim_cluster_rank() { return rank_of_block; }
static inline unsigned shim_shared_address_of(const void *own) {
  return rank_of_block << 24 | (unsigned)((const char *)own - (const char *)shared);
}
static inline unsigned shim_address_in_block(unsigned rank, unsigned address) {
  return rank << 24 | (address & 0xffffff);
}
static inline char *at_address(unsigned address) {
  return (char *)memories[address >> 24] + (address & 0xffffff);
}
static inline void shim_cluster_sync() { wait_for(ITS_CLUSTER); }

// An mbarrier as it lies in shared memory: how many arrive in a phase, how many have not yet, bytes that are to come
// (less those that came before they were expected), and the phase.
struct ShimMbarrier { unsigned short arrivals, missing; int bytes : 31; unsigned phase : 1; };
static inline void complete_if_all_arrived(ShimMbarrier &barrier) {
  if (barrier.missing || barrier.bytes) return;
  barrier.missing = barrier.arrivals;
  ++barrier.phase;
}
static inline void shim_mbarrier_init(void *place, unsigned arrivals) {
  *(ShimMbarrier *)place = {(unsigned short)arrivals, (unsigned short)arrivals, 0, 0};
}
static inline void shim_mbarrier_arrive(void *place, unsigned bytes) {
  ShimMbarrier &barrier = *(ShimMbarrier *)place;
  if (!barrier.missing) abort();
  barrier.bytes += (int)bytes;
  --barrier.missing;
  complete_if_all_arrived(barrier);
}
enum { MOST_LOOKS = 1000000 };
static inline void shim_mbarrier_wait(const void *place, unsigned parity) {
  const volatile ShimMbarrier *barrier = (const volatile ShimMbarrier *)place;
  for (unsigned look = 0; barrier->phase == parity; ++look, yield())
    if (look == MOST_LOOKS) abort();
  __syncwarp();
}

// Words on their way to another block.
struct Message { unsigned to, barrier, count, words[4]; };
enum { MOST_MESSAGES = 1 << 16 };
static const unsigned NO_BARRIER = ~0u;
static Message messages[MOST_MESSAGES];
static unsigned messages_under_way;
static inline void shim_send_async(unsigned to, const unsigned *words, unsigned count, unsigned barrier) {
  if (messages_under_way == MOST_MESSAGES || to % (4 * count)) abort();
  if (barrier != NO_BARRIER && to >> 24 != barrier >> 24) abort();
  Message &message = messages[messages_under_way++];
  message = {to, barrier, count, {}};
  memcpy(message.words, words, 4 * count);
}
// Whether all threads of a block of the cluster have begun, and none has ended.
static bool is_there(unsigned rank, unsigned threads) {
  for (const Fiber *fiber = all_fibers[rank]; fiber < all_fibers[rank] + threads; ++fiber)
    if (!fiber->has_begun || fiber->wait == THE_END) return false;
  return true;
}
// Lets some of them arrive: without a seed all.
static void deliver(unsigned threads, uint64_t *seed) {
  unsigned kept = 0;
  for (unsigned i = 0; i < messages_under_way; ++i) {
    const Message message = messages[i];
    if (!is_there(message.to >> 24, threads)) {
      fprintf(stderr, "a message to a block that has not begun, or has ended\n");
      abort();
    }
    *seed = *seed ? *seed * 6364136223846793005u + 1442695040888963407u : 0;
    if (*seed >> 33 & 1) {
      messages[kept++] = message;
      continue;
    }
    memcpy(at_address(message.to), message.words, 4 * message.count);
    if (message.barrier == NO_BARRIER) continue;
    ShimMbarrier &barrier = *(ShimMbarrier *)at_address(message.barrier);
    barrier.bytes -= 4 * (int)message.count;
    complete_if_all_arrived(barrier);
  }
  messages_under_way = kept;
}

static void run_fiber() {
  body(body_argument);
  fibers[threadIdx.x].wait = THE_END;
  _longjmp(scheduler, 1);
}

// Makes a block of the cluster the one that runs.
static void enter_block(unsigned rank) {
  rank_of_block = rank;
  fibers = all_fibers[rank];
  shared = memories[rank];
}

static void resume(unsigned thread) {
  Fiber &fiber = fibers[thread];
  threadIdx.x = thread;
  fiber.wait = NOTHING;
  if (_setjmp(scheduler)) return;
  if (fiber.has_begun) _longjmp(fiber.place, 1);
  fiber.has_begun = true;
  swapcontext(&scheduler_context, &fiber.first);
}

static bool can_run(const Fiber &fiber) {
  if (fiber.wait != ITS_NAMED_BARRIER) return fiber.wait == NOTHING;
  return named_barriers[rank_of_block][fiber.named_barrier].completions != fiber.completions;
}

// Whether all of some fibers wait for the same.
static bool all_wait_for(Wait wait, unsigned first, unsigned count) {
  for (unsigned thread = first; thread < first + count; ++thread)
    if (fibers[thread].wait != wait) return false;
  return true;
}

// Lets some fibers go on.
static void release(unsigned first, unsigned count) {
  for (unsigned thread = first; thread < first + count; ++thread) fibers[thread].wait = NOTHING;
}

// Nobody can go on.
static void give_up(unsigned blocks, unsigned threads) {
  fprintf(stderr, "threads wait for each other (1 their warp, 2 their block, 3 a named barrier, 4 their cluster, "
                  "5 the end):\n");
  for (unsigned block = 0; block < blocks; ++block)
    for (unsigned thread = 0; thread < threads; ++thread)
      fprintf(stderr, "%d%s", all_fibers[block][thread].wait, thread % WARP == WARP - 1 ? "\n" : "");
  abort();
}

// An order of so many things, by Fisher and Yates; the seed 0 leaves them as they are.
static void shuffle(unsigned *order, unsigned count, uint64_t *seed) {
  for (unsigned i = 0; i < count; ++i) order[i] = i;
  for (unsigned i = count; *seed && i > 1; --i) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    unsigned other = (unsigned)(*seed >> 33) % i, last = order[i - 1];
    order[i - 1] = order[other];
    order[other] = last;
  }
}

// Shared memory holds garbage, or what the launch before left in it: as the seed has it.
static void begin_block(unsigned threads, uint64_t seed) {
  if (!(seed & 1)) memset(shared, 0xa5, sizeof *memories);
  memset(named_barriers[rank_of_block], 0, sizeof *named_barriers);
  for (unsigned thread = 0; thread < threads; ++thread) {
    Fiber &fiber = fibers[thread];
    fiber.has_begun = false;
    fiber.wait = NOTHING;
    shuffles[rank_of_block][thread] = 0;
    copy_counts[thread] = 0;
    getcontext(&fiber.first);
    fiber.first.uc_stack.ss_sp = stacks + ((size_t)rank_of_block * MOST_THREADS + thread) * STACK_BYTES;
    fiber.first.uc_stack.ss_size = STACK_BYTES;
    fiber.first.uc_link = NULL;
    makecontext(&fiber.first, run_fiber, 0);
  }
}

// With this bit of the seed some blocks and warps are much slower than others, for a while each.
static const uint64_t LAGGING = 1ull << 63;
static bool is_lagging;
static unsigned rounds;
static uint64_t mixed(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  return x ^ x >> 27;
}
static bool lags(unsigned warp) {
  if (!is_lagging) return false;
  const uint64_t of_block = mixed(rounds / 128 * 31 + rank_of_block + 1), of_warp = mixed(of_block + warp);
  const bool is_slow = of_block % 5 == 0 || of_warp % 5 == 0;
  return is_slow && mixed(of_warp + rounds) % 32 != 0;
}

// Lets every warp of the block run as far as it comes; whether one could.
static bool run_block(unsigned threads, uint64_t *seed) {
  static unsigned warps[MOST_THREADS / WARP], lanes[WARP];
  bool is_any = false;
  shuffle(warps, threads / WARP, seed);
  for (unsigned w = 0; w < threads / WARP; ++w) {
    const unsigned first = warps[w] * WARP;
    if (lags(warps[w])) {
      is_any = true;
      continue;
    }
    do {
      if (all_wait_for(ITS_WARP, first, WARP)) release(first, WARP);
      shuffle(lanes, WARP, seed);
      for (unsigned lane = 0; lane < WARP; ++lane) {
        if (!can_run(fibers[first + lanes[lane]])) continue;
        resume(first + lanes[lane]);
        is_any = true;
      }
    } while (all_wait_for(ITS_WARP, first, WARP));
  }
  if (all_wait_for(ITS_BLOCK, 0, threads)) {
    release(0, threads);
    is_any = true;
  }
  return is_any;
}

// Runs a kernel over a grid, cluster after cluster.
static void launch(void (*kernel)(const void *), const void *argument, unsigned blocks, unsigned threads,
                   unsigned shared_bytes, uint64_t seed, unsigned of_cluster = 1) {
  if (!stacks) stacks = (char *)malloc((size_t)MOST_BLOCKS * MOST_THREADS * STACK_BYTES);
  if (!stacks || threads % WARP || threads > MOST_THREADS || shared_bytes > sizeof *memories) abort();
  if (of_cluster > MOST_BLOCKS || blocks % of_cluster) abort();
  body = kernel;
  body_argument = argument;
  blockDim.x = threads;
  is_lagging = seed & LAGGING;
  for (unsigned first = 0; first < blocks; first += of_cluster) {
    for (unsigned rank = 0; rank < of_cluster; ++rank) {
      enter_block(rank);
      begin_block(threads, seed);
    }
    unsigned ended = 0;
    while (ended < of_cluster) {
      ++rounds;
      unsigned meeting = 0;
      bool is_any = messages_under_way > 0;
      ended = 0;
      for (unsigned rank = 0; rank < of_cluster; ++rank) {
        enter_block(rank);
        if (all_wait_for(THE_END, 0, threads)) {
          ++ended;
          continue;
        }
        blockIdx.x = first + rank;
        is_any = run_block(threads, &seed) || is_any;
        deliver(threads, &seed);
        meeting += all_wait_for(ITS_CLUSTER, 0, threads);
      }
      if (meeting == of_cluster)
        for (unsigned rank = 0; rank < of_cluster; ++rank) {
          enter_block(rank);
          release(0, threads);
        }
      else if (!is_any && ended < of_cluster)
        give_up(of_cluster, threads);
    }
    if (messages_under_way) abort();
  }
}
