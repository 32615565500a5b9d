//! Matrix products that read their factors where they lie, however they lie.
//!
//! A training step multiplies matrices that are long in time and narrow in channels. A general
//! product spends a good part of its time on copying both factors into order; here the first is
//! read in place, one number at a time spread over a vector, so it may be transposed or strided at
//! will, and sums over several taps are one product. Forward products, input gradients and
//! weight gradients are all the same loop. Of the second factor, the strip of columns at hand is copied
//! together: rows a power of two apart would fight for the same places in the cache. A tile of 12
//! rows x 2 vectors (6 x 2 where there are 16 registers) is summed in registers.
//!
//! Every sum runs over its terms in their order, one fused multiply-add after another, and what it is
//! added to comes last: the tiling changes no bit.

use std::cell::RefCell;

use pulp::{Arch, MemMask, Simd, WithSimd};

/// A matrix inside a slice: the element (row, col) lies at `row * strides[0] + col * strides[1]`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    values: &'a [f32],
    rows: usize,
    cols: usize,
    strides: [usize; 2],
}

impl<'a> View<'a> {
    /// A row-major matrix whose rows follow each other.
    pub(crate) fn new(values: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(values, rows, cols, cols)
    }

    /// A row-major matrix, its rows `stride` floats apart.
    pub(crate) fn strided(values: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        Self { values, rows, cols, strides: [stride, 1] }
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        let Self { values, rows, cols, strides: [row_stride, col_stride] } = self;
        Self { values, rows: cols, cols: rows, strides: [col_stride, row_stride] }
    }

    fn check(&self) {
        let needed = match (self.rows, self.cols) {
            (0, _) | (_, 0) => 0,
            (rows, cols) => (rows - 1) * self.strides[0] + (cols - 1) * self.strides[1] + 1,
        };
        assert!(needed <= self.values.len(), "a view beyond its slice");
    }
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(crate) enum To<'a> {
    /// Nothing: it replaces what is there.
    Nothing,
    /// The same row everywhere. Shape: `[columns]`.
    Row(&'a [f32]),
    /// What is there.
    There,
}

/// `out = to + sum of the products a b` of all terms `[a, b]`, each `[rows, k] x [k, columns]`
/// with a `k` of its own. Without terms nothing happens. The rows of `out` lie `stride` apart; what lies between them
/// stays. `b` must not be transposed.
pub(crate) fn multiply(terms: &[[View<'_>; 2]], out: &mut [f32], stride: usize, to: To<'_>) {
    let Some([first_a, first_b]) = terms.first() else { return };
    let (rows, cols) = (first_a.rows, first_b.cols);
    for [a, b] in terms {
        a.check();
        b.check();
        assert_eq!(a.cols, b.rows, "inner dimensions differ");
        assert_eq!((a.rows, b.cols), (rows, cols), "terms of different shapes");
        assert_eq!(b.strides[1], 1, "the second factor lies in rows");
    }
    View::strided(out, rows, cols, stride).check();
    assert!(cols <= stride, "rows of the output overlap");
    if let To::Row(row) = to {
        assert_eq!(row.len(), cols, "a row of another width");
    }
    let out = out.as_mut_ptr();
    let depth: usize = terms.iter().map(|[a, _]| a.cols).sum();
    STRIP.with_borrow_mut(|strip| {
        if strip.len() < 2 * depth {
            strip.resize(2 * depth, Line { _floats: [0.0; 16] });
        }
        let strip = strip.as_mut_ptr().cast();
        Arch::new().dispatch(Product { terms, out, stride, rows, cols, to, strip });
    });
}

/// As much as the widest vector holds, a line of the cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    _floats: [f32; 16],
}

thread_local! {
    /// The second factors' columns of a strip: two vectors for each number of the first's.
    static STRIP: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// A product whose bounds have been checked.
#[derive(Clone, Copy)]
struct Product<'a> {
    terms: &'a [[View<'a>; 2]],
    out: *mut f32,
    stride: usize,
    rows: usize,
    cols: usize,
    to: To<'a>,
    strip: *mut f32,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 { self.run::<S, 12>(simd) } else { self.run::<S, 6>(simd) }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(self, simd: S) {
        let mut col = 0;
        while col + 2 * S::F32_LANES <= self.cols {
            self.strip::<S, ROWS, 2>(simd, col);
            col += 2 * S::F32_LANES;
        }
        while col < self.cols {
            self.strip::<S, ROWS, 1>(simd, col);
            col += S::F32_LANES;
        }
    }

