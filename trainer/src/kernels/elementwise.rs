//! Element-wise work between the matrix products, in loops that become vector instructions: each
//! function is one `pulp` dispatch around plain Rust (inlined by force: a loop that is not compiled
//! inside the dispatch calls a library for every fused multiply-add, and runs 10 times slower). tanh, sigmoid and exp are the engine's own,
//! so training and playing compute the same function.

use pulp::{Arch, NullaryFnOnce};
use wavenet_engine::math::{exp, sigmoid, tanh};

/// Runs a loop with the widest vector instructions of the machine.
fn vectorised<R>(body: impl FnMut() -> R) -> R {
    /// A closure that mutates is called by `call_mut`, its own body; `call_once` would be a shim
    /// around it that is not inlined.
    struct Inlined<F>(F);
    impl<R, F: FnMut() -> R> NullaryFnOnce for Inlined<F> {
        type Output = R;
        #[inline(always)]
        fn call(mut self) -> R {
            (self.0)()
        }
    }
    Arch::new().dispatch(Inlined(body))
}

/// Gated units of whole rows: `sums` `[rows][2 G]` plus `bias` becomes (tanh, sigmoid) in place, and
/// `z` `[rows][G]`, its rows `stride` apart, their product.
pub(crate) fn gate(sums: &mut [f32], bias: &[f32], z: &mut [f32], stride: usize) {
    let g = bias.len() / 2;
    let (filter_bias, gate_bias) = bias.split_at(g);
    vectorised(
        #[inline(always)]
        || {
            for (sums, z) in sums.chunks_exact_mut(2 * g).zip(z.chunks_mut(stride)) {
                let (filters, gates) = sums.split_at_mut(g);
                for (filter, bias) in filters.iter_mut().zip(filter_bias) {
                    *filter = tanh(*filter + bias);
                }
                for (gate, bias) in gates.iter_mut().zip(gate_bias) {
                    *gate = sigmoid(*gate + bias);
                }
                for ((z, filter), gate) in z.iter_mut().zip(filters).zip(gates) {
                    *z = *filter * *gate;
                }
            }
        },
    );
}

/// Gradient through the gated units: from the gradient of their product, which `z` holds, and the saved
/// (tanh, sigmoid) to `dsums` `[rows][2 G]`. In `z` (`[rows][G]`, rows `stride` apart) it leaves the
/// product itself.
pub(crate) fn gate_backward(
    gates: &[f32],
    g: usize,
    z: &mut [f32],
    stride: usize,
    dsums: &mut [f32],
) {
    vectorised(
        #[inline(always)]
        || {
            let rows = gates.chunks_exact(2 * g).zip(z.chunks_mut(stride));
            for ((gates, z), dsums) in rows.zip(dsums.chunks_exact_mut(2 * g)) {
                let (filters, gates) = gates.split_at(g);
                let (dfilters, dgates) = dsums.split_at_mut(g);
                // Iterators and not indices: a check of bounds would keep it from being vectorised.
                let saved = filters.iter().zip(gates).zip(z);
                for ((dfilter, dgate), ((t, s), z)) in dfilters.iter_mut().zip(dgates).zip(saved) {
                    let dz = *z;
                    *dfilter = dz * s * (1.0 - t * t);
                    *dgate = dz * t * s * (1.0 - s);
                    *z = t * s;
                }
            }
        },
    );
}

/// `relu(values + bias)` of whole rows, in place.
pub(crate) fn relu_rows(values: &mut [f32], bias: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for row in values.chunks_exact_mut(bias.len()) {
                for (value, bias) in row.iter_mut().zip(bias) {
                    *value = (*value + bias).max(0.0);
                }
            }
        },
    );
}

/// Zeroes a gradient where the activation was zero.
pub(crate) fn relu_backward(activations: &[f32], gradient: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (gradient, activation) in gradient.iter_mut().zip(activations) {
                *gradient = if *activation > 0.0 { *gradient } else { 0.0 };
            }
        },
    );
}

/// `next = x + (next + bias)` for whole rows: from a layer's residual to the next layer's input.
pub(crate) fn residual(next: &mut [f32], bias: &[f32], x: &[f32]) {
    let r = bias.len();
    vectorised(
        #[inline(always)]
        || {
            for (next, x) in next.chunks_exact_mut(r).zip(x.chunks_exact(r)) {
                for ((next, x), bias) in next.iter_mut().zip(x).zip(bias) {
                    *next = x + (*next + bias);
                }
            }
        },
    );
}

