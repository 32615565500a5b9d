//! A model in the order in which the kernel reads it.
//!
//! Weights stand by step, quarter and row, so that neighbouring threads, which have neighbouring rows,
//! read one stretch of memory (`common/model.cuh`). Those on the critical path come first: as many as fit are
//! copied to shared memory. What the processor's kernels computed ahead, layer 0's tables and the state
//! of endless silence, is taken over from them.

use std::ops::Range;

use super::params::{Matrices, Params, Unit, Vector};
use crate::config::{Config, Dtype};
use crate::kernels::{Packed, SilentRows};
use crate::mulaw::MuLaw;
use crate::rounding::{rounded, row_scale};
use crate::weights::{LayerLayout, Weights};

/// Threads of a warp; rows and columns of a tile, as the matrix units take them.
pub(super) const LANES: usize = 32;
pub(super) const TILE_ROWS: usize = 16;
pub(super) const PART_COLUMNS: usize = 32;
/// Channels of a conditioning vector that the host link fetches at most (`common/host_link.cuh`).
pub(super) const MOST_CHANNELS: usize = 128;
/// Quarters of a row.
const QUARTERS: usize = 4;

/// What goes to the device once.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) weights: Vec<Unit>,
    pub(super) floats: Vec<f32>,
    /// Every layer's input while silence lasts. Shape: `[layers][residual.units]`.
    pub(super) silence: Vec<Unit>,
    pub(super) rings: Vec<Unit>,
    /// The model's part of what the kernel is told.
    pub(super) params: Params,
}

impl Image {
    /// As the general text reads it; other kernels add matrices to it.
    pub(super) fn new(weights: &Weights, packed: &Packed) -> Self {
        let (config, layout) = (weights.config(), weights.layout());
        let dtype = packed.dtype();
        let vector = |channels| vector(channels, dtype);
        let (r, g, levels) = (config.residual_channels, config.gate_channels, config.levels);
        let h = config.conditioning_channels();
        let mut image = Self {
            weights: Vec::new(),
            floats: Vec::new(),
            silence: Vec::new(),
            rings: Vec::new(),
            params: Params {
                layers: config.layers() as u32,
                kernel_size: config.kernel_size as u32,
                levels: levels as u32,
                silent_code: MuLaw::new(levels).silence().into(),
                residual: vector(r),
                gate: of_gate(vector(g)),
                skip: vector(config.skip_channels),
                end: vector(config.end_channels),
                conditioning_vector: vector(h),
                ..Params::default()
            },
        };
        let get = |range: &Range<usize>| weights.get(range);
        let after_first = &layout.layers[1..];
        // Layer 0 has tables.
        let taps: Vec<Vec<f32>> = after_first
            .iter()
            .flat_map(|layer| (0..config.kernel_size).map(|k| tap_of(weights, layer, k)))
            .collect();
        image.params.taps = image.pack(dtype, &slices(&taps), 2 * g, r, After::Anything);
        let residuals: Vec<&[f32]> =
            layout.layers.iter().filter_map(|l| Some(get(&l.residual.as_ref()?.weight))).collect();
        image.params.residuals = image.pack(dtype, &residuals, r, g, After::Gate);
        let (s, a) = (config.skip_channels, config.end_channels);
        image.params.end1 = image.pack(dtype, &[get(&layout.end1.weight)], a, s, After::Relu);
        image.params.end2 = image.pack(dtype, &[get(&layout.end2.weight)], levels, a, After::Relu);
        let skips: Vec<&[f32]> = layout.layers.iter().map(|l| get(&l.skip.weight)).collect();
        image.params.skips = image.pack(dtype, &skips, s, g, After::GateOfAllLayers);
        if h > 0 {
            let conditioning: Vec<Vec<f32>> =
                layout.layers.iter().map(|layer| conditioning_of(weights, layer)).collect();
            let packed = image.pack(dtype, &slices(&conditioning), 2 * g, h, After::Anything);
            image.params.conditioning_weights = packed;
        }
        image.add_floats(weights, packed);
        image.add_silence(packed.silent_rows());
        image.add_rings(config);
        image
    }

    fn add_floats(&mut self, weights: &Weights, packed: &Packed) {
        let layout = weights.layout();
        let get = |range: &Range<usize>| weights.get(range);
        let floats = &mut self.floats;
        let mut add = |values: Vec<f32>| {
            let start = floats.len() as u32;
            floats.extend(values);
            start
        };
        let layers = layout.layers.iter();
        let biases = layers.clone().flat_map(|l| [get(&l.filter.bias), get(&l.gate.bias)].concat());
        self.params.gate_bias = add(biases.collect());
        let residuals = layers.clone().filter_map(|l| Some(get(&l.residual.as_ref()?.bias)));
        self.params.residual_bias = add(residuals.flatten().copied().collect());
        let mut skip = vec![0.0; weights.config().skip_channels];
        for layer in layers {
            skip.iter_mut().zip(get(&layer.skip.bias)).for_each(|(sum, bias)| *sum += bias);
        }
        self.params.skip_bias = add(skip);
        self.params.end1_bias = add(get(&layout.end1.bias).to_vec());
        self.params.end2_bias = add(get(&layout.end2.bias).to_vec());
        self.params.embedding = add(get(&layout.embedding).to_vec());
        self.params.tables = add(packed.tables());
    }

