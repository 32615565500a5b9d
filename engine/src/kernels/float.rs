//! Products in f32, of weights stored as f32 or as bf16.
//!
//! Each row is four chains of fused multiply-adds, one for each contiguous quarter of the input,
//! each from +0.0, added left to right (docs/model-format.md, section 9). A block's values lie by
//! position in the quarter, then quarter, then row: at each position a kernel broadcasts four inputs
//! (one a quarter) and reads 4 x 16 weights in a row. As bf16, two quarters share a u32.

use super::aligned::{Aligned, Plain};
use super::kernel::Kernel;
use super::matrix::{InputKind, Matrix, Product, Source, padded, relu};
use super::simd::{BLOCK, Floats, Simd};
use crate::math::{sigmoid, tanh};

/// Chains of fused multiply-adds a row.
const QUARTERS: usize = 4;

/// How a weight is stored.
pub(super) trait Storage {
    /// One or two weights.
    type Unit: Plain;
    /// Units of a block at one position: of all four quarters.
    const UNITS: usize;
    /// Stores one block's weights at one position.
    fn store(weights: &[[f32; BLOCK]; QUARTERS], units: &mut Vec<Self::Unit>);
    /// What a weight is worth once stored.
    fn stored(weight: f32) -> f32;
    /// Weights of quarters `2 pair` and `2 pair + 1`, from the units of a position on.
    ///
    /// # Safety
    /// A block's units can be read there.
    unsafe fn load<V: Floats>(units: *const Self::Unit, pair: usize) -> [V; 2];
}

/// As they are.
#[derive(Debug)]
pub(super) struct AsF32;

/// Rounded to the upper 16 bits, ties to even; widened exactly.
#[derive(Debug)]
pub(super) struct AsBf16;

impl Storage for AsF32 {
    type Unit = f32;
    const UNITS: usize = QUARTERS * BLOCK;

    fn store(weights: &[[f32; BLOCK]; QUARTERS], units: &mut Vec<f32>) {
        units.extend(weights.as_flattened());
    }

    fn stored(weight: f32) -> f32 {
        weight
    }

    #[inline(always)]
    unsafe fn load<V: Floats>(units: *const f32, pair: usize) -> [V; 2] {
        // SAFETY: the caller's.
        unsafe {
            let units = units.add(2 * pair * BLOCK);
            [V::load(units), V::load(units.add(BLOCK))]
        }
    }
}

impl Storage for AsBf16 {
    type Unit = u32;
    const UNITS: usize = QUARTERS / 2 * BLOCK;

    fn store(weights: &[[f32; BLOCK]; QUARTERS], units: &mut Vec<u32>) {
        let bits = |weight: f32| u32::from(half::bf16::from_f32(weight).to_bits());
        for pair in weights.chunks_exact(2) {
            let rows = pair[0].iter().zip(&pair[1]);
            units.extend(rows.map(|(&lower, &upper)| bits(lower) | bits(upper) << 16));
        }
    }

    fn stored(weight: f32) -> f32 {
        half::bf16::from_f32(weight).to_f32()
    }

    #[inline(always)]
    unsafe fn load<V: Floats>(units: *const u32, pair: usize) -> [V; 2] {
        // SAFETY: the caller's.
        unsafe { V::load_bf16(units.add(pair * BLOCK)) }
    }
}

/// A matrix of float weights.
#[derive(Debug)]
pub(super) struct FloatMatrix<W: Storage> {
    /// Shape: `[blocks / group][segments][quarter_len][group][W::UNITS]`; the last group may have
    /// fewer blocks.
    units: Aligned<W::Unit>,
    blocks: usize,
    /// Blocks that lie in memory interleaved, as they are read together. They meet all inputs before
    /// the next are read.
    group: usize,
    segments: usize,
    /// Inputs of one quarter of a segment.
    quarter_len: usize,
    /// From one segment of the input to the next.
    stride: usize,
}

impl<W: Storage> Matrix for FloatMatrix<W> {
    type Value = f32;
    type Total = f32;