    /// All rows of `VECTORS` vectors from column `col` on; a single vector may reach beyond the last.
    #[inline(always)]
    fn strip<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S, col: usize) {
        let lanes = S::F32_LANES;
        let mut to = self.strip;
        for [_, b] in self.terms {
            for k in 0..b.rows {
                for v in 0..VECTORS {
                    // SAFETY: `multiply` has checked that the view holds all its rows and columns,
                    // and made room for two vectors of each row in the strip.
                    unsafe {
                        let from = b.values.as_ptr().add(k * b.strides[0] + col + v * lanes);
                        to.cast::<S::f32s>().write(self.load::<S, VECTORS>(simd, from, col));
                        to = to.add(lanes);
                    }
                }
            }
        }
        let mut row = 0;
        while row + ROWS <= self.rows {
            self.tile::<S, ROWS, VECTORS>(simd, row, col);
            row += ROWS;
        }
        while row + 4 <= self.rows {
            self.tile::<S, 4, VECTORS>(simd, row, col);
            row += 4;
        }
        while row < self.rows {
            self.tile::<S, 1, VECTORS>(simd, row, col);
            row += 1;
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
        self,
        simd: S,
        row: usize,
        col: usize,
    ) {
        let lanes = S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        let mut strip = self.strip.cast_const();
        // SAFETY: `multiply` has checked that every view, and `out`, holds all of its rows and
        // columns, and the row of `To` as many columns; the caller lets `row + ROWS` and the lanes
        // used stay within them. The strip holds as many vectors as the views `a` have columns. `out` is
        // borrowed exclusively, so nothing overlaps it.
        unsafe {
            for [a, _] in self.terms {
                let [a_row, a_col] = a.strides;
                let mut from_a = a.values.as_ptr().add(row * a_row);
                for k in 0..a.cols {
                    let mut factors = [simd.splat_f32s(0.0); VECTORS];
                    for (v, factor) in factors.iter_mut().enumerate() {
                        *factor = strip.add(v * lanes).cast::<S::f32s>().read();
                    }
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let number = simd.splat_f32s(*from_a.add(r * a_row));
                        for (sum, factor) in sums.iter_mut().zip(factors) {
                            *sum = simd.mul_add_e_f32s(number, factor, *sum);
                        }
                    }
                    strip = strip.add(VECTORS * lanes);
                    // No pointer is moved beyond its slice.
                    if k + 1 < a.cols {
                        from_a = from_a.add(a_col);
                    }
                }
            }
            let out = self.out.add(row * self.stride + col);
            for (r, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    let out = out.add(r * self.stride + v * lanes);
                    let added = match self.to {
                        To::Nothing => None,
                        To::Row(row) => Some(row.as_ptr().add(col + v * lanes)),
                        To::There => Some(out.cast_const()),
                    };
                    let sum = match added {
                        None => sum,
                        Some(to) => simd.add_f32s(sum, self.load::<S, VECTORS>(simd, to, col)),
                    };
                    match VECTORS {
                        1 => simd.mask_store_ptr_f32s(self.inside(simd, col), out, sum),
                        _ => out.cast::<S::f32s>().write_unaligned(sum),
                    }
                }
            }
        }
    }

    /// The lanes of a single vector at column `col` that lie before the last column.
    #[inline(always)]
    fn inside<S: Simd>(&self, simd: S, col: usize) -> MemMask<S::m32s> {
        simd.mask_between_m32s(0, (self.cols - col).min(S::F32_LANES) as u32)
    }

    /// One of `VECTORS` vectors at column `col`.
    ///
    /// # Safety
    /// The lanes inside the matrix can be read: of two vectors these are all.
    #[inline(always)]
    unsafe fn load<S: Simd, const VECTORS: usize>(
        &self,
        simd: S,
        from: *const f32,
        col: usize,
    ) -> S::f32s {
        // SAFETY: the caller's.
        unsafe {
            match VECTORS {
                1 => simd.mask_load_ptr_f32s(self.inside(simd, col), from),
                _ => from.cast::<S::f32s>().read_unaligned(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small whole numbers: every order of summing gives the same.
    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        (0..len as u32).map(|i| ((i * 37 + seed * 11) % 17) as f32 - 8.0).collect()
    }

    fn expected(terms: &[[View<'_>; 2]], row: usize, col: usize) -> f32 {
        let at = |m: &View<'_>, row, col| m.values[row * m.strides[0] + col * m.strides[1]];
        let product = |[a, b]: &[View<'_>; 2]| -> f32 {
            (0..a.cols).map(|k| at(a, row, k) * at(b, k, col)).sum()
        };
        terms.iter().map(product).sum()
    }

    #[test]
    fn products_of_all_shapes_match_the_definition() {
        for (rows, cols) in [(1, 1), (5, 7), (12, 32), (13, 33), (31, 16), (24, 69), (3, 130)] {
            for depth in [1, 2, 9] {
                let (stride, row) = (cols + 3, numbers(cols, 4));
                let (a, b) = (numbers(rows * depth, 1), numbers(depth * stride, 2));
                let (c, d) = (numbers(rows * 5, 5), numbers(5 * cols, 6));
                let terms = [
                    [
                        View::new(&a, depth, rows).transposed(),
                        View::strided(&b, depth, cols, stride),
                    ],
                    [View::new(&c, rows, 5), View::new(&d, 5, cols)],
                ];
                for terms in [&terms[..1], &terms[1..], &terms] {
                    let there = numbers(rows * stride, 3);
                    for to in [To::Nothing, To::Row(&row), To::There] {
                        let mut out = there.clone();
                        multiply(terms, &mut out, stride, to);
                        for (index, (out, there)) in out.iter().zip(&there).enumerate() {
                            let (r, c) = (index / stride, index % stride);
                            if c >= cols {
                                assert_eq!(out, there, "what lies between the rows");
                                continue;
                            }
                            let to = match to {
                                To::Nothing => 0.0,
                                To::Row(row) => row[c],
                                To::There => *there,
                            };
                            assert_eq!(*out, to + expected(terms, r, c));
                        }
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "a view beyond its slice")]
    fn a_view_beyond_its_slice_is_refused() {
        let a = View::strided(&[0.0; 8], 3, 3, 3);
        multiply(&[[a, a]], &mut [0.0; 9], 3, To::Nothing);
    }

    #[test]
    #[should_panic(expected = "a view beyond its slice")]
    fn an_output_beyond_its_slice_is_refused() {
        let a = View::new(&[0.0; 9], 3, 3);
        multiply(&[[a, a]], &mut [0.0; 8], 3, To::Nothing);
    }
}
