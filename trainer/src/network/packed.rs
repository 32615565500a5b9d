//! Parameters as the training step multiplies them: matrices that share an input are stacked.
//!
//! ```text
//! gate      [2 G][K R + H]   rows: filter, gate; columns: taps oldest first, then conditioning
//! residual  [R][G]           absent in the last layer
//! skip      [S][L G]         columns: the gated units of all layers; its bias is the sum of theirs
//! ```
//!
//! The same shape holds a segment's gradient.

use std::ops::Range;

use wavenet_engine::weights::{AffineLayout, GateLayout, Layout};
use wavenet_engine::{Config, Weights};

/// A matrix and its bias.
#[derive(Debug, Clone, Default)]
pub(super) struct Affine {
    /// Row-major `[bias.len()][inputs]`.
    pub(super) weight: Vec<f32>,
    /// `[inputs][bias.len()]`: what the forward pass multiplies with. Empty in a gradient.
    pub(super) transposed: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl Affine {
    fn zeros(outputs: usize, inputs: usize) -> Self {
        let weight = vec![0.0; outputs * inputs];
        Self { weight, transposed: Vec::new(), bias: vec![0.0; outputs] }
    }

    /// Writes `transposed`: the products would else turn the weights round for every chunk.
    fn transpose(&mut self) {
        let (outputs, len) = (self.bias.len(), self.weight.len());
        let inputs = len / outputs.max(1);
        self.transposed.clear();
        self.transposed.reserve(len);
        for input in 0..inputs {
            self.transposed.extend(self.weight[input..].iter().step_by(inputs));
        }
    }
}

/// One residual block.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) gate: Affine,
    /// No outputs in the last layer.
    pub(super) residual: Affine,
}

/// All parameters, or their gradient.
#[derive(Debug, Clone)]
pub struct Packed {
    /// `[levels][R]`
    pub(super) embedding: Vec<f32>,
    /// `[classes][class_channels]`
    pub(super) class_embedding: Vec<f32>,
    pub(super) layers: Vec<Layer>,
    pub(super) skip: Affine,
    pub(super) end1: Affine,
    pub(super) end2: Affine,
}

/// A stretch of the flat vector and where it lies in a packed matrix: `rows` of `cols` values, the
/// matrix's rows `stride` apart, beginning at `start`.
struct Place {
    flat: Range<usize>,
    start: usize,
    cols: usize,
    stride: usize,
}

impl Place {
    /// Adds, because the biases of all skips share a place; elsewhere there are zeros.
    fn gather(&self, flat: &[f32], matrix: &mut [f32]) {
        for (row, values) in flat[self.flat.clone()].chunks_exact(self.cols).enumerate() {
            let into = &mut matrix[self.start + row * self.stride..][..self.cols];
            for (sum, value) in into.iter_mut().zip(values) {
                *sum += value;
            }
        }
    }

    fn scatter(&self, matrix: &[f32], flat: &mut [f32]) {
        for (row, values) in flat[self.flat.clone()].chunks_exact_mut(self.cols).enumerate() {
            let from = &matrix[self.start + row * self.stride..][..self.cols];
            for (value, add) in values.iter_mut().zip(from) {
                *value += add;
            }
        }
    }
}

/// Where filter (`half` 0) or gate (`half` 1) lie in a layer's joined matrix.
fn gate_places(config: &Config, layout: &GateLayout, half: usize) -> Vec<Place> {
    let (r, g) = (config.residual_channels, config.gate_channels);
    let (k, h) = (config.kernel_size, config.conditioning_channels());
    let stride = k * r + h;
    let first = half * g * stride;
    let mut places: Vec<Place> = (0..k)
        .map(|tap| {
            let start = layout.taps.start + tap * g * r;
            Place { flat: start..start + g * r, start: first + tap * r, cols: r, stride }
        })
        .collect();
    if let Some(conditioning) = &layout.conditioning {
        places.push(Place { flat: conditioning.clone(), start: first + k * r, cols: h, stride });
    }
    places
}

/// A whole row-major matrix, `cols` wide, beginning at `start` of one that is `stride` wide.
fn matrix_place(layout: &AffineLayout, start: usize, cols: usize, stride: usize) -> Place {
    Place { flat: layout.weight.clone(), start, cols, stride }
}

impl Packed {
    /// Zeros in the shape of a config.
    pub fn zeros(config: &Config) -> Self {
        let (r, g) = (config.residual_channels, config.gate_channels);
        let columns = config.kernel_size * r + config.conditioning_channels();
        let layer = |index: usize| {
            let residual = if index + 1 < config.layers() { r } else { 0 };
            Layer { gate: Affine::zeros(2 * g, columns), residual: Affine::zeros(residual, g) }
        };
        Self {
            embedding: vec![0.0; config.levels * r],
            class_embedding: vec![0.0; config.classes.len() * config.class_width()],
            layers: (0..config.layers()).map(layer).collect(),
            skip: Affine::zeros(config.skip_channels, config.layers() * g),
            end1: Affine::zeros(config.end_channels, config.skip_channels),
            end2: Affine::zeros(config.levels, config.end_channels),
        }
    }

