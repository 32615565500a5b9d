//! Matrices in the order in which the kernels read them, and what they are multiplied with.
//!
//! A matrix is cut into blocks of 16 output rows, and its input into segments: one, except for the
//! skips, whose segments are the layers. Inputs and rows are padded with zeros.

use super::aligned::Plain;
use super::kernel::Kernel;
use super::simd::{BLOCK, Simd, Task};

/// Rounds up to whole blocks: the length of every buffer of floats between products.
pub(super) fn padded(channels: usize) -> usize {
    channels.next_multiple_of(BLOCK)
}

/// max(0, value); 0 for NaN.
#[inline(always)]
pub(super) fn relu(value: f32) -> f32 {
    if value > 0.0 { value } else { 0.0 }
}

/// Weights before they are packed.
pub(super) struct Source<'a> {
    /// Row-major matrices `[rows, inputs]`. Shape: `[stacked][segments]`; each of those stacked is
    /// padded to whole blocks.
    pub(super) stack: Vec<Vec<&'a [f32]>>,
    /// Columns of each.
    pub(super) inputs: usize,
    /// What the inputs are.
    pub(super) kind: InputKind,
}

/// What is multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputKind {
    /// Anything.
    Any,
    /// Gated units, between -1 and 1.
    Gated,
    /// What a relu leaves: never negative.
    Rectified,
}

impl<'a> Source<'a> {
    /// Matrices below each other, of one segment.
    pub(super) fn stacked(stack: &[&'a [f32]], inputs: usize, kind: InputKind) -> Self {
        Self { stack: stack.iter().map(|part| vec![*part]).collect(), inputs, kind }
    }

    /// Calls `each` with each block's rows: `rows[r][segment]`, at most 16.
    pub(super) fn for_each_block(&self, mut each: impl FnMut(&[Vec<&'a [f32]>])) {
        for part in &self.stack {
            let rows = part.first().map_or(0, |segment| segment.len() / self.inputs);
            let row = |row: usize| {
                let range = row * self.inputs..(row + 1) * self.inputs;
                part.iter().map(|segment| &segment[range.clone()]).collect()
            };
            let rows: Vec<Vec<&[f32]>> = (0..rows).map(row).collect();
            rows.chunks(BLOCK).for_each(&mut each);
        }
    }

    /// Number of segments.
    pub(super) fn segments(&self) -> usize {
        self.stack.first().map_or(0, Vec::len)
    }
}

/// Packed weights of one type, and the values that they multiply.
pub(super) trait Matrix: Sized {
    /// What the inputs are made of.
    type Value: Plain + std::fmt::Debug + Send + 'static;
    /// A sum over segments that is not finished.
    type Total: Copy + Default + Send + 'static;

    /// Packs for a kernel.
    fn pack(kernel: Kernel, source: &Source<'_>) -> Self;
    /// A weight as it enters tables computed ahead.
    fn stored(weight: f32) -> f32;
    /// Values of a row that holds `channels` inputs of a kind.
    fn width(channels: usize, kind: InputKind) -> usize;
    /// Turns floats into a row of inputs.
    fn convert(from: &[f32], row: &mut [Self::Value]);
    /// The same after a relu, for [`InputKind::Rectified`].
    fn convert_rectified(from: &[f32], row: &mut [Self::Value]);
    /// Turns the sums of filter and gate into a row of gated units.
    fn gate(filter: &[f32], gate: &[f32], row: &mut [Self::Value]);
    /// Values of the inputs that a product reads: all of a row but its end.
    fn reach(&self) -> usize;
    /// Output rows, padded.
    fn rows(&self) -> usize;
    /// One segment as a matrix of its own, from rows of inputs of so many values a segment. Its
    /// products are to be added to totals, and make the whole's.
    fn segment(&self, segment: usize, width: usize) -> Self;
    /// What [`Matrix::finish_totals`] needs of every row, if anything.
    fn scales(&self) -> &[f32];
    /// A total before any segment.
    fn begin_total(bias: f32) -> Self::Total;
    /// A total with one more segment.
    fn add_to_total(total: Self::Total, sum: f32) -> Self::Total;
    /// Turns the totals of all rows into what the whole product gives.
    fn finish_totals(totals: &[Self::Total], scales: &[f32], bias: &[f32], out: &mut [f32]);
    /// Does the product; `tasks` has been checked.
    ///
    /// # Safety
    /// Every start plus [`Matrix::reach`] or [`Matrix::rows`] lies within its memory.
    unsafe fn multiply<S: Simd>(&self, product: Product<'_, Self>);
}

/// Rows somewhere in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a, T> {
    pub(super) memory: &'a [T],
    /// Where each begins.
    pub(super) starts: &'a [usize],
}

/// `out[i] = init[i] + matrix inputs[i]`, for every row i at once.
pub(super) struct Product<'a, M: Matrix> {
    pub(super) matrix: &'a M,
    pub(super) inputs: Rows<'a, M::Value>,
    /// None: what stands in `out`.
    pub(super) init: Option<Rows<'a, f32>>,
    pub(super) out: &'a mut [f32],
    pub(super) out_starts: &'a [usize],
}

impl<M: Matrix> Task for Product<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let fit = |starts: &[usize], len: usize, within: usize| {
            starts.iter().all(|&start| start <= within && len <= within - start)
        };
        let (reach, rows) = (self.matrix.reach(), self.matrix.rows());
        let count = self.inputs.starts.len();
        assert!(self.out_starts.len() == count && fit(self.out_starts, rows, self.out.len()));
        assert!(fit(self.inputs.starts, reach, self.inputs.memory.len()));
        if let Some(init) = &self.init {
            assert!(init.starts.len() == count && fit(init.starts, rows, init.memory.len()));
        }
        // SAFETY: just asserted.
        unsafe { self.matrix.multiply::<S>(self) }
    }
}

impl<M: Matrix> Product<'_, M> {
    /// Pointers to the inputs, initial values and results of `N` rows from `first` on.
    ///
    /// # Safety
    /// There are so many, and all lie within their memory.
    #[inline(always)]
    pub(super) unsafe fn pointers<const N: usize>(
        &mut self,
        first: usize,
    ) -> [(*const M::Value, *const f32, *mut f32); N] {
        // One borrow for all rows.
        let outs = self.out.as_mut_ptr();
        std::array::from_fn(|index| {
            // SAFETY: the caller's.
            unsafe {
                let out = outs.add(*self.out_starts.get_unchecked(first + index));
                let start = *self.inputs.starts.get_unchecked(first + index);
                let input = self.inputs.memory.as_ptr().add(start);
                let init = match &self.init {
                    None => out.cast_const(),
                    Some(init) => {
                        init.memory.as_ptr().add(*init.starts.get_unchecked(first + index))
                    }
                };
                (input, init, out)
            }
        })
    }
}
