//! Where every parameter lies on the card: in joined matrices, one after another in one flat vector, so that
//! the optimizer is one pass and each matrix a view.
//!
//! ```text
//! gate of layer l   [K R + H', 2 G]   taps (oldest first), conditioning, bias; H' = H + 1 rounded up to 8
//! residual          [G + 8, R]        gated units, bias
//! skip              [L (G + 8), S]    of each layer: gated units, bias
//! ```
//!
//! What multiplies a bias is a column of ones; the other rows up to eight are always 0, as is their gradient.

use std::ops::Range;

use candle_core::{Result, Tensor};
use wavenet_engine::Config;
use wavenet_engine::weights::{GateLayout, Layout};

/// Columns beside the gated units: a one for the biases, and zeros.
pub(super) const ONES: usize = 8;
/// The place of a number that is no parameter.
const NOTHING: u32 = u32::MAX;

/// Rows of the gates' matrices for conditioning and bias.
pub(super) fn constant_rows(config: &Config) -> usize {
    (config.conditioning_channels() + 1).next_multiple_of(ONES)
}

/// A matrix's place in the flat vector.
#[derive(Debug, Clone)]
struct Place {
    rows: usize,
    columns: usize,
    range: Range<usize>,
}

impl Place {
    fn view(&self, flat: &Tensor) -> Result<Tensor> {
        flat.narrow(0, self.range.start, self.range.len())?.reshape((self.rows, self.columns))
    }
}

/// The places of all matrices, and of each number in the model's own order.
#[derive(Debug)]
pub(super) struct Joined {
    matrices: Matrices<Place>,
    /// For each number of the flat vector, its index among the model's values.
    sources: Vec<u32>,
    parameters: usize,
}

/// One of each matrix: places, weights or gradients.
#[derive(Debug)]
pub(super) struct Matrices<T> {
    pub(super) embedding: T,
    pub(super) gates: Vec<T>,
    /// None of the last layer.
    pub(super) residuals: Vec<T>,
    pub(super) skip: T,
    pub(super) end1: T,
    pub(super) end1_bias: T,
    pub(super) end2: T,
    pub(super) end2_bias: T,
    /// Last, as its size may be odd.
    pub(super) class_embedding: Option<T>,
}

impl<T> Matrices<T> {
    /// In the order of the flat vector.
    fn all(&self) -> impl Iterator<Item = &T> {
        let layers = self.gates.iter().chain(&self.residuals);
        let head = [&self.skip, &self.end1, &self.end1_bias, &self.end2, &self.end2_bias];
        std::iter::once(&self.embedding).chain(layers).chain(head).chain(&self.class_embedding)
    }
}

/// Collects matrices one after another.
#[derive(Default)]
struct Collector {
    sources: Vec<u32>,
}

impl Collector {
    /// A matrix whose number at `(row, column)` is the model's value `source(row, column)`.
    fn add(
        &mut self,
        rows: usize,
        columns: usize,
        source: impl Fn(usize, usize) -> Option<usize>,
    ) -> Place {
        let start = self.sources.len();
        let numbers = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        self.sources.extend(
            numbers.map(|(row, column)| source(row, column).map_or(NOTHING, |index| index as u32)),
        );
        Place { rows, columns, range: start..self.sources.len() }
    }

    /// Values that lie as the matrix does.
    fn straight(&mut self, columns: usize, values: &Range<usize>) -> Place {
        self.add(values.len() / columns, columns, |row, column| {
            Some(values.start + row * columns + column)
        })
    }

    /// The transpose of values `[columns][rows]`.
    fn turned(&mut self, rows: usize, columns: usize, values: &Range<usize>) -> Place {
        self.add(rows, columns, |row, column| Some(values.start + column * rows + row))
    }
}