    /// Sets everything to zero.
    pub(super) fn clear(&mut self) {
        self.embedding.fill(0.0);
        self.class_embedding.fill(0.0);
        for affine in self.affines() {
            affine.weight.fill(0.0);
            affine.bias.fill(0.0);
        }
    }

    fn affines(&mut self) -> impl Iterator<Item = &mut Affine> {
        let layers =
            self.layers.iter_mut().flat_map(|layer| [&mut layer.gate, &mut layer.residual]);
        layers.chain([&mut self.skip, &mut self.end1, &mut self.end2])
    }

    /// Joins the tensors of a model.
    pub fn from_weights(weights: &Weights) -> Self {
        let (config, layout, flat) = (weights.config(), weights.layout(), weights.values());
        let mut packed = Self::zeros(config);
        packed.embedding.copy_from_slice(&flat[layout.embedding.clone()]);
        if let Some(range) = &layout.class_embedding {
            packed.class_embedding.copy_from_slice(&flat[range.clone()]);
        }
        packed.visit(layout, config, |place, matrix| place.gather(flat, matrix));
        packed.affines().for_each(Affine::transpose);
        packed
    }

    /// Adds a gradient to one laid out flat.
    pub(super) fn add_to(&mut self, layout: &Layout, config: &Config, flat: &mut [f32]) {
        let whole = |range: &Range<usize>| {
            let cols = range.len().max(1);
            Place { flat: range.clone(), start: 0, cols, stride: cols }
        };
        whole(&layout.embedding).scatter(&self.embedding, flat);
        if let Some(range) = &layout.class_embedding {
            whole(range).scatter(&self.class_embedding, flat);
        }
        self.visit(layout, config, |place, matrix| place.scatter(matrix, flat));
    }

    /// Calls `each` with every place of the joined matrices and biases.
    fn visit(
        &mut self,
        layout: &Layout,
        config: &Config,
        mut each: impl FnMut(&Place, &mut [f32]),
    ) {
        let g = config.gate_channels;
        let bias = |range: &Range<usize>, start: usize| {
            let cols = range.len();
            Place { flat: range.clone(), start, cols, stride: cols }
        };
        let skip_width = config.layers() * g;
        for (index, (layer, places)) in self.layers.iter_mut().zip(&layout.layers).enumerate() {
            for (half, gate) in [&places.filter, &places.gate].into_iter().enumerate() {
                for place in gate_places(config, gate, half) {
                    each(&place, &mut layer.gate.weight);
                }
                each(&bias(&gate.bias, half * g), &mut layer.gate.bias);
            }
            if let Some(residual) = &places.residual {
                each(&matrix_place(residual, 0, g, g), &mut layer.residual.weight);
                each(&bias(&residual.bias, 0), &mut layer.residual.bias);
            }
            let skip = &places.skip;
            each(&matrix_place(skip, index * g, g, skip_width), &mut self.skip.weight);
            each(&bias(&skip.bias, 0), &mut self.skip.bias);
        }
        let ends = [
            (&mut self.end1, &layout.end1, config.skip_channels),
            (&mut self.end2, &layout.end2, config.end_channels),
        ];
        for (affine, places, inputs) in ends {
            each(&matrix_place(places, 0, inputs, inputs), &mut affine.weight);
            each(&bias(&places.bias, 0), &mut affine.bias);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wavenet_engine::{NoteRecipe, Recipe};

    #[test]
    fn packing_and_adding_back_visits_every_parameter_once() {
        let config = Config {
            residual_channels: 3,
            gate_channels: 5,
            skip_channels: 7,
            end_channels: 4,
            kernel_size: 3,
            dilations: vec![1, 2, 4],
            classes: vec!["a".into(), "b".into()],
            conditioning: Recipe::Note(NoteRecipe::default()),
            ..Config::default()
        };
        let mut weights = Weights::random(config.clone(), 1).unwrap();
        for (index, value) in weights.values_mut().iter_mut().enumerate() {
            *value = index as f32;
        }
        // The skips share one bias: each gets the sum of all.
        let skip_biases: Vec<_> =
            weights.layout().layers.iter().map(|layer| layer.skip.bias.clone()).collect();
        for (index, range) in skip_biases.into_iter().enumerate() {
            weights.values_mut()[range].fill(index as f32);
        }
        let mut packed = Packed::from_weights(&weights);
        let mut flat = vec![0.0; weights.values().len()];
        packed.add_to(weights.layout(), &config, &mut flat);
        for (index, layer) in weights.layout().layers.iter().enumerate() {
            let bias = &mut flat[layer.skip.bias.clone()];
            assert_eq!(bias, [3.0; 7]);
            bias.fill(index as f32);
        }
        assert_eq!(flat, weights.values());
    }
}
