//! Products of 8-bit weights and 8-bit inputs with exact integer sums.
//!
//! A weight row has one scale: `w = scale q` with q in -127 ..= 127. A vector of inputs has one
//! scale too, its largest magnitude / 127, found anew each time; gated units, between -1 and 1,
//! always have 1 / 127. Inputs are stored as q + 128, unsigned as VNNI wants them; 128 times the sum
//! of a row's weights is taken off again. So
//!
//! ```text
//! out = fma(f32(sum of q_w q_x), scale_w * scale_x, init)
//! ```
//!
//! What a relu leaves is never negative: there the scale is the largest / 255, and q is stored as it
//! is. A row of inputs is its bytes and, where it is not always the same, its scale in the last four.

use super::aligned::Aligned;
use super::kernel::Kernel;
use super::matrix::{InputKind, Matrix, Product, Source, relu};
use super::simd::{BLOCK, Dots, Simd};
use crate::math::tanh_ratio;
use crate::rounding::{rounded, row_scale};

/// Inputs that are multiplied at once.
const STEP: usize = 4;
/// 1.5 * 2^23 + 128: adding it rounds to a whole number, ties to even, whose low byte is q + 128.
const ROUND: f32 = 12_583_040.0;
/// 1.5 * 2^23: the same for inputs that are never negative, whose low byte is q itself.
const ROUND_RECTIFIED: f32 = 12_582_912.0;
/// Below this magnitude an input is taken as zero (255 / it must not overflow).
const SMALLEST: f32 = 1e-30;

/// A matrix of 8-bit weights.
#[derive(Debug)]
pub(super) struct Int8Matrix {
    /// Shape: `[blocks / group][inputs / 4][group][16 rows][4]`; the last group may have fewer blocks.
    weights: Aligned<i8>,
    /// -128 times the sum of each row's weights.
    corrections: Aligned<i32>,
    /// Of each row; where inputs are gated units, times 1 / 127.
    scales: Aligned<f32>,
    blocks: usize,
    /// Blocks that lie in memory interleaved, as they are read together.
    group: usize,
    /// Inputs of all segments, padded to steps.
    inputs: usize,
    /// Where an input row keeps its scale.
    scale_at: Option<usize>,
}

/// Writes a row: the largest magnitude becomes `most`.
#[inline(always)]
fn quantise(from: &[f32], row: &mut [u8], most: f32, round: f32, relu: impl Fn(f32) -> f32) {
    let (row, scale) = row.split_at_mut(row.len() - size_of::<f32>());
    // Magnitudes as integers: so the order is total, and the loop becomes vector instructions.
    let bits = from.iter().fold(0, |max, &value| max.max(relu(value).to_bits() & 0x7fff_ffff));
    let largest = f32::from_bits(bits);
    let is_usable = (SMALLEST..=f32::MAX).contains(&largest);
    let factor = if is_usable { most / largest } else { 0.0 };
    for (value, &from) in row.iter_mut().zip(from) {
        *value = (relu(from) * factor + round).to_bits() as u8;
    }
    let largest = if is_usable { largest } else { 0.0 };
    scale.copy_from_slice(&(largest / most).to_ne_bytes());
}

impl Matrix for Int8Matrix {
    type Value = u8;
    /// Whole numbers, exact below 2^53.
    type Total = f64;

