// The kernel as a library of the processor's: what the tests load in place of a GPU.
#if defined(WAVENET_R)
#include "batch/batch.cu"
#elif defined(WAVENET_RELAY)
#include "pipeline/pipeline.cu"
#else
#include "general/wavenet.cu"
#if defined(WAVENET_INT8)
#include "micro/micro_products.cu"
#if __CUDA_ARCH__ >= 800
#include "single/single.cu"
#endif
#endif
#endif

// The kernel's arguments.
struct Arguments {
  const Params *params;
  const void *more;  // a Soloist or a Relay
};

#if defined(WAVENET_R)
static void choir_8(const void *all) { wavenet_choir_8(*((const Arguments *)all)->params); }
static void choir_16(const void *all) { wavenet_choir_16(*((const Arguments *)all)->params); }
static void choir_24(const void *all) { wavenet_choir_24(*((const Arguments *)all)->params); }
static void choir_32(const void *all) { wavenet_choir_32(*((const Arguments *)all)->params); }
static void (*const kernels[])(const void *) = {choir_8, choir_16, choir_24, choir_32};
#elif defined(WAVENET_RELAY)
static void relay_32(const void *all) {
  wavenet_relay_32_64_128(*((const Arguments *)all)->params, *(const Relay *)((const Arguments *)all)->more);
}
static void relay_64(const void *all) {
  wavenet_relay_64_256_256(*((const Arguments *)all)->params, *(const Relay *)((const Arguments *)all)->more);
}
static void (*const kernels[])(const void *) = {relay_32, relay_64};
#else
static void solo(const void *all) { wavenet_solo(*((const Arguments *)all)->params); }
static void choir(const void *all) { wavenet_choir(*((const Arguments *)all)->params); }
#if defined(WAVENET_INT8) && __CUDA_ARCH__ >= 800
static void soloist_32(const void *all) {
  wavenet_soloist_32_64_128(*((const Arguments *)all)->params, *(const Soloist *)((const Arguments *)all)->more);
}
static void soloist_64(const void *all) {
  wavenet_soloist_64_256_256(*((const Arguments *)all)->params, *(const Soloist *)((const Arguments *)all)->more);
}
static void (*const kernels[])(const void *) = {solo, choir, soloist_32, soloist_64};
#else
static void (*const kernels[])(const void *) = {solo, choir};
#endif
#endif

extern "C" void shim_launch(unsigned entry, const Params *params, const void *more, unsigned blocks, unsigned of_cluster,
                            unsigned threads, unsigned shared_bytes, uint64_t seed) {
  looks = 0;
  const Arguments arguments = {params, more};
  if (entry >= sizeof kernels / sizeof *kernels) abort();
  launch(kernels[entry], &arguments, blocks, threads, shared_bytes, seed, of_cluster);
}

extern "C" unsigned shim_soloist_bytes() { return sizeof(Soloist); }
extern "C" unsigned shim_relay_bytes() { return sizeof(Relay); }
extern "C" unsigned shim_params_bytes() { return sizeof(Params); }
extern "C" unsigned shim_voice_bytes() { return sizeof(Voice); }

#if !defined(WAVENET_R) && !defined(WAVENET_RELAY)
// One choice of a code, by one warp.
struct Choice {
  float *logits;
  u32 levels, drawn;
  u64 share;
  float temperature;
  u32 code;
};

static void choose_one(const void *argument) {
  Choice *choice = (Choice *)argument;
  u32 code = pick(choice->logits, choice->levels, choice->temperature, choice->share, choice->drawn);
  if (threadIdx.x == 0) choice->code = code;
}

extern "C" u32 shim_pick(float *logits, u32 levels, float temperature, u64 share, u32 drawn, uint64_t seed) {
  Choice choice = {logits, levels, drawn, share, temperature, ~0u};
  launch(choose_one, &choice, 1, WARP, 0, seed);
  return choice.code;
}

// One product on the matrix units, by one warp: what its lanes hold. Shapes: `a` [32][4], `b` [32][2], `sums`
// [32][4]; of the narrow one the first 1, 1 and 2 of them.
struct Fragments {
  const unsigned *a, *b;
  int *sums;
};

static void multiply_wide(const void *argument) {
  const Fragments &all = *(const Fragments *)argument;
  const unsigned *a = all.a + 4 * threadIdx.x, *b = all.b + 2 * threadIdx.x;
  mma_m16n8k32(a[0], a[1], a[2], a[3], b[0], b[1], all.sums + 4 * threadIdx.x);
}

static void multiply_narrow(const void *argument) {
  const Fragments &all = *(const Fragments *)argument;
  mma_m8n8k16(all.a[4 * threadIdx.x], all.b[2 * threadIdx.x], all.sums + 4 * threadIdx.x);
}

extern "C" void shim_mma(int is_wide, const unsigned *a, const unsigned *b, int *sums, uint64_t seed) {
  Fragments all = {a, b, sums};
  launch(is_wide ? multiply_wide : multiply_narrow, &all, 1, WARP, 0, seed);
}

// The same of bf16; the sums are floats.
struct FloatFragments {
  const unsigned *a, *b;
  float *sums;
};

static void multiply_floats(const void *argument) {
  const FloatFragments &all = *(const FloatFragments *)argument;
  const unsigned *a = all.a + 4 * threadIdx.x, *b = all.b + 2 * threadIdx.x;
  mma_m16n8k16(a[0], a[1], a[2], a[3], b[0], b[1], all.sums + 4 * threadIdx.x);
}

extern "C" void shim_mma_of_floats(const unsigned *a, const unsigned *b, float *sums, uint64_t seed) {
  FloatFragments all = {a, b, sums};
  launch(multiply_floats, &all, 1, WARP, 0, seed);
}

#if defined(WAVENET_INT8)
// What `--micro` measures.
struct Again {
  u32 turns;
  const uint4 *told;
  Found found;
};

static void again_rows(const void *argument) {
  Again *again = (Again *)argument;
  micro_rows(again->turns, &again->found, again->told);
}

static void again_tiles(const void *argument) {
  Again *again = (Again *)argument;
  micro_tiles(again->turns, &again->found, again->told);
}

extern "C" unsigned shim_multiply(int has_tiles, u32 turns, const uint4 *told, uint64_t seed) {
  Again again = {turns, told, {}};
  launch(has_tiles ? again_tiles : again_rows, &again, 2, 2 * WARP, 0, seed);
  return again.found.sum;
}
#endif

extern "C" void shim_math(const float *x, unsigned count, float *exps, float *tanhs, float *sigmoids) {
  for (unsigned i = 0; i < count; ++i) {
    exps[i] = exp_(x[i]);
    tanhs[i] = tanh_(x[i]);
    sigmoids[i] = sigmoid_(x[i]);
  }
}
#endif
