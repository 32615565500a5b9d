//! A whole model, packed.

use std::ops::Range;

use super::aligned::Aligned;
use super::float::{AsF32, FloatMatrix};
use super::kernel::Kernel;
use super::matrix::{InputKind, Matrix, Product, Rows, Source, padded};
use crate::config::Config;
use crate::weights::{AffineLayout, GateLayout, Weights};

/// One residual block. G' and so on are padded widths; the filter's rows precede the gate's.
#[derive(Debug)]
pub(super) struct PackedLayer<M> {
    /// One a tap, oldest first, each `[2 G', R]`; none in layer 0, which has tables.
    pub(super) taps: Vec<M>,
    /// `[2 G', H]`
    pub(super) conditioning: Option<M>,
    /// `[2 G']`
    pub(super) bias: Aligned<f32>,
    /// `[R', G]` and `[R']`; none in the last block.
    pub(super) residual: Option<Affine<M>>,
}

/// A matrix and its bias.
#[derive(Debug)]
pub(super) struct Affine<M> {
    pub(super) matrix: M,
    pub(super) bias: Aligned<f32>,
}

/// All weights of a model.
#[derive(Debug)]
pub(super) struct PackedWeights<M> {
    /// K: taps of each convolution.
    pub(super) kernel_size: usize,
    /// Codes.
    pub(super) levels: usize,
    /// H, R, S and A, not padded.
    pub(super) conditioning_channels: usize,
    pub(super) residual_channels: usize,
    pub(super) skip_channels: usize,
    pub(super) end_channels: usize,
    /// 2 G'
    pub(super) sums_width: usize,
    /// Values of a row of gated units.
    pub(super) units_width: usize,
    /// `[levels][R']`
    pub(super) embedding: Aligned<f32>,
    /// What each code adds to the sums of layer 0 through each tap, oldest first; the first has the
    /// bias in it. It is computed in f32, whatever the type of the weights. Shape: `[K][levels][2 G']`.
    pub(super) tables: Vec<Aligned<f32>>,
    pub(super) layers: Vec<PackedLayer<M>>,
    /// The skips of all layers beside each other. `[S', layers x G]`
    pub(super) skip: Affine<M>,
    /// `[A', S]`
    pub(super) end1: Affine<M>,
    /// `[levels', A]`
    pub(super) end2: Affine<M>,
}

impl<M: Matrix> PackedWeights<M> {
    pub(super) fn new(kernel: Kernel, weights: &Weights) -> Self {
        let (config, layout) = (weights.config(), weights.layout());
        let (r, g) = (config.residual_channels, config.gate_channels);
        let affine = |affine: &AffineLayout, inputs, kind| Affine {
            matrix: M::pack(kernel, &Source::stacked(&[weights.get(&affine.weight)], inputs, kind)),
            bias: pad(weights.get(&affine.bias)),
        };
        let mut layers = Vec::with_capacity(config.layers());
        for (index, layer) in layout.layers.iter().enumerate() {
            let pair = |filter: &Range<usize>, gate: &Range<usize>, inputs| {
                let stack = [weights.get(filter), weights.get(gate)];
                M::pack(kernel, &Source::stacked(&stack, inputs, InputKind::Any))
            };
            let taps = (0..config.kernel_size).filter(|_| index > 0);
            layers.push(PackedLayer {
                taps: taps
                    .map(|k| pair(&tap(config, &layer.filter, k), &tap(config, &layer.gate, k), r))
                    .collect(),
                conditioning: match (&layer.filter.conditioning, &layer.gate.conditioning) {
                    (Some(filter), Some(gate)) => {
                        Some(pair(filter, gate, config.conditioning_channels()))
                    }
                    _ => None,
                },
                bias: gate_bias(weights, index),
                residual: layer.residual.as_ref().map(|part| affine(part, g, InputKind::Gated)),
            });
        }

        let mut skip_bias = vec![0.0; config.skip_channels];
        for layer in &layout.layers {
            for (sum, bias) in skip_bias.iter_mut().zip(weights.get(&layer.skip.bias)) {
                *sum += bias;
            }
        }
        let skips = layout.layers.iter().map(|layer| weights.get(&layer.skip.weight)).collect();
        let skips = Source { stack: vec![skips], inputs: g, kind: InputKind::Gated };
        let embedding = weights
            .get(&layout.embedding)
            .chunks_exact(r)
            .flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, padded(r) - r)));
        let embedding = Aligned::from(&embedding.collect::<Vec<_>>()[..]);
        Self {
            kernel_size: config.kernel_size,
            levels: config.levels,
            conditioning_channels: config.conditioning_channels(),
            residual_channels: r,
            skip_channels: config.skip_channels,
            end_channels: config.end_channels,
            sums_width: 2 * padded(g),
            units_width: M::width(g, InputKind::Gated),
            tables: tables::<M>(kernel, weights, &embedding),
            embedding,
            layers,
            skip: Affine { matrix: M::pack(kernel, &skips), bias: pad(&skip_bias) },
            end1: affine(&layout.end1, config.skip_channels, InputKind::Rectified),
            end2: affine(&layout.end2, config.end_channels, InputKind::Rectified),
        }
    }
}

/// The products of every code's embedding with layer 0's taps.
fn tables<M: Matrix>(kernel: Kernel, weights: &Weights, embedding: &[f32]) -> Vec<Aligned<f32>> {
    let config = weights.config();
    let r = config.residual_channels;
    let layer = &weights.layout().layers[0];
    let bias = gate_bias(weights, 0);
    // Adding -0.0 changes no float at all.
    let nothing = Aligned::from(&vec![-0.0; bias.len()][..]);
    let starts = |stride| (0..config.levels).map(|code| code * stride).collect::<Vec<_>>();
    let table = |k: usize| {
        let stored = |range| -> Vec<f32> {
            weights.get(&range).iter().map(|&weight| M::stored(weight)).collect()
        };
        let (filter, gate) =
            (stored(tap(config, &layer.filter, k)), stored(tap(config, &layer.gate, k)));
        let source = Source::stacked(&[&filter, &gate], r, InputKind::Any);
        let mut table = Aligned::zeros(config.levels * bias.len());
        kernel.run(Product {
            matrix: &FloatMatrix::<AsF32>::pack(kernel, &source),
            inputs: Rows { memory: embedding, starts: &starts(padded(r)) },
            init: Some(Rows { memory: if k == 0 { &bias } else { &nothing }, starts: &starts(0) }),
            out: &mut table,
            out_starts: &starts(bias.len()),
        });
        table
    };
    (0..config.kernel_size).map(table).collect()
}

/// One tap of a filter or gate.
fn tap(config: &Config, gate: &GateLayout, k: usize) -> Range<usize> {
    let len = config.gate_channels * config.residual_channels;
    gate.taps.start + k * len..gate.taps.start + (k + 1) * len
}

/// The biases of a layer's filter and gate. `[2 G']`
fn gate_bias(weights: &Weights, layer: usize) -> Aligned<f32> {
    let layer = &weights.layout().layers[layer];
    let parts = [&layer.filter.bias, &layer.gate.bias].map(|range| pad(weights.get(range)));
    Aligned::from(&parts.map(|part| part.to_vec()).concat()[..])
}

fn pad(values: &[f32]) -> Aligned<f32> {
    let mut out = Aligned::zeros(padded(values.len()));
    out[..values.len()].copy_from_slice(values);
    out
}