    fn pack(kernel: Kernel, source: &Source<'_>) -> Self {
        let group = kernel.float_group();
        let quarter_len = source.inputs.div_ceil(QUARTERS);
        let positions = source.segments() * quarter_len;
        let mut blocks = Vec::new();
        source.for_each_block(|rows| {
            let mut block = Vec::with_capacity(positions * W::UNITS);
            for position in 0..positions {
                let (segment, position) = (position / quarter_len, position % quarter_len);
                let mut weights = [[0.0; BLOCK]; QUARTERS];
                for (quarter, weights) in weights.iter_mut().enumerate() {
                    let column = quarter * quarter_len + position;
                    for (weight, row) in weights.iter_mut().zip(rows) {
                        *weight = row[segment].get(column).copied().unwrap_or(0.0);
                    }
                }
                W::store(&weights, &mut block);
            }
            blocks.push(block);
        });
        let mut units: Vec<W::Unit> = Vec::with_capacity(blocks.len() * positions * W::UNITS);
        for group in blocks.chunks(group) {
            for at in 0..positions {
                let range = at * W::UNITS..(at + 1) * W::UNITS;
                group.iter().for_each(|block| units.extend_from_slice(&block[range.clone()]));
            }
        }
        Self {
            units: Aligned::from(&units[..]),
            blocks: blocks.len(),
            group,
            segments: source.segments(),
            quarter_len,
            stride: padded(source.inputs),
        }
    }

    fn stored(weight: f32) -> f32 {
        W::stored(weight)
    }

    fn width(channels: usize, _: InputKind) -> usize {
        padded(channels)
    }

    #[inline(always)]
    fn convert(from: &[f32], row: &mut [f32]) {
        let (values, padding) = row.split_at_mut(from.len());
        values.copy_from_slice(from);
        padding.fill(0.0);
    }

    #[inline(always)]
    fn convert_rectified(from: &[f32], row: &mut [f32]) {
        for (value, &from) in row.iter_mut().zip(from) {
            *value = relu(from);
        }
    }

    #[inline(always)]
    fn gate(filter: &[f32], gate: &[f32], row: &mut [f32]) {
        for ((value, &filter), &gate) in row.iter_mut().zip(filter).zip(gate) {
            *value = tanh(filter) * sigmoid(gate);
        }
    }

    #[inline(always)]
    fn reach(&self) -> usize {
        (self.segments - 1) * self.stride + QUARTERS * self.quarter_len
    }

    #[inline(always)]
    fn rows(&self) -> usize {
        self.blocks * BLOCK
    }

    fn segment(&self, segment: usize, _: usize) -> Self {
        let mut units = Vec::with_capacity(self.units.len() / self.segments);
        let of_block = self.segments * self.quarter_len * W::UNITS;
        for group in self.units.chunks(self.group * of_block) {
            let len = group.len() / self.segments;
            units.extend_from_slice(&group[segment * len..(segment + 1) * len]);
        }
        Self { units: Aligned::from(&units[..]), segments: 1, ..*self }
    }

    fn scales(&self) -> &[f32] {
        &[]
    }

    /// The product's own order: from the bias on, segment by segment.
    #[inline(always)]
    fn begin_total(bias: f32) -> f32 {
        bias
    }

    #[inline(always)]
    fn add_to_total(total: f32, sum: f32) -> f32 {
        total + sum
    }

    #[inline(always)]
    fn finish_totals(totals: &[f32], _: &[f32], _: &[f32], out: &mut [f32]) {
        out.copy_from_slice(totals);
    }

    #[inline(always)]
    unsafe fn multiply<S: Simd>(&self, mut product: Product<'_, Self>) {
        let lanes = S::Floats::LANES;
        let vectors = self.rows() / lanes;
        let rows = product.inputs.starts.len();
        let mut span = 0;
        while span < vectors {
            let end = vectors.min(span + self.group * BLOCK / lanes);
            let mut row = 0;
            while row < rows {
                let left = (rows - row).min(S::FLOAT_ROWS);
                // SAFETY: so many rows and vectors are left, and the caller's.
                unsafe {
                    match left {
                        1 => self.tiles::<S, 1>(span..end, &product.pointers(row)),
                        2 => self.tiles::<S, 2>(span..end, &product.pointers(row)),
                        _ => self.tiles::<S, 3>(span..end, &product.pointers(row)),
                    }
                }
                row += left;
            }
            span = end;
        }
    }
}