    fn pack(kernel: Kernel, source: &Source<'_>) -> Self {
        let group = kernel.int8_group();
        let stride = Self::width(source.inputs, source.kind);
        let inputs = ((source.segments() - 1) * stride + source.inputs).next_multiple_of(STEP);
        let (mut blocks, mut corrections, mut scales) = (Vec::new(), Vec::new(), Vec::new());
        source.for_each_block(|rows| {
            let mut block = vec![[[0_i8; STEP]; BLOCK]; inputs / STEP];
            let (mut sums, mut of_rows) = ([0_i32; BLOCK], [0.0_f32; BLOCK]);
            for (index, row) in rows.iter().enumerate() {
                let largest =
                    row.concat().iter().fold(0.0_f32, |max, weight| max.max(weight.abs()));
                let scale = row_scale(largest);
                for (segment, values) in row.iter().enumerate() {
                    for (column, value) in values.iter().enumerate() {
                        let weight = rounded(*value, scale);
                        let column = segment * stride + column;
                        block[column / STEP][index][column % STEP] = weight;
                        sums[index] += i32::from(weight);
                    }
                }
                of_rows[index] = match source.kind {
                    InputKind::Any | InputKind::Rectified => scale,
                    InputKind::Gated => scale * (1.0 / 127.0),
                };
            }
            blocks.push(block);
            let offset = if source.kind == InputKind::Rectified { 0 } else { 128 };
            corrections.extend(sums.map(|sum| -offset * sum));
            scales.extend(of_rows);
        });
        let mut weights: Vec<i8> = Vec::new();
        for group in blocks.chunks(group) {
            for at in 0..inputs / STEP {
                group.iter().for_each(|block| weights.extend(block[at].as_flattened()));
            }
        }
        Self {
            weights: Aligned::from(&weights[..]),
            corrections: Aligned::from(&corrections[..]),
            scales: Aligned::from(&scales[..]),
            blocks: blocks.len(),
            group,
            inputs,
            scale_at: (source.kind != InputKind::Gated).then(|| stride - size_of::<f32>()),
        }
    }

    fn stored(weight: f32) -> f32 {
        weight
    }

    fn width(channels: usize, kind: InputKind) -> usize {
        let scale = if kind == InputKind::Gated { 0 } else { size_of::<f32>() };
        (channels + scale).next_multiple_of(BLOCK)
    }

    #[inline(always)]
    fn convert(from: &[f32], row: &mut [u8]) {
        quantise(from, row, 127.0, ROUND, |value| value);
    }

    #[inline(always)]
    fn convert_rectified(from: &[f32], row: &mut [u8]) {
        quantise(from, row, 255.0, ROUND_RECTIFIED, relu);
    }

    #[inline(always)]
    fn gate(filter: &[f32], gate: &[f32], row: &mut [u8]) {
        for ((value, &filter), &gate) in row.iter_mut().zip(filter).zip(gate) {
            // tanh(f) (tanh(g / 2) + 1) / 2 with one division.
            let ((f, f_below), (g, g_below)) = (tanh_ratio(filter), tanh_ratio(0.5 * gate));
            let unit = (f * (g + g_below)) / (f_below * g_below);
            *value = unit.mul_add(63.5, ROUND).to_bits() as u8;
        }
    }

    #[inline(always)]
    fn reach(&self) -> usize {
        self.inputs.max(self.scale_at.map_or(0, |at| at + size_of::<f32>()))
    }

    #[inline(always)]
    fn rows(&self) -> usize {
        self.blocks * BLOCK
    }

    /// With scales of 1, so that its products are whole numbers, exact as floats: 1024 gated units
    /// give less than 2^24.
    fn segment(&self, segment: usize, width: usize) -> Self {
        let range = segment * width..self.inputs.min((segment + 1) * width);
        let (mut weights, mut corrections) = (Vec::new(), vec![0; self.rows()]);
        let groups = self.weights.chunks(self.group * self.inputs * BLOCK);
        for (group, first) in groups.zip((0..).step_by(self.group * BLOCK)) {
            let each = group.len() / self.inputs;
            let part = &group[range.start * each..range.end * each];
            for four in part.chunks_exact(each * STEP) {
                for (correction, row) in corrections[first..].iter_mut().zip(four.chunks(STEP)) {
                    *correction -= 128 * row.iter().map(|&weight| i32::from(weight)).sum::<i32>();
                }
            }
            weights.extend_from_slice(part);
        }
        Self {
            weights: Aligned::from(&weights[..]),
            corrections: Aligned::from(&corrections[..]),
            scales: Aligned::from(&vec![1.0; self.rows()][..]),
            inputs: range.len(),
            ..*self
        }
    }

    fn scales(&self) -> &[f32] {
        &self.scales
    }

    #[inline(always)]
    fn begin_total(_: f32) -> f64 {
        0.0
    }

    #[inline(always)]
    fn add_to_total(total: f64, sum: f32) -> f64 {
        total + f64::from(sum)
    }

