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
