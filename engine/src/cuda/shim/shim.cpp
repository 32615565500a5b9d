// The kernel as a library of the processor's: what the tests load in place of a GPU.
#if defined(WAVENET_R)
#include "batch/batch.cu"
#elif defined(WAVENET_PIPELINE) && defined(WAVENET_INT8)
#include "pipeline_int8/pipeline_int8.cu"
#elif defined(WAVENET_PIPELINE)
#include "pipeline_bf16/pipeline_bf16.cu"
#else
#include "general/general.cu"
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
  const void *more;
};

// A kernel that has one of them, or both.
template <auto KERNEL>
static void with_params(const void *all) {
  KERNEL(*((const Arguments *)all)->params);
}
template <typename More, auto KERNEL>
static void with_more(const void *all) {
  KERNEL(*((const Arguments *)all)->params, *(const More *)((const Arguments *)all)->more);
}

static void (*const kernels[])(const void *) = {
#if defined(WAVENET_R)
    with_params<wavenet_batch_8>, with_params<wavenet_batch_16>, with_params<wavenet_batch_24>,
    with_params<wavenet_batch_32>,
#elif defined(WAVENET_PIPELINE) && defined(WAVENET_INT8)
    with_more<PipelineInt8Args, wavenet_pipeline_int8_64_256_256>,
    with_more<PipelineInt8Args, wavenet_pipeline_int8_128_256_256>,
#elif defined(WAVENET_PIPELINE)
    with_more<PipelineBf16Args, wavenet_pipeline_bf16_32_64_128>,
    with_more<PipelineBf16Args, wavenet_pipeline_bf16_64_256_256>,
#else
    with_params<wavenet_general_single>, with_params<wavenet_general_batch>,
#if defined(WAVENET_INT8) && __CUDA_ARCH__ >= 800
    with_more<SingleArgs, wavenet_single_32_64_128>, with_more<SingleArgs, wavenet_single_64_256_256>,
#endif
#endif
};

extern "C" void shim_launch(unsigned entry, const Params *params, const void *more, unsigned blocks, unsigned of_cluster,
                            unsigned threads, unsigned shared_bytes, uint64_t seed) {
  looks = 0;
  const Arguments arguments = {params, more};
  if (entry >= sizeof kernels / sizeof *kernels) abort();
  launch(kernels[entry], &arguments, blocks, threads, shared_bytes, seed, of_cluster);
}

extern "C" unsigned shim_single_args_bytes() { return sizeof(SingleArgs); }
extern "C" unsigned shim_pipeline_int8_args_bytes() { return sizeof(PipelineInt8Args); }
extern "C" unsigned shim_pipeline_bf16_args_bytes() { return sizeof(PipelineBf16Args); }
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

#if __CUDA_ARCH__ >= 800
extern "C" void shim_scales(const u32 *largest, unsigned count, float most, float *factors, float *scales) {
  for (unsigned i = 0; i < count; ++i) {
    const Scale scale(largest[i], most);
    factors[i] = scale.factor;
    scales[i] = scale.scale;
  }
}
#endif
#endif

extern "C" void shim_math(const float *x, unsigned count, float *exps, float *tanhs, float *sigmoids) {
  for (unsigned i = 0; i < count; ++i) {
    exps[i] = exp_(x[i]);
    tanhs[i] = tanh_(x[i]);
    sigmoids[i] = sigmoid_(x[i]);
  }
}
#endif