    #[inline(always)]
    fn finish_totals(totals: &[f64], scales: &[f32], bias: &[f32], out: &mut [f32]) {
        for (((out, &total), &scale), bias) in out.iter_mut().zip(totals).zip(scales).zip(bias) {
            *out = (total as f32).mul_add(scale, *bias);
        }
    }

    #[inline(always)]
    unsafe fn multiply<S: Simd>(&self, mut product: Product<'_, Self>) {
        let rows = product.inputs.starts.len();
        // The weights of a group stay near while every input meets them.
        let mut span = 0;
        while span < self.blocks {
            let end = self.blocks.min(span + self.group);
            let mut row = 0;
            while row < rows {
                let left = (rows - row).min(S::INT8_ROWS);
                let left = if left == 3 { 2 } else { left };
                // SAFETY: so many rows and blocks are left, and the caller's.
                unsafe {
                    match left {
                        1 => self.tiles::<S, 1>(span..end, &product.pointers(row)),
                        2 => self.tiles::<S, 2>(span..end, &product.pointers(row)),
                        _ => self.tiles::<S, 4>(span..end, &product.pointers(row)),
                    }
                }
                row += left;
            }
            span = end;
        }
    }
}

type Pointers<const ROWS: usize> = [(*const u8, *const f32, *mut f32); ROWS];

impl Int8Matrix {
    /// Some blocks of the results of `ROWS` rows.
    ///
    /// # Safety
    /// As [`Matrix::multiply`], for the rows behind the pointers; the blocks exist.
    #[inline(always)]
    unsafe fn tiles<S: Simd, const ROWS: usize>(
        &self,
        blocks: std::ops::Range<usize>,
        rows: &Pointers<ROWS>,
    ) {
        let mut first = blocks.start;
        while first < blocks.end {
            let left = (blocks.end - first).min(S::int8_tile(ROWS));
            // SAFETY: the caller's.
            unsafe {
                let done = match left {
                    8.. => self.tile::<S::Dots, 8, ROWS>(first, rows),
                    4..8 => self.tile::<S::Dots, 4, ROWS>(first, rows),
                    2..4 => self.tile::<S::Dots, 2, ROWS>(first, rows),
                    _ => self.tile::<S::Dots, 1, ROWS>(first, rows),
                };
                first += done;
            }
        }
    }

    /// `TILE` blocks of the results of `ROWS` rows, from block `first` on; returns `TILE`.
    ///
    /// # Safety
    /// As [`Int8Matrix::tiles`].
    #[inline(always)]
    unsafe fn tile<D: Dots, const TILE: usize, const ROWS: usize>(
        &self,
        first: usize,
        rows: &Pointers<ROWS>,
    ) -> usize {
        let group = first / self.group * self.group;
        let step = (self.blocks - group).min(self.group) * BLOCK * STEP;
        let mut sums = [[D::zero(); ROWS]; TILE];
        // SAFETY: the caller's; weights lie as `weights` says.
        unsafe {
            let mut weights = self.weights.as_ptr();
            weights = weights.add(group * self.inputs * BLOCK + first % self.group * BLOCK * STEP);
            for at in (0..self.inputs).step_by(STEP) {
                let inputs: [D::Inputs; ROWS] =
                    std::array::from_fn(|row| D::load_inputs(rows[row].0.add(at)));
                for (index, sums) in sums.iter_mut().enumerate() {
                    D::add_products(sums, weights.add(index * BLOCK * STEP), &inputs);
                }
                // Beyond the last position it points nowhere.
                weights = weights.wrapping_add(step);
            }
            for (row, &(input, init, out)) in rows.iter().enumerate() {
                let scale = match self.scale_at {
                    Some(at) => input.add(at).cast::<f32>().read_unaligned(),
                    None => 1.0,
                };
                for (index, sums) in sums.iter().enumerate() {
                    let block = (first + index) * BLOCK;
                    sums[row].finish(
                        self.corrections.as_ptr().add(block),
                        self.scales.as_ptr().add(block),
                        scale,
                        init.add(block),
                        out.add(block),
                    );
                }
            }
        }
        TILE
    }
}