    fn add_silence(&mut self, rows: SilentRows) {
        let shape = self.params.residual;
        match rows {
            SilentRows::Floats(rows) => {
                for row in rows {
                    let mut placed = vec![0.0; shape.units as usize * 4];
                    for (i, value) in row.into_iter().enumerate() {
                        let (quarter, at) =
                            (i / shape.quarter as usize, i % shape.quarter as usize);
                        placed[quarter * shape.pitch as usize + at] = value;
                    }
                    self.silence.extend(placed.chunks(4).map(|four| unit(four, f32::to_bits)));
                }
            }
            SilentRows::Bytes(rows) => {
                for (mut row, scale) in rows {
                    row.resize((shape.units as usize - 1) * 16, 0);
                    self.silence.extend(row.chunks(16).map(unit_of_bytes));
                    self.silence.push([scale.to_bits(), 0, 0, 0]);
                }
            }
        }
    }

    /// Where each layer's ring lies in a lane, and the lane's size.
    pub(super) fn add_rings(&mut self, config: &Config) {
        self.rings.clear();
        let mut end = 0;
        for (layer, &dilation) in config.dilations.iter().enumerate() {
            // A layer's input of this sample may be stored before the oldest past one is read; codes are not.
            let present = if layer == 0 { 0 } else { 1 };
            let rows = ((config.kernel_size - 1) * dilation + present).next_power_of_two() as u32;
            self.rings.push([end, rows - 1, dilation as u32, 0]);
            end += if layer == 0 { 0 } else { rows * self.params.residual.units };
        }
        self.params.lane_codes = end;
        self.params.lane_units = end + (self.rings[0][1] + 1).div_ceil(16);
    }

    /// Appends matrices `[rows, columns]` of one shape.
    fn pack(
        &mut self,
        dtype: Dtype,
        all: &[&[f32]],
        rows: usize,
        columns: usize,
        after: After,
    ) -> Matrices {
        let per_unit = per_unit(dtype);
        let quarter = columns.div_ceil(QUARTERS);
        let steps = match dtype {
            Dtype::Int8 => columns.div_ceil(QUARTERS * per_unit),
            Dtype::F32 | Dtype::Bf16 => quarter.div_ceil(per_unit),
        };
        let mut matrices = Matrices {
            start: self.weights.len() as u32,
            stride: (steps * QUARTERS * rows) as u32,
            rows: rows as u32,
            steps: steps as u32,
            scales: self.floats.len() as u32,
            corrections: 0,
        };
        let mut corrections = Vec::new();
        let row_of =
            |matrix: &'_ [f32], row: usize| matrix[row * columns..(row + 1) * columns].to_vec();
        let bytes = if dtype == Dtype::Int8 { quantised(all, columns, after) } else { Vec::new() };
        let scales = if dtype == Dtype::Int8 { scales(all, columns, after) } else { Vec::new() };
        for (bytes, scales) in bytes.iter().zip(&scales) {
            for step in 0..steps * QUARTERS {
                for row in bytes {
                    let (start, end) = (step * per_unit, columns.min((step + 1) * per_unit));
                    self.weights.push(unit_of_bytes(row.get(start..end).unwrap_or(&[])));
                }
            }
            let of_units = if after.is_gate() { 1.0 / 127.0 } else { 1.0 };
            self.floats.extend(scales.iter().map(|scale| scale * of_units));
            // Inputs after a relu are bytes less 128.
            let sums = bytes.iter().map(|row| row.iter().map(|&b| i32::from(b)).sum::<i32>());
            corrections.extend(sums.map(|sum| f32::from_bits((128 * sum) as u32)));
        }
        for matrix in all.iter().filter(|_| dtype != Dtype::Int8) {
            let rows_of: Vec<Vec<f32>> = (0..rows).map(|row| row_of(matrix, row)).collect();
            for step in 0..steps {
                for of_row in 0..QUARTERS {
                    for row in &rows_of {
                        let values: Vec<f32> = (step * per_unit..(step + 1) * per_unit)
                            .map(|position| match row.get(of_row * quarter + position) {
                                // Beyond a quarter -0.0 times +0.0 is added, which changes no sum.
                                _ if position >= quarter => -0.0,
                                Some(&weight) => weight,
                                None => 0.0,
                            })
                            .collect();
                        self.weights.push(match dtype {
                            Dtype::F32 => unit(&values, f32::to_bits),
                            _ => unit_of_bf16(&values),
                        });
                    }
                }
            }
        }
        if after == After::GateOfAllLayers && dtype == Dtype::Int8 {
            // Their rows have joint scales: one product.
            matrices.steps *= all.len() as u32;
            matrices.stride *= all.len() as u32;
        }
        if after == After::Relu && dtype == Dtype::Int8 {
            matrices.corrections = self.floats.len() as u32;
            self.floats.extend(corrections);
        }
        matrices
    }
}

