//! Element-wise work between the matrix products, in loops that become vector instructions: each
//! function is one `pulp` dispatch around plain Rust (inlined by force: a loop that is not compiled
//! inside the dispatch calls a library for every fused multiply-add, and runs 10 times slower). tanh, sigmoid and exp
//! are the engine's own, so training and playing compute the same function.

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

/// Gated units of whole rows: `sums` `[rows][2 G]` becomes (tanh, sigmoid) in place, and `z`
/// `[rows][G]`, its rows `stride` apart, their product.
pub(crate) fn gate(sums: &mut [f32], g: usize, z: &mut [f32], stride: usize) {
    vectorised(
        #[inline(always)]
        || {
            for (sums, z) in sums.chunks_exact_mut(2 * g).zip(z.chunks_mut(stride)) {
                let (filters, gates) = sums.split_at_mut(g);
                for filter in filters.iter_mut() {
                    *filter = tanh(*filter);
                }
                for gate in gates.iter_mut() {
                    *gate = sigmoid(*gate);
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

/// `relu(values)` in place.
pub(crate) fn relu(values: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for value in values.iter_mut() {
                *value = value.max(0.0);
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

/// Adds to each row of `out` (`[rows][width]`) the one of `table` that its code names.
pub(crate) fn add_named_rows(out: &mut [f32], table: &[f32], width: usize, codes: &[u8]) {
    vectorised(
        #[inline(always)]
        || {
            for (out, &code) in out.chunks_exact_mut(width).zip(codes) {
                let named = &table[usize::from(code) * width..][..width];
                for (out, value) in out.iter_mut().zip(named) {
                    *out += value;
                }
            }
        },
    );
}

/// Adds each row of `values` (`[rows][width]`) to the one of `table` that its code names.
pub(crate) fn add_to_named_rows(table: &mut [f32], values: &[f32], width: usize, codes: &[u8]) {
    vectorised(
        #[inline(always)]
        || {
            for (values, &code) in values.chunks_exact(width).zip(codes) {
                let named = &mut table[usize::from(code) * width..][..width];
                for (out, value) in named.iter_mut().zip(values) {
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

/// Softmax cross-entropy of rows of `logits`, `levels` wide, which become its gradient.
pub(crate) fn softmax_loss(logits: &mut [f32], levels: usize, targets: &[u8]) -> LossSum {
    let mut loss = LossSum::default();
    vectorised(
        #[inline(always)]
        || {
            for (row, &target) in logits.chunks_exact_mut(levels).zip(targets) {
                let target = usize::from(target);
                let (blocks, rest) = row.as_chunks::<16>();
                let mut maxima = [f32::NEG_INFINITY; 16];
                for block in blocks {
                    for (max, &logit) in maxima.iter_mut().zip(block) {
                        *max = if logit > *max { logit } else { *max };
                    }
                }
                let max = maxima.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
                let truth = row[target];
                loss.hits += u64::from(truth >= max);
                let (blocks, rest) = row.as_chunks_mut::<16>();
                let mut sums = [0.0_f32; 16];
                for block in blocks {
                    for (logit, sum) in block.iter_mut().zip(&mut sums) {
                        *logit = exp(*logit - max);
                        *sum += *logit;
                    }
                }
                for (logit, sum) in rest.iter_mut().zip(&mut sums) {
                    *logit = exp(*logit - max);
                    *sum += *logit;
                }
                let sum: f32 = sums.iter().sum();
                loss.nats += libm::log(f64::from(sum)) + f64::from(max - truth);
                let factor = 1.0 / sum;
                for p in row.iter_mut() {
                    *p *= factor;
                }
                row[target] -= 1.0;
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
        let mut gradient = logits;
        let loss = softmax_loss(&mut gradient, 4, &[0]);
        let exps: Vec<f64> = logits.iter().map(|&logit| libm::exp(f64::from(logit))).collect();
        let sum: f64 = exps.iter().sum();
        assert!((loss.nats + libm::log(exps[0] / sum)).abs() < 1e-6);
        assert_eq!(loss.hits, 0);
        for (code, gradient) in gradient.iter().enumerate() {
            let truth = exps[code] / sum - f64::from(code == 0);
            assert!((f64::from(*gradient) - truth).abs() < 1e-6);
        }
    }

    #[test]
    fn a_nan_in_the_logits_reaches_the_loss() {
        let mut logits = [0.0, f32::NAN, 1.0];
        let loss = softmax_loss(&mut logits, 3, &[0]);
        assert!(loss.nats.is_nan());
    }
}