/// Copies rows of `width` that follow each other in `values` to rows `stride` apart.
pub(crate) fn copy_rows(values: &[f32], width: usize, out: &mut [f32], stride: usize) {
    vectorised(
        #[inline(always)]
        || {
            for (out, values) in out.chunks_mut(stride).zip(values.chunks_exact(width)) {
                // Blocks of a known size are moved by instructions, others by a call for each row.
                let (blocks, rest) = values.as_chunks::<16>();
                let (out, out_rest) = out[..width].as_chunks_mut::<16>();
                for (out, block) in out.iter_mut().zip(blocks) {
                    *out = *block;
                }
                for (out, value) in out_rest.iter_mut().zip(rest) {
                    *out = *value;
                }
            }
        },
    );
}

/// `out += values` for rows that lie `stride` apart in `values` and follow each other in `out`
/// (`[rows][width]`).
pub(crate) fn add_rows(out: &mut [f32], values: &[f32], width: usize, stride: usize) {
    vectorised(
        #[inline(always)]
        || {
            for (out, values) in out.chunks_exact_mut(width).zip(values.chunks(stride)) {
                for (out, value) in out.iter_mut().zip(values) {
                    *out += value;
                }
            }
        },
    );
}

/// `out += values`
pub(crate) fn add(out: &mut [f32], values: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (out, value) in out.iter_mut().zip(values) {
                *out += value;
            }
        },
    );
}

/// `sums += column sums of values`, `[rows][sums.len()]`.
pub(crate) fn add_columns(values: &[f32], sums: &mut [f32]) {
    let width = sums.len();
    vectorised(
        #[inline(always)]
        || {
            // Sixteen columns at a time: their sums stay in a register.
            let (blocks, rest) = sums.as_chunks_mut::<16>();
            let first_of_rest = 16 * blocks.len();
            for (index, sums) in blocks.iter_mut().enumerate() {
                let mut sum = *sums;
                for row in values.chunks_exact(width) {
                    for (sum, value) in sum.iter_mut().zip(&row[16 * index..][..16]) {
                        *sum += value;
                    }
                }
                *sums = sum;
            }
            if !rest.is_empty() {
                for row in values.chunks_exact(width) {
                    for (sum, value) in rest.iter_mut().zip(&row[first_of_rest..]) {
                        *sum += value;
                    }
                }
            }
        },
    );
}

/// What the softmax made of some rows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LossSum {
    /// Sum of cross-entropies in nats.
    pub(crate) nats: f64,
    /// Rows whose likeliest code was the true one.
    pub(crate) hits: u64,
}

/// Softmax cross-entropy of rows of `logits` (to which `bias` is still to be added); `logits`
/// becomes the gradient, times `scale`.
pub(crate) fn softmax_loss(
    logits: &mut [f32],
    bias: &[f32],
    targets: &[u8],
    scale: f32,
) -> LossSum {
    let mut loss = LossSum::default();
    vectorised(
        #[inline(always)]
        || {
            for (row, &target) in logits.chunks_exact_mut(bias.len()).zip(targets) {
                let target = usize::from(target);
                let mut max = f32::NEG_INFINITY;
                for (logit, bias) in row.iter_mut().zip(bias) {
                    *logit += bias;
                    max = max.max(*logit);
                }
                let truth = row[target];
                loss.hits += u64::from(truth >= max);
                // Sixteen partial sums: one chain would wait for itself.
                let mut partial = [0.0_f32; 16];
                for row in row.chunks_mut(16) {
                    for (logit, sum) in row.iter_mut().zip(&mut partial) {
                        *logit = exp(*logit - max);
                        *sum += *logit;
                    }
                }
                let sum: f32 = partial.iter().sum();
                loss.nats += libm::log(f64::from(sum)) + f64::from(max - truth);
                let factor = scale / sum;
                for p in row.iter_mut() {
                    *p *= factor;
                }
                row[target] -= scale;
            }
        },
    );
    loss
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_loss_and_gradient_match_the_definition() {
        let logits = [0.5_f32, -1.0, 2.0, 0.0];
        let bias = [0.1, 0.2, -0.3, 0.0];
        let mut gradient = logits;
        let loss = softmax_loss(&mut gradient, &bias, &[0], 2.0);
        let exps: Vec<f64> =
            logits.iter().zip(&bias).map(|(l, b)| libm::exp(f64::from(l + b))).collect();
        let sum: f64 = exps.iter().sum();
        assert!((loss.nats + libm::log(exps[0] / sum)).abs() < 1e-6);
        assert_eq!(loss.hits, 0);
        for (code, gradient) in gradient.iter().enumerate() {
            let truth = 2.0 * (exps[code] / sum - f64::from(code == 0));
            assert!((f64::from(*gradient) - truth).abs() < 1e-6);
        }
    }

    #[test]
    fn a_nan_in_the_logits_reaches_the_loss() {
        let mut logits = [0.0, f32::NAN, 1.0];
        let loss = softmax_loss(&mut logits, &[0.0; 3], &[0], 1.0);
        assert!(loss.nats.is_nan());
    }
}
