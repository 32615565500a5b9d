// What stands between the products of a training step, each part one kernel. The functions of parts.rs say what
// they compute; there the same is written in candle's operations.
//
// Every kernel exists for f32 and for bf16 activations, and computes in f32. One thread makes one number unless it says
// otherwise, and the order of every sum is fixed.

#include <cuda_bf16.h>

typedef unsigned int u32;

__device__ inline float wide(float x) { return x; }
__device__ inline float wide(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline void put(float *to, float x) { *to = x; }
__device__ inline void put(__nv_bfloat16 *to, float x) { *to = __float2bfloat16(x); }
__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ inline u32 index() { return blockIdx.x * blockDim.x + threadIdx.x; }

// The taps of each row beside its conditioning: [rows, taps * channels + rest].
template <typename T>
__device__ void heard(const T *x, const T *constant, u32 rows, u32 taps, u32 channels, u32 rest,
                      u32 step_rows, u32 lead, T *out) {
  u32 width = taps * channels + rest, at = index();
  if (at >= rows * width) return;
  u32 row = at / width, column = at % width;
  if (column >= taps * channels) {
    out[at] = constant[row * rest + column - taps * channels];
    return;
  }
  u32 from = row + column / channels * step_rows;
  if (from < lead) put(out + at, 0.0f);
  else out[at] = x[(from - lead) * channels + column % channels];
}

// [rows, units + ones]
template <typename T>
__device__ void gate(const T *sums, u32 rows, u32 units, u32 ones, T *out) {
  u32 width = units + ones, at = index();
  if (at >= rows * width) return;
  u32 row = at / width, column = at % width;
  if (column >= units) {
    put(out + at, column == units ? 1.0f : 0.0f);
    return;
  }
  const T *sum = sums + row * 2 * units + column;
  put(out + at, tanhf(wide(sum[0])) * sigmoid(wide(sum[units])));
}

// One thread a gated unit. The first `missing` rows have nothing from the skips.
template <typename T>
__device__ void gate_backward(const T *sums, const T *from_residual, u32 has_residual, const T *from_skips,
                              u32 skips_width, u32 missing, u32 rows, u32 units, T *out) {
  u32 at = index();
  if (at >= rows * units) return;
  u32 row = at / units, unit = at % units;
  float gradient = row < missing ? 0.0f : wide(from_skips[(row - missing) * skips_width + unit]);
  if (has_residual) gradient += wide(from_residual[at]);
  u32 place = row * 2 * units + unit;
  float filter = tanhf(wide(sums[place])), gate = sigmoid(wide(sums[place + units]));
  gradient *= gate;
  put(out + place, gradient * (1.0f - filter * filter));
  put(out + place + units, gradient * filter * (1.0f - gate));
}

// [rows + missing, channels]
template <typename T>
__device__ void input_gradient(const T *above, u32 has_above, const T *dtaps, u32 rows, u32 missing, u32 taps,
                               u32 channels, u32 step_rows, T *out) {
  u32 at = index();
  if (at >= (rows + missing) * channels) return;
  u32 row = at / channels, channel = at % channels;
  float sum = has_above && row >= missing ? wide(above[(row - missing) * channels + channel]) : 0.0f;
  for (u32 tap = 0; tap < taps; tap++) {
    u32 heard_by = row + (taps - 1 - tap) * step_rows;
    if (heard_by >= missing && heard_by - missing < rows)
      sum += wide(dtaps[((heard_by - missing) * taps + tap) * channels + channel]);
  }
  put(out + at, sum);
}

// A bias added to every row, and a ReLU where one is asked for.
template <typename T>
__device__ void affine_end(const T *x, const T *bias, u32 rows, u32 columns, u32 has_relu, T *out) {
  u32 at = index();
  if (at >= rows * columns) return;
  float sum = wide(x[at]) + wide(bias[at % columns]);
  put(out + at, has_relu ? fmaxf(sum, 0.0f) : sum);
}

template <typename T>
__device__ void relu_backward(const T *gradient, const T *output, u32 count, T *out) {
  u32 at = index();
  if (at < count) put(out + at, wide(output[at]) > 0.0f ? wide(gradient[at]) : 0.0f);
}

// [rows, levels]
template <typename T>
__device__ void one_hot(const u32 *codes, u32 rows, u32 levels, T *out) {
  u32 at = index();
  if (at < rows * levels) put(out + at, codes[at / levels] == at % levels ? 1.0f : 0.0f);
}

__device__ inline float warp_max(float x) {
  for (u32 lane = 16; lane > 0; lane /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, lane));
  return x;
}

