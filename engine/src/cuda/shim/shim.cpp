// The kernel as a library of the processor's: what the tests load in place of a GPU.
#if defined(WAVENET_R)
#include "batch/batch.cu"
#elif defined(WAVENET_PIPELINE)
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
  const void *more;  // a SingleArgs or a PipelineArgs
};

#if defined(WAVENET_R)
static void batch_8(const void *all) { wavenet_batch_8(*((const Arguments *)all)->params); }
static void batch_16(const void *all) { wavenet_batch_16(*((const Arguments *)all)->params); }
static void batch_24(const void *all) { wavenet_batch_24(*((const Arguments *)all)->params); }
static void batch_32(const void *all) { wavenet_batch_32(*((const Arguments *)all)->params); }
static void (*const kernels[])(const void *) = {batch_8, batch_16, batch_24, batch_32};
#elif defined(WAVENET_PIPELINE)
static void pipeline_32(const void *all) {
  wavenet_pipeline_32_64_128(*((const Arguments *)all)->params, *(const PipelineArgs *)((const Arguments *)all)->more);
}
static void pipeline_64(const void *all) {
  wavenet_pipeline_64_256_256(*((const Arguments *)all)->params, *(const PipelineArgs *)((const Arguments *)all)->more);
}
static void (*const kernels[])(const void *) = {pipeline_32, pipeline_64};
#else
static void general_single(const void *all) { wavenet_general_single(*((const Arguments *)all)->params); }
static void general_batch(const void *all) { wavenet_general_batch(*((const Arguments *)all)->params); }
#if defined(WAVENET_INT8) && __CUDA_ARCH__ >= 800
static void single_32(const void *all) {
  wavenet_single_32_64_128(*((const Arguments *)all)->params, *(const SingleArgs *)((const Arguments *)all)->more);
}
static void single_64(const void *all) {
  wavenet_single_64_256_256(*((const Arguments *)all)->params, *(const SingleArgs *)((const Arguments *)all)->more);
}
static void (*const kernels[])(const void *) = {general_single, general_batch, single_32, single_64};
#else
static void (*const kernels[])(const void *) = {general_single, general_batch};
#endif
#endif

extern "C" void shim_launch(unsigned entry, const Params *params, const void *more, unsigned blocks, unsigned of_cluster,
                            unsigned threads, unsigned shared_bytes, uint64_t seed) {
  looks = 0;
  const Arguments arguments = {params, more};
  if (entry >= sizeof kernels / sizeof *kernels) abort();
  launch(kernels[entry], &arguments, blocks, threads, shared_bytes, seed, of_cluster);
}

extern "C" unsigned shim_single_args_bytes() { return sizeof(SingleArgs); }
extern "C" unsigned shim_pipeline_args_bytes() { return sizeof(PipelineArgs); }
extern "C" unsigned shim_params_bytes() { return sizeof(Params); }
extern "C" unsigned shim_voice_bytes() { return sizeof(Voice); }

#if !defined(WAVENET_R) && !defined(WAVENET_PIPELINE)
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
