//! Parameters as the training step multiplies them: matrices that share an input are stacked.
//!
//! ```text
//! gate      [K R + H][2 G]   rows: taps oldest first, then conditioning; columns: filter, gate
//! residual  [G][R]           absent in the last layer
//! skip      [L G][S]         rows: the gated units of all layers; its bias is the sum of theirs
//! ```
//!
//! A row for each input, as the forward products read them. The same shape holds a segment's gradient.

use std::ops::Range;

use wavenet_engine::weights::{GateLayout, Layout};
use wavenet_engine::{Config, Weights};

use crate::kernels::elementwise::add;
use crate::kernels::product::{To, View, multiply};

/// A matrix and its bias.
#[derive(Debug, Clone, Default)]
pub(super) struct Affine {
    /// Row-major `[inputs][bias.len()]`.
    pub(super) weight: Vec<f32>,
    /// `[bias.len()][inputs]`: what gradients of inputs are multiplied with. Empty in a gradient.
    pub(super) transposed: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl Affine {
    fn zeros(outputs: usize, inputs: usize) -> Self {
        let weight = vec![0.0; inputs * outputs];
        Self { weight, transposed: Vec::new(), bias: vec![0.0; outputs] }
    }

    /// Number of inputs.
    pub(super) fn inputs(&self) -> usize {
        self.weight.len() / self.bias.len().max(1)
    }

    /// Writes `transposed`.
    fn transpose(&mut self) {
        let outputs = self.bias.len();
        self.transposed.clear();
        self.transposed.reserve(self.weight.len());
        for output in 0..outputs {
            self.transposed.extend(self.weight[output..].iter().step_by(outputs));
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
    /// What the first layer's taps make of each code, `[K][levels][2 G]`: of inputs that are rows of a
    /// table the products are rows of a table too.
    pub(super) first: Vec<f32>,
    /// `[classes][class_channels]`
    pub(super) class_embedding: Vec<f32>,
    pub(super) layers: Vec<Layer>,
    pub(super) skip: Affine,
    pub(super) end1: Affine,
    pub(super) end2: Affine,
}

/// A stretch of the flat vector, a matrix `cols` wide, and where it lies in a packed one: its element
/// (row, col) at `start + row * strides[0] + col * strides[1]`.
struct Place {
    flat: Range<usize>,
    cols: usize,
    start: usize,
    strides: [usize; 2],
}

impl Place {
    /// A matrix `[outputs][inputs]` as a part of one with `width` outputs: its inputs from the row
    /// `input` on, its outputs from the column `output` on.
    fn turned(
        flat: &Range<usize>,
        inputs: usize,
        [input, output]: [usize; 2],
        width: usize,
    ) -> Self {
        let start = input * width + output;
        Self { flat: flat.clone(), cols: inputs, start, strides: [1, width] }
    }

    /// Values that follow each other.
    fn straight(flat: &Range<usize>, start: usize) -> Self {
        Self { flat: flat.clone(), cols: flat.len(), start, strides: [0, 1] }
    }

    /// Calls `each` with the places of every value in the flat vector and in the matrix.
    fn pairs(&self, mut each: impl FnMut(usize, usize)) {
        for (row, flat) in self.flat.clone().step_by(self.cols.max(1)).enumerate() {
            let start = self.start + row * self.strides[0];
            for col in 0..self.cols {
                each(flat + col, start + col * self.strides[1]);
            }
        }
    }

    /// Adds, because the biases of all skips share a place; elsewhere there are zeros.
    fn gather(&self, flat: &[f32], matrix: &mut [f32]) {
        self.pairs(|from, to| matrix[to] += flat[from]);
    }

    fn scatter(&self, matrix: &[f32], flat: &mut [f32]) {
        self.pairs(|to, from| flat[to] += matrix[from]);
    }
}

/// Where filter (`half` 0) or gate (`half` 1) lie in a layer's joined matrix.
fn gate_places(config: &Config, layout: &GateLayout, half: usize) -> Vec<Place> {
    let (r, g, k) = (config.residual_channels, config.gate_channels, config.kernel_size);
    let mut places: Vec<Place> = (0..k)
        .map(|tap| {
            let start = layout.taps.start + tap * g * r;
            Place::turned(&(start..start + g * r), r, [tap * r, half * g], 2 * g)
        })
        .collect();
    if let Some(conditioning) = &layout.conditioning {
        let inputs = config.conditioning_channels();
        places.push(Place::turned(conditioning, inputs, [k * r, half * g], 2 * g));
    }
    places
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
            first: vec![0.0; config.kernel_size * config.levels * 2 * g],
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
        self.first.fill(0.0);
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
        packed.tabulate(config);
        packed
    }

    /// Computes `first` from the embedding and the first layer.
    fn tabulate(&mut self, config: &Config) {
        let (r, levels, width) =
            (config.residual_channels, config.levels, 2 * config.gate_channels);
        let embedding = View::new(&self.embedding, levels, r);
        let weights = self.layers[0].gate.weight.chunks_exact(r * width);
        for (table, weight) in self.first.chunks_exact_mut(levels * width).zip(weights) {
            multiply(&[[embedding, View::new(weight, r, width)]], table, width, To::Nothing);
        }
    }

    /// Of a gradient: from that of `first` to that of what `first` is made of, which is added.
    pub(super) fn untabulate(&mut self, packed: &Self, config: &Config) {
        let (r, levels, width) =
            (config.residual_channels, config.levels, 2 * config.gate_channels);
        let embedding = View::new(&packed.embedding, levels, r).transposed();
        let gate = &packed.layers[0].gate;
        let weights = self.layers[0].gate.weight.chunks_exact_mut(r * width);
        let tables = self.first.chunks_exact(levels * width);
        for (tap, (table, weight)) in tables.zip(weights).enumerate() {
            let table = View::new(table, levels, width);
            multiply(&[[embedding, table]], weight, width, To::There);
            let transposed = &gate.transposed[tap * r..];
            let transposed = View::strided(transposed, width, r, gate.inputs());
            multiply(&[[table, transposed]], &mut self.embedding, r, To::There);
        }
    }

    /// Adds another gradient of the same shape.
    pub(super) fn add(&mut self, other: &mut Self) {
        add(&mut self.embedding, &other.embedding);
        add(&mut self.first, &other.first);
        add(&mut self.class_embedding, &other.class_embedding);
        for (affine, other) in self.affines().zip(other.affines()) {
            add(&mut affine.weight, &other.weight);
            add(&mut affine.bias, &other.bias);
        }
    }

    /// Adds a gradient to one laid out flat.
    pub(super) fn add_to(&mut self, layout: &Layout, config: &Config, flat: &mut [f32]) {
        Place::straight(&layout.embedding, 0).scatter(&self.embedding, flat);
        if let Some(range) = &layout.class_embedding {
            Place::straight(range, 0).scatter(&self.class_embedding, flat);
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
        let (r, g, s) = (config.residual_channels, config.gate_channels, config.skip_channels);
        for (index, (layer, places)) in self.layers.iter_mut().zip(&layout.layers).enumerate() {
            for (half, gate) in [&places.filter, &places.gate].into_iter().enumerate() {
                for place in gate_places(config, gate, half) {
                    each(&place, &mut layer.gate.weight);
                }
                each(&Place::straight(&gate.bias, half * g), &mut layer.gate.bias);
            }
            if let Some(residual) = &places.residual {
                let weight = Place::turned(&residual.weight, g, [0, 0], r);
                each(&weight, &mut layer.residual.weight);
                each(&Place::straight(&residual.bias, 0), &mut layer.residual.bias);
            }
            let skip = &places.skip;
            let weight = Place::turned(&skip.weight, g, [index * g, 0], s);
            each(&weight, &mut self.skip.weight);
            each(&Place::straight(&skip.bias, 0), &mut self.skip.bias);
        }
        for (affine, places) in [(&mut self.end1, &layout.end1), (&mut self.end2, &layout.end2)] {
            let weight = Place::turned(&places.weight, affine.inputs(), [0, 0], affine.bias.len());
            each(&weight, &mut affine.weight);
            each(&Place::straight(&places.bias, 0), &mut affine.bias);
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