__device__ inline float warp_sum(float x) {
  for (u32 lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(~0u, x, lane);
  return x;
}

// One warp a row. `measured` gets the nats of all rows, then their hits; the logits' gradient is written where it is
// asked for. No number of a row may be left in a fast way: an infinite logit must give a loss that is no number.
template <typename T>
__device__ void cross_entropy(const T *logits, const u32 *targets, const float *counts, u32 has_counts, u32 rows,
                              u32 levels, float share, u32 with_gradient, float *measured, T *dlogits) {
  u32 row = index() / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;
  const T *logit = logits + row * levels;
  float largest = -__int_as_float(0x7f800000);
  for (u32 level = lane; level < levels; level += 32) largest = fmaxf(largest, wide(logit[level]));
  largest = warp_max(largest);
  float sum = 0.0f;
  for (u32 level = lane; level < levels; level += 32) sum += expf(wide(logit[level]) - largest);
  sum = warp_sum(sum);
  float count = has_counts ? counts[row] : 1.0f;
  u32 target = targets[row];
  if (lane == 0) {
    float true_one = wide(logit[target]);
    measured[row] = count == 0.0f ? 0.0f : logf(sum) + largest - true_one;
    measured[rows + row] = true_one >= largest ? count : 0.0f;
  }
  if (!with_gradient) return;
  for (u32 level = lane; level < levels; level += 32) {
    float likelihood = expf(wide(logit[level]) - largest) / sum;
    put(dlogits + row * levels + level, count * share * (likelihood - (level == target ? 1.0f : 0.0f)));
  }
}

#define FOR_TYPE(T, suffix)                                                                                        \
  extern "C" __global__ void heard_##suffix(const T *x, const T *constant, u32 rows, u32 taps, u32 channels,      \
                                            u32 rest, u32 step_rows, u32 lead, T *out) {                          \
    heard<T>(x, constant, rows, taps, channels, rest, step_rows, lead, out);                                      \
  }                                                                                                                \
  extern "C" __global__ void gate_##suffix(const T *sums, u32 rows, u32 units, u32 ones, T *out) {                \
    gate<T>(sums, rows, units, ones, out);                                                                        \
  }                                                                                                                \
  extern "C" __global__ void gate_backward_##suffix(const T *sums, const T *from_residual, u32 has_residual,      \
                                                    const T *from_skips, u32 skips_width, u32 missing, u32 rows,  \
                                                    u32 units, T *out) {                                          \
    gate_backward<T>(sums, from_residual, has_residual, from_skips, skips_width, missing, rows, units, out);      \
  }                                                                                                                \
  extern "C" __global__ void input_gradient_##suffix(const T *above, u32 has_above, const T *dtaps, u32 rows,     \
                                                     u32 missing, u32 taps, u32 channels, u32 step_rows,          \
                                                     T *out) {                                                    \
    input_gradient<T>(above, has_above, dtaps, rows, missing, taps, channels, step_rows, out);                    \
  }                                                                                                                \
  extern "C" __global__ void affine_end_##suffix(const T *x, const T *bias, u32 rows, u32 columns, u32 has_relu,  \
                                                 T *out) {                                                        \
    affine_end<T>(x, bias, rows, columns, has_relu, out);                                                         \
  }                                                                                                                \
  extern "C" __global__ void relu_backward_##suffix(const T *gradient, const T *output, u32 count, T *out) {      \
    relu_backward<T>(gradient, output, count, out);                                                               \
  }                                                                                                                \
  extern "C" __global__ void one_hot_##suffix(const u32 *codes, u32 rows, u32 levels, T *out) {                   \
    one_hot<T>(codes, rows, levels, out);                                                                         \
  }                                                                                                                \
  extern "C" __global__ void cross_entropy_##suffix(const T *logits, const u32 *targets, const float *counts,     \
                                                    u32 has_counts, u32 rows, u32 levels, float share,            \
                                                    u32 with_gradient, float *measured, T *dlogits) {             \
    cross_entropy<T>(logits, targets, counts, has_counts, rows, levels, share, with_gradient, measured, dlogits); \
  }

FOR_TYPE(float, f32)
FOR_TYPE(__nv_bfloat16, bf16)

// One block of 256 threads a partial sum of squares.
extern "C" __global__ void squares(const float *x, u32 count, float *out) {
  __shared__ float sums[256];
  float sum = 0.0f;
  for (u32 at = index(); at < count; at += gridDim.x * blockDim.x) sum += x[at] * x[at];
  sums[threadIdx.x] = sum;
  for (u32 half = 128; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x == 0) out[blockIdx.x] = sums[0];
}

// `state` is weights, mean, square and average one after another; so is `out`.
extern "C" __global__ void adamw(const float *state, const float *gradient, u32 count, float share, float beta1,
                                 float beta2, float correct1, float correct2, float epsilon, float rate, float decay,
                                 float keep, float *out) {
  u32 at = index();
  if (at >= count) return;
  float g = share * gradient[at], weight = state[at];
  float mean = beta1 * state[count + at] + (1.0f - beta1) * g;
  float square = beta2 * state[2 * count + at] + (1.0f - beta2) * g * g;
  float step = (mean / correct1) / (sqrtf(square / correct2) + epsilon);
  weight -= rate * (step + decay * weight);
  float average = state[3 * count + at];
  out[at] = weight;
  out[count + at] = mean;
  out[2 * count + at] = square;
  out[3 * count + at] = average + (1.0f - keep) * (weight - average);
}
