//! Parameters as the training step multiplies them: matrices that share an input are stacked.
//!
//! ```text
//! gate  [2 G][K R + H]   rows: filter, gate; columns: taps oldest first, then conditioning
//! out   [R + S][G]       rows: residual (absent in the last layer), skip
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
    pub(super) bias: Vec<f32>,
}

impl Affine {
    fn zeros(outputs: usize, inputs: usize) -> Self {
        Self { weight: vec![0.0; outputs * inputs], bias: vec![0.0; outputs] }
    }
}

/// One residual block.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) gate: Affine,
    pub(super) out: Affine,
}

/// All parameters, or their gradient.
#[derive(Debug, Clone)]
pub struct Packed {
    /// `[levels][R]`
    pub(super) embedding: Vec<f32>,
    /// `[classes][class_channels]`
    pub(super) class_embedding: Vec<f32>,
    pub(super) layers: Vec<Layer>,
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
    fn gather(&self, flat: &[f32], matrix: &mut [f32]) {
        for (row, values) in flat[self.flat.clone()].chunks_exact(self.cols).enumerate() {
            matrix[self.start + row * self.stride..][..self.cols].copy_from_slice(values);
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

/// A whole row-major matrix from row `row` on.
fn rows_place(layout: &AffineLayout, row: usize, cols: usize) -> Place {
    Place { flat: layout.weight.clone(), start: row * cols, cols, stride: cols }
}

impl Packed {
    /// Zeros in the shape of a config.
    pub fn zeros(config: &Config) -> Self {
        let (r, g) = (config.residual_channels, config.gate_channels);
        let columns = config.kernel_size * r + config.conditioning_channels();
        let layer = |index: usize| {
            let residual = if index + 1 < config.layers() { r } else { 0 };
            Layer {
                gate: Affine::zeros(2 * g, columns),
                out: Affine::zeros(residual + config.skip_channels, g),
            }
        };
        Self {
            embedding: vec![0.0; config.levels * r],
            class_embedding: vec![0.0; config.classes.len() * config.class_width()],
            layers: (0..config.layers()).map(layer).collect(),
            end1: Affine::zeros(config.end_channels, config.skip_channels),
            end2: Affine::zeros(config.levels, config.end_channels),
        }
    }

    /// Sets everything to zero.
    pub(super) fn clear(&mut self) {
        self.embedding.fill(0.0);
        self.class_embedding.fill(0.0);
        let layers = self.layers.iter_mut().flat_map(|layer| [&mut layer.gate, &mut layer.out]);
        for affine in layers.chain([&mut self.end1, &mut self.end2]) {
            affine.weight.fill(0.0);
            affine.bias.fill(0.0);
        }
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
        for (layer, places) in self.layers.iter_mut().zip(&layout.layers) {
            for (half, gate) in [&places.filter, &places.gate].into_iter().enumerate() {
                for place in gate_places(config, gate, half) {
                    each(&place, &mut layer.gate.weight);
                }
                each(&bias(&gate.bias, half * g), &mut layer.gate.bias);
            }
            let mut row = 0;
            for affine in places.residual.iter().chain([&places.skip]) {
                each(&rows_place(affine, row, g), &mut layer.out.weight);
                each(&bias(&affine.bias, row), &mut layer.out.bias);
                row += affine.bias.len();
            }
        }
        let ends = [
            (&mut self.end1, &layout.end1, config.skip_channels),
            (&mut self.end2, &layout.end2, config.end_channels),
        ];
        for (affine, places, inputs) in ends {
            each(&rows_place(places, 0, inputs), &mut affine.weight);
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
        let mut packed = Packed::from_weights(&weights);
        let mut flat = vec![0.0; weights.values().len()];
        packed.add_to(weights.layout(), &config, &mut flat);
        assert_eq!(flat, weights.values());
    }
}
