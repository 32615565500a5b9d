//! What a set of instructions must offer, so that everything else is written once.
//!
//! A kernel of this engine is generic over [`Simd`]. The implementations (`scalar.rs`, `avx2.rs`,
//! `avx512.rs`) differ in nothing but the width of their registers: each lane of a vector is an
//! output row of its own, so no sum is ever made across lanes, and the bytes cannot differ.

/// Output rows of a block of weights.
pub(super) const BLOCK: usize = 16;

/// A set of instructions.
pub(super) trait Simd {
    /// Vectors of f32.
    type Floats: Floats;
    /// Sums of products of 8-bit integers.
    type Dots: Dots;
    /// Most input rows of a float product that one pass over the weights serves.
    const FLOAT_ROWS: usize;
    /// The same for int8.
    const INT8_ROWS: usize;

    /// Output vectors that a float product sums at once, for 1, 2 and 3 input rows: as many as keep
    /// all sums in registers.
    fn float_tile(rows: usize) -> usize;
    /// The same for the blocks of an int8 product, for 1 to 4 input rows.
    fn int8_tile(rows: usize) -> usize;
}

/// A piece of work, to be compiled once for each set of instructions. `run` must be
/// `#[inline(always)]`, and everything that it calls too.
pub(super) trait Task {
    /// What it gives back.
    type Output;
    /// Does the work.
    fn run<S: Simd>(self) -> Self::Output;
}

/// A vector of f32.
pub(super) trait Floats: Copy {
    /// Its lanes: 8 or 16.
    const LANES: usize;
    /// All lanes +0.0.
    fn zero() -> Self;
    /// All lanes the same.
    fn splat(value: f32) -> Self;
    /// # Safety
    /// `LANES` floats can be read there.
    unsafe fn load(from: *const f32) -> Self;
    /// The lower and the upper bf16 of each u32, widened.
    ///
    /// # Safety
    /// `LANES` u32 can be read there.
    unsafe fn load_bf16(from: *const u32) -> [Self; 2];
    /// # Safety
    /// `LANES` floats can be written there.
    unsafe fn store(self, to: *mut f32);
    /// `self * factor + addend`, rounded once.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// Rounded once.
    fn plus(self, other: Self) -> Self;
}

/// Sixteen sums of products, one for each row of a block.
pub(super) trait Dots: Copy {
    /// Four inputs, ready to be multiplied.
    type Inputs: Copy;
    /// All sums zero.
    fn zero() -> Self;
    /// # Safety
    /// Four inputs can be read there.
    unsafe fn load_inputs(from: *const u8) -> Self::Inputs;
    /// Adds the products of four inputs with four weights a row, for each of `N` vectors of inputs.
    ///
    /// # Safety
    /// 64 weights can be read there: four of the first row, four of the second ...
    unsafe fn add_products<const N: usize>(
        sums: &mut [Self; N],
        weights: *const i8,
        inputs: &[Self::Inputs; N],
    );
    /// `out = (sums + correction) * (scales * scale) + init`, the product and the sum with `init`
    /// rounded once together.
    ///
    /// # Safety
    /// `correction`, `scales` and `init` can be read, and `out` written, for one block.
    unsafe fn finish(
        self,
        correction: *const i32,
        scales: *const f32,
        scale: f32,
        init: *const f32,
        out: *mut f32,
    );
}