/// Filter and gate of a tap of a layer, shape `[2 G, R]`.
pub(super) fn tap_of(weights: &Weights, layer: &LayerLayout, tap: usize) -> Vec<f32> {
    let of = |range: &Range<usize>| {
        let taps = weights.get(range);
        let each = taps.len() / weights.config().kernel_size;
        taps[tap * each..(tap + 1) * each].to_vec()
    };
    [of(&layer.filter.taps), of(&layer.gate.taps)].concat()
}

/// Filter and gate of a layer's conditioning, shape `[2 G, H]`.
pub(super) fn conditioning_of(weights: &Weights, layer: &LayerLayout) -> Vec<f32> {
    let parts = [&layer.filter.conditioning, &layer.gate.conditioning];
    parts.into_iter().flatten().flat_map(|range| weights.get(range)).copied().collect()
}

/// The scales of each matrix's rows of bytes.
fn scales(all: &[&[f32]], columns: usize, after: After) -> Vec<Vec<f32>> {
    let largest = |row: &[f32]| row.iter().fold(0.0_f32, |max, weight| max.max(weight.abs()));
    let of = |matrix: &&[f32]| matrix.chunks_exact(columns).map(largest).collect::<Vec<f32>>();
    let mut of_matrices: Vec<Vec<f32>> = all.iter().map(of).collect();
    if after == After::GateOfAllLayers {
        let joint = |row: usize| of_matrices.iter().map(|rows| rows[row]).fold(0.0, f32::max);
        let joint: Vec<f32> = (0..of_matrices[0].len()).map(joint).collect();
        of_matrices.fill(joint);
    }
    for rows in &mut of_matrices {
        rows.iter_mut().for_each(|largest| *largest = row_scale(*largest));
    }
    of_matrices
}

/// Each matrix's rows as bytes.
pub(super) fn quantised(all: &[&[f32]], columns: usize, after: After) -> Vec<Vec<Vec<i8>>> {
    let row = |row: &[f32], scale: f32| row.iter().map(|&weight| rounded(weight, scale)).collect();
    let scales = scales(all, columns, after);
    let matrix = |(matrix, scales): (&&[f32], Vec<f32>)| {
        matrix.chunks_exact(columns).zip(scales).map(|(values, scale)| row(values, scale)).collect()
    };
    all.iter().zip(scales).map(matrix).collect()
}

/// What a matrix is multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Anything,
    Relu,
    Gate,
    /// One product over all matrices: their rows have joint scales.
    GateOfAllLayers,
}

impl After {
    fn is_gate(self) -> bool {
        matches!(self, Self::Gate | Self::GateOfAllLayers)
    }
}

/// Weights of one unit.
fn per_unit(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F32 => 4,
        Dtype::Bf16 => 8,
        Dtype::Int8 => 16,
    }
}

/// How inputs lie.
fn vector(channels: usize, dtype: Dtype) -> Vector {
    if channels == 0 {
        return Vector::default();
    }
    let per_unit = per_unit(dtype);
    let quarter = channels.div_ceil(QUARTERS);
    if dtype == Dtype::Int8 {
        let scale = (channels.div_ceil(QUARTERS * per_unit) * QUARTERS) as u32;
        return Vector { channels: channels as u32, units: scale + 1, scale, ..Vector::default() };
    }
    // An odd number of units a quarter: then the four lie in different banks of shared memory.
    let pitch = (quarter.next_multiple_of(per_unit) / 4) | 1;
    Vector {
        channels: channels as u32,
        quarter: quarter as u32,
        pitch: 4 * pitch as u32,
        reciprocal: (1_u32 << 31).div_ceil(quarter as u32),
        units: (QUARTERS * pitch) as u32,
        scale: 0,
    }
}

/// How gated units lie: their scale is part of their weights'.
fn of_gate(shape: Vector) -> Vector {
    let units = if shape.scale == 0 { shape.units } else { shape.scale };
    Vector { units, scale: 0, ..shape }
}

fn slices(matrices: &[Vec<f32>]) -> Vec<&[f32]> {
    matrices.iter().map(Vec::as_slice).collect()
}

/// Four numbers of 32 bits.
fn unit(four: &[f32], bits: impl Fn(f32) -> u32) -> Unit {
    std::array::from_fn(|i| bits(four[i]))
}

pub(super) fn unit_of_bytes(bytes: &[i8]) -> Unit {
    let byte = |i: usize| bytes.get(i).copied().unwrap_or(0) as u8;
    std::array::from_fn(|i| u32::from_le_bytes(std::array::from_fn(|j| byte(4 * i + j))))
}

pub(super) fn unit_of_bf16(eight: &[f32]) -> Unit {
    let bits = |i: usize| u32::from(half::bf16::from_f32(eight[i]).to_bits());
    std::array::from_fn(|i| bits(2 * i) | bits(2 * i + 1) << 16)
}