type Pointers<const ROWS: usize> = [(*const f32, *const f32, *mut f32); ROWS];

impl<W: Storage> FloatMatrix<W> {
    /// Some vectors of the results of `ROWS` rows.
    ///
    /// # Safety
    /// As [`Matrix::multiply`], for the rows behind the pointers; the vectors exist.
    #[inline(always)]
    unsafe fn tiles<S: Simd, const ROWS: usize>(
        &self,
        vectors: std::ops::Range<usize>,
        rows: &Pointers<ROWS>,
    ) {
        let mut first = vectors.start;
        while first < vectors.end {
            let left = (vectors.end - first).min(S::float_tile(ROWS));
            // SAFETY: the caller's.
            unsafe {
                match left {
                    4.. => self.tile::<S::Floats, 4, ROWS>(first, rows),
                    2..4 => self.tile::<S::Floats, 2, ROWS>(first, rows),
                    _ => self.tile::<S::Floats, 1, ROWS>(first, rows),
                }
            }
            first += if left == 3 { 2 } else { left };
        }
    }

    /// `TILE` vectors of the results of `ROWS` rows, from vector `first` on.
    ///
    /// # Safety
    /// As [`FloatMatrix::tiles`].
    #[inline(always)]
    // Plain loops over the same index of several arrays: each becomes registers.
    #[allow(clippy::needless_range_loop)]
    unsafe fn tile<V: Floats, const TILE: usize, const ROWS: usize>(
        &self,
        first: usize,
        rows: &Pointers<ROWS>,
    ) {
        let len = self.quarter_len;
        let block_len = self.segments * len * W::UNITS;
        let group = first * V::LANES / BLOCK / self.group * self.group;
        let step = (self.blocks - group).min(self.group) * W::UNITS;
        // SAFETY: the caller's; weights lie as `units` says.
        unsafe {
            let mut weights: [*const W::Unit; TILE] = std::array::from_fn(|index| {
                let row = (first + index) * V::LANES - group * BLOCK;
                let in_group = row / BLOCK * W::UNITS + row % BLOCK;
                self.units.as_ptr().add(group * block_len + in_group)
            });
            let mut totals: [[V; TILE]; ROWS] = std::array::from_fn(|row| {
                std::array::from_fn(|index| V::load(rows[row].1.add((first + index) * V::LANES)))
            });
            for segment in 0..self.segments {
                let mut sums = [[[V::zero(); TILE]; ROWS]; QUARTERS];
                for position in 0..len {
                    for pair in 0..QUARTERS / 2 {
                        let loaded: [[V; 2]; TILE] =
                            std::array::from_fn(|index| W::load(weights[index], pair));
                        for half in 0..2 {
                            let quarter = 2 * pair + half;
                            for row in 0..ROWS {
                                let at = segment * self.stride + quarter * len + position;
                                let input = V::splat(*rows[row].0.add(at));
                                for index in 0..TILE {
                                    let sum = &mut sums[quarter][row][index];
                                    *sum = loaded[index][half].mul_add(input, *sum);
                                }
                            }
                        }
                    }
                    for weights in &mut weights {
                        // Beyond the last position it points nowhere.
                        *weights = weights.wrapping_add(step);
                    }
                }
                for row in 0..ROWS {
                    for index in 0..TILE {
                        let [a, b, c, d] = std::array::from_fn(|quarter| sums[quarter][row][index]);
                        totals[row][index] = totals[row][index].plus(a.plus(b).plus(c).plus(d));
                    }
                }
            }
            for row in 0..ROWS {
                for index in 0..TILE {
                    totals[row][index].store(rows[row].2.add((first + index) * V::LANES));
                }
            }
        }
    }
}