impl Joined {
    /// The places of a config's parameters, which lie in the model as `layout` says.
    pub(super) fn new(config: &Config, layout: &Layout) -> Self {
        let (r, g, s) = (config.residual_channels, config.gate_channels, config.skip_channels);
        let (k, h) = (config.kernel_size, config.conditioning_channels());
        let mut collector = Collector::default();
        let gate = |half: &GateLayout, row: usize, unit: usize| match row.checked_sub(k * r) {
            None => Some(half.taps.start + (row / r * g + unit) * r + row % r),
            Some(channel) if channel < h => {
                half.conditioning.as_ref().map(|range| range.start + unit * h + channel)
            }
            Some(channel) => (channel == h).then(|| half.bias.start + unit),
        };
        let width = g + ONES;
        let embedding = collector.straight(r, &layout.embedding);
        let gates = layout.layers.iter().map(|layer| {
            collector.add(k * r + constant_rows(config), 2 * g, |row, column| match column {
                column if column < g => gate(&layer.filter, row, column),
                column => gate(&layer.gate, row, column - g),
            })
        });
        let gates = gates.collect();
        let residuals = layout.layers.iter().filter_map(|layer| layer.residual.as_ref());
        let residuals = residuals.map(|residual| {
            collector.add(width, r, |row, column| match row.checked_sub(g) {
                None => Some(residual.weight.start + column * g + row),
                Some(rest) => (rest == 0).then(|| residual.bias.start + column),
            })
        });
        let residuals = residuals.collect();
        let skip = collector.add(layout.layers.len() * width, s, |row, column| {
            let skip = &layout.layers[row / width].skip;
            match (row % width).checked_sub(g) {
                None => Some(skip.weight.start + column * g + row % width),
                Some(rest) => (rest == 0).then(|| skip.bias.start + column),
            }
        });
        let (a, levels) = (config.end_channels, config.levels);
        let matrices = Matrices {
            embedding,
            gates,
            residuals,
            skip,
            end1: collector.turned(s, a, &layout.end1.weight),
            end1_bias: collector.straight(a, &layout.end1.bias),
            end2: collector.turned(a, levels, &layout.end2.weight),
            end2_bias: collector.straight(levels, &layout.end2.bias),
            class_embedding: (layout.class_embedding.as_ref())
                .map(|range| collector.straight(config.class_channels, range)),
        };
        Self { matrices, sources: collector.sources, parameters: layout.len }
    }

    /// Length of the flat vector.
    pub(super) fn len(&self) -> usize {
        self.sources.len()
    }

    /// The model's values in the order of the flat vector.
    pub(super) fn join(&self, values: &[f32]) -> Vec<f32> {
        let value = |&source: &u32| values.get(source as usize).copied().unwrap_or_default();
        self.sources.iter().map(value).collect()
    }

    /// Back into the model's order.
    pub(super) fn part(&self, joined: &[f32], values: &mut [f32]) {
        debug_assert_eq!(values.len(), self.parameters);
        for (&source, &value) in self.sources.iter().zip(joined) {
            if let Some(place) = values.get_mut(source as usize) {
                *place = value;
            }
        }
    }

    /// The matrices of a flat vector, as views of it.
    pub(super) fn views(&self, flat: &Tensor) -> Result<Matrices<Tensor>> {
        let places = &self.matrices;
        let views = |places: &[Place]| -> Result<Vec<Tensor>> {
            places.iter().map(|place| place.view(flat)).collect()
        };
        Ok(Matrices {
            embedding: places.embedding.view(flat)?,
            gates: views(&places.gates)?,
            residuals: views(&places.residuals)?,
            skip: places.skip.view(flat)?,
            end1: places.end1.view(flat)?,
            end1_bias: places.end1_bias.view(flat)?,
            end2: places.end2.view(flat)?,
            end2_bias: places.end2_bias.view(flat)?,
            class_embedding: places.class_embedding.as_ref().map(|p| p.view(flat)).transpose()?,
        })
    }

    /// The flat vector of matrices.
    pub(super) fn flatten(matrices: &Matrices<Tensor>) -> Result<Tensor> {
        let flat: Result<Vec<Tensor>> = matrices.all().map(Tensor::flatten_all).collect();
        Tensor::cat(&flat?, 0)
    }
}
