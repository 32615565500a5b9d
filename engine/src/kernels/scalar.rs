//! The readable truth: one sample of one lane, in plain Rust. Every other kernel must equal it to
//! the byte.
//!
//! van den Oord 2016, equation 5 with local conditioning, for layer l at time t:
//!
//! ```text
//! z = tanh(W_f * x + V_f h) . sigmoid(W_g * x + V_g h)
//! x' = x + W_r z + b_r
//! s += W_s z
//! logits = W_2 relu(W_1 relu(s) + b_1) + b_2
//! ```
//!
//! The inner loops run over 16 rows at once and so become vector instructions.

use super::packed::{BLOCK, Matrix, PackedWeights, QUARTERS, padded};
use crate::math::{sigmoid, tanh};
use crate::queue::{QueueShape, Queues};

/// Buffers between the products, all padded to whole blocks. What they hold between steps does not
/// matter.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Layer input, `[R']`.
    x: Vec<f32>,
    /// Sums of the filter, then of the gate, `[2 G']`.
    sums: Vec<f32>,
    /// A product before it is added, as wide as the widest layer.
    product: Vec<f32>,
    /// Conditioning vector, `[H']`.
    h: Vec<f32>,
    /// Gated units, `[G']`.
    z: Vec<f32>,
    /// Sum of skips, `[S']`.
    skips: Vec<f32>,
    /// Hidden units of the head, `[A']`.
    hidden: Vec<f32>,
}

impl Scratch {
    pub(super) fn new(weights: &PackedWeights) -> Self {
        let gates = weights.layers.first().map_or(0, |layer| layer.bias.len());
        let (a, levels) = (weights.end1.1.len(), weights.end2.1.len());
        let s = weights.skip_bias.len();
        let widest = weights.residual_width.max(gates).max(s).max(a).max(levels);
        Self {
            x: vec![0.0; weights.residual_width],
            sums: vec![0.0; gates],
            product: vec![0.0; widest],
            h: vec![0.0; padded(weights.conditioning_channels)],
            z: vec![0.0; gates / 2],
            skips: vec![0.0; s],
            hidden: vec![0.0; a],
        }
    }
}

#[cfg(test)]
impl Scratch {
    /// Fills every buffer that a step writes before it reads. (Padding of `h` beyond the
    /// conditioning is never written, and stays zero.)
    pub(super) fn poison(&mut self, value: f32) {
        let Self { x, sums, product, z, skips, hidden, .. } = self;
        for buffer in [x, sums, product, z, skips, hidden] {
            buffer.fill(value);
        }
    }
}

/// Computes the logits of the next code and pushes every layer's input into its queue.
#[inline(always)]
pub(super) fn step(
    weights: &PackedWeights,
    shape: &QueueShape,
    queues: &mut Queues,
    scratch: &mut Scratch,
    code: u8,
    conditioning: &[f32],
    logits: &mut [f32],
) {
    let Scratch { x, sums, product, h, z, skips, hidden } = scratch;
    let width = weights.residual_width;
    x.copy_from_slice(&weights.embedding[usize::from(code) * width..][..width]);
    h[..conditioning.len()].copy_from_slice(conditioning);
    skips.copy_from_slice(&weights.skip_bias);

    for (index, layer) in weights.layers.iter().enumerate() {
        let past_taps = layer.taps.len() - 1;
        sums.copy_from_slice(&layer.bias);
        for (tap, matrix) in layer.taps[..past_taps].iter().enumerate() {
            add_product(matrix, queues.past(shape, index, past_taps - tap), sums, product);
        }
        if let Some(matrix) = &layer.conditioning {
            add_product(matrix, h, sums, product);
        }
        add_product(&layer.taps[past_taps], x, sums, product);
        queues.push(shape, index, x);

        let (filter, gate) = sums.split_at(z.len());
        for ((z, &filter), &gate) in z.iter_mut().zip(filter).zip(gate) {
            *z = tanh(filter) * sigmoid(gate);
        }
        add_product(&layer.skip, z, skips, product);
        if let Some((matrix, bias)) = &layer.residual {
            multiply(matrix, z, product);
            for ((x, &p), &b) in x.iter_mut().zip(product.iter()).zip(bias) {
                *x += b + p;
            }
        }
    }
    queues.advance();

    relu(skips);
    hidden.copy_from_slice(&weights.end1.1);
    add_product(&weights.end1.0, skips, hidden, product);
    relu(hidden);
    multiply(&weights.end2.0, hidden, product);
    for ((logit, &p), &b) in logits.iter_mut().zip(product.iter()).zip(&weights.end2.1) {
        *logit = b + p;
    }
}

#[inline(always)]
fn relu(values: &mut [f32]) {
    for value in values {
        *value = if *value > 0.0 { *value } else { 0.0 };
    }
}

/// `sums += matrix x`
#[inline(always)]
fn add_product(matrix: &Matrix, x: &[f32], sums: &mut [f32], product: &mut [f32]) {
    multiply(matrix, x, product);
    for (sum, &p) in sums.iter_mut().zip(product.iter()) {
        *sum += p;
    }
}

/// `out = matrix x`, each row by four chains of fused multiply-adds.
#[inline(always)]
fn multiply(matrix: &Matrix, x: &[f32], out: &mut [f32]) {
    let len = matrix.quarter_len;
    let blocks = matrix.values.chunks_exact(len * QUARTERS * BLOCK);
    let (x0, rest) = x.split_at(len);
    let (x1, rest) = rest.split_at(len);
    let (x2, rest) = rest.split_at(len);
    let x3 = &rest[..len];
    for (block, out) in blocks.zip(out.chunks_exact_mut(BLOCK)) {
        let mut sums = [[0.0_f32; BLOCK]; QUARTERS];
        for (position, weights) in block.chunks_exact(QUARTERS * BLOCK).enumerate() {
            let inputs = [x0[position], x1[position], x2[position], x3[position]];
            for (quarter, sums) in sums.iter_mut().enumerate() {
                let weights = &weights[quarter * BLOCK..(quarter + 1) * BLOCK];
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = weight.mul_add(inputs[quarter], *sum);
                }
            }
        }
        for (row, out) in out.iter_mut().enumerate() {
            *out = ((sums[0][row] + sums[1][row]) + sums[2][row]) + sums[3][row];
        }
    }
}
