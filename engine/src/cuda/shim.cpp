// The kernel as a library of the processor's: what the tests load in place of a GPU.
#include "wavenet.cu"

static void solo(const void *params) { wavenet_solo(*(const Params *)params); }
static void choir(const void *params) { wavenet_choir(*(const Params *)params); }

extern "C" void shim_launch(int is_choir, const Params *params, unsigned blocks, unsigned threads,
                            unsigned shared_bytes, uint64_t seed) {
  looks = 0;
  launch(is_choir ? choir : solo, params, blocks, threads, shared_bytes, seed);
}

extern "C" unsigned shim_params_bytes() { return sizeof(Params); }
extern "C" unsigned shim_voice_bytes() { return sizeof(Voice); }

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

extern "C" void shim_math(const float *x, unsigned count, float *exps, float *tanhs, float *sigmoids) {
  for (unsigned i = 0; i < count; ++i) {
    exps[i] = exp_(x[i]);
    tanhs[i] = tanh_(x[i]);
    sigmoids[i] = sigmoid_(x[i]);
  }
}
