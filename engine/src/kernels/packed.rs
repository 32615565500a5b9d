//! Weights in the order in which the kernels read them.
//!
//! A matrix is cut into blocks of 16 output rows. Within a block, values lie by position in the
//! quarter, then quarter, then row: at each position the kernel broadcasts four inputs (one a
//! quarter) and reads 4 x 16 weights in a row. Inputs are padded with zeros to a multiple of four,
//! rows to a multiple of 16; the padding computes zeros.

use std::ops::Range;

use crate::weights::{AffineLayout, GateLayout, Weights};

/// Output rows of a block.
pub(super) const BLOCK: usize = 16;
/// Chains of fused multiply-adds a row.
pub(super) const QUARTERS: usize = 4;

/// Rounds up to whole blocks: the length of every buffer between products.
pub(super) fn padded(channels: usize) -> usize {
    channels.next_multiple_of(BLOCK)
}

/// A matrix in blocks.
#[derive(Debug)]
pub(super) struct Matrix {
    /// Shape: `[row blocks][quarter_len][QUARTERS][BLOCK]`.
    pub(super) values: Vec<f32>,
    /// Inputs of one quarter.
    pub(super) quarter_len: usize,
}

impl Matrix {
    /// Packs row-major matrices of `inputs` columns, stacked; each is padded to whole blocks.
    fn new(stack: &[&[f32]], inputs: usize) -> Self {
        let quarter_len = inputs.div_ceil(QUARTERS);
        let mut values = Vec::new();
        for rows in stack {
            let rows: Vec<&[f32]> = rows.chunks_exact(inputs).collect();
            for block in rows.chunks(BLOCK) {
                for position in 0..quarter_len {
                    for quarter in 0..QUARTERS {
                        let column = quarter * quarter_len + position;
                        values.extend((0..BLOCK).map(|row| {
                            block.get(row).and_then(|row| row.get(column)).copied().unwrap_or(0.0)
                        }));
                    }
                }
            }
        }
        Self { values, quarter_len }
    }
}

/// One residual block. G' and so on are padded widths; the filter's rows precede the gate's.
#[derive(Debug)]
pub(super) struct PackedLayer {
    /// One a tap, oldest first, each `[2 G', R]`.
    pub(super) taps: Vec<Matrix>,
    /// `[2 G', H]`
    pub(super) conditioning: Option<Matrix>,
    /// `[2 G']`
    pub(super) bias: Vec<f32>,
    /// `[S', G]`
    pub(super) skip: Matrix,
    /// `[R', G]` and `[R']`; none in the last block.
    pub(super) residual: Option<(Matrix, Vec<f32>)>,
}

/// All weights of a model.
#[derive(Debug)]
pub(super) struct PackedWeights {
    /// R': floats of one row of a queue.
    pub(super) residual_width: usize,
    /// `[levels][R']`
    pub(super) embedding: Vec<f32>,
    /// `[classes][class_channels]`, not padded.
    pub(super) class_embedding: Vec<f32>,
    pub(super) layers: Vec<PackedLayer>,
    /// Biases of all skips, summed from the first layer to the last. `[S']`
    pub(super) skip_bias: Vec<f32>,
    /// `[A', S]` and `[A']`
    pub(super) end1: (Matrix, Vec<f32>),
    /// `[levels', A]` and `[levels']`
    pub(super) end2: (Matrix, Vec<f32>),
    /// H, not padded.
    pub(super) conditioning_channels: usize,
}

impl PackedWeights {
    pub(super) fn new(weights: &Weights) -> Self {
        let config = weights.config();
        let layout = weights.layout();
        let (r, g) = (config.residual_channels, config.gate_channels);
        let h = config.conditioning_channels();

        let embedding = weights.get(&layout.embedding).chunks_exact(r).flat_map(|row| {
            let padding = padded(r) - r;
            row.iter().copied().chain(std::iter::repeat_n(0.0, padding))
        });
        let mut skip_bias = vec![0.0; padded(config.skip_channels)];
        let mut layers = Vec::with_capacity(config.layers());
        for layer in &layout.layers {
            for (sum, bias) in skip_bias.iter_mut().zip(weights.get(&layer.skip.bias)) {
                *sum += bias;
            }
            let tap = |gate: &GateLayout, tap: usize| -> Range<usize> {
                let start = gate.taps.start + tap * g * r;
                start..start + g * r
            };
            let pair = |filter: &Range<usize>, gate: &Range<usize>, inputs| {
                Matrix::new(&[weights.get(filter), weights.get(gate)], inputs)
            };
            let mut bias = pad(weights.get(&layer.filter.bias));
            bias.extend(pad(weights.get(&layer.gate.bias)));
            let conditioning = match (&layer.filter.conditioning, &layer.gate.conditioning) {
                (Some(filter), Some(gate)) => Some(pair(filter, gate, h)),
                _ => None,
            };
            layers.push(PackedLayer {
                taps: (0..config.kernel_size)
                    .map(|k| pair(&tap(&layer.filter, k), &tap(&layer.gate, k), r))
                    .collect(),
                conditioning,
                bias,
                skip: Matrix::new(&[weights.get(&layer.skip.weight)], g),
                residual: layer.residual.as_ref().map(|affine| pack_affine(weights, affine, g)),
            });
        }
        Self {
            residual_width: padded(r),
            embedding: embedding.collect(),
            class_embedding: layout
                .class_embedding
                .as_ref()
                .map_or_else(Vec::new, |range| weights.get(range).to_vec()),
            layers,
            skip_bias,
            end1: pack_affine(weights, &layout.end1, config.skip_channels),
            end2: pack_affine(weights, &layout.end2, config.end_channels),
            conditioning_channels: h,
        }
    }
}

fn pad(values: &[f32]) -> Vec<f32> {
    let mut out = values.to_vec();
    out.resize(padded(values.len()), 0.0);
    out
}

fn pack_affine(weights: &Weights, affine: &AffineLayout, inputs: usize) -> (Matrix, Vec<f32>) {
    let matrix = Matrix::new(&[weights.get(&affine.weight)], inputs);
    (matrix, pad(weights.get(&affine.bias)))
}
