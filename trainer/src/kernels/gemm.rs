//! Matrix products on row-major slices, by the `gemm` crate, single-threaded (the batch is what is
//! split over threads). The one place of the trainer with `unsafe`: the crate takes pointers, and
//! every bound is checked here first.

/// A row-major matrix inside a slice: `rows` x `cols`, rows `stride` floats apart.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) stride: usize,
}

impl<'a> View<'a> {
    /// All of a matrix whose rows follow each other.
    pub(crate) fn new(values: &'a [f32], rows: usize, cols: usize) -> Self {
        Self { values, rows, cols, stride: cols }
    }

    /// The first `cols` columns.
    pub(crate) fn columns(self, cols: usize) -> Self {
        assert!(cols <= self.cols, "a view cannot grow");
        Self { cols, ..self }
    }

    fn check(&self) {
        let needed = match (self.rows, self.cols) {
            (0, _) | (_, 0) => 0,
            (rows, cols) => (rows - 1) * self.stride + cols,
        };
        assert!(self.cols <= self.stride && needed <= self.values.len(), "a view beyond its slice");
    }
}

/// What happens to what `out` held.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    Replace,
    Add,
}

/// `out (+)= a b`: `[m, k] x [k, n] -> [m, n]`, `out` dense.
pub(crate) fn multiply(a: View<'_>, b: View<'_>, out: &mut [f32], mode: Into) {
    multiply_strided(a, b, out, b.cols, mode);
}

/// As [`multiply`], the rows of `out` `stride` apart; what lies between them stays.
pub(crate) fn multiply_strided(
    a: View<'_>,
    b: View<'_>,
    out: &mut [f32],
    stride: usize,
    mode: Into,
) {
    assert_eq!(a.cols, b.rows, "inner dimensions differ");
    let (m, n, k) = (a.rows, b.cols, a.cols);
    run([m, n, k], (out, stride), (a, [a.stride, 1]), (b, [b.stride, 1]), mode);
}

/// `out (+)= a^T b`: `[k, m] x [k, n] -> [m, n]`, `out` dense.
pub(crate) fn transposed_multiply(a: View<'_>, b: View<'_>, out: &mut [f32], mode: Into) {
    assert_eq!(a.rows, b.rows, "inner dimensions differ");
    let (m, n, k) = (a.cols, b.cols, a.rows);
    run([m, n, k], (out, n), (a, [1, a.stride]), (b, [b.stride, 1]), mode);
}

/// `[m, n, k]`; the output with the stride of its rows, each operand with its strides along (rows, columns) of the product's view of it.
fn run(
    [m, n, k]: [usize; 3],
    (out, out_stride): (&mut [f32], usize),
    (a, a_strides): (View<'_>, [usize; 2]),
    (b, b_strides): (View<'_>, [usize; 2]),
    mode: Into,
) {
    a.check();
    b.check();
    View { values: out, rows: m, cols: n, stride: out_stride }.check();
    // SAFETY: `check` holds both operands inside their slices and the [m, n] output inside `out`, and `out` is borrowed exclusively, so nothing overlaps it.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            mode == Into::Add,
            a.values.as_ptr(),
            a_strides[1] as isize,
            a_strides[0] as isize,
            b.values.as_ptr(),
            b_strides[1] as isize,
            b_strides[0] as isize,
            1.0_f32,
            1.0_f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        (0..len as u32).map(|i| ((i * 37 + seed * 11) % 17) as f32 - 8.0).collect()
    }

    #[test]
    fn both_products_match_the_definition() {
        let (m, n, k) = (5, 7, 3);
        let (a, b) = (numbers(m * k, 1), numbers(n * k, 2));
        let mut expected = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                expected[i * n + j] = (0..k).map(|l| a[i * k + l] * b[j * k + l]).sum();
            }
        }
        let transpose = |x: &[f32], rows: usize, cols: usize| -> Vec<f32> {
            (0..cols * rows).map(|i| x[(i % rows) * cols + i / rows]).collect()
        };
        let (at, bt) = (transpose(&a, m, k), transpose(&b, n, k));
        let mut out = vec![1.0; m * n];
        multiply(View::new(&a, m, k), View::new(&bt, k, n), &mut out, Into::Replace);
        assert_eq!(out, expected);
        transposed_multiply(View::new(&at, k, m), View::new(&bt, k, n), &mut out, Into::Replace);
        assert_eq!(out, expected);
        multiply(View::new(&a, m, k), View::new(&bt, k, n), &mut out, Into::Add);
        assert!(out.iter().zip(&expected).all(|(out, expected)| *out == 2.0 * expected));
    }

    #[test]
    #[should_panic(expected = "a view beyond its slice")]
    fn a_view_beyond_its_slice_is_refused() {
        let a = View { values: &[0.0; 8], rows: 3, cols: 3, stride: 3 };
        multiply(a, a, &mut [0.0; 4], Into::Replace);
    }
}
