//! The readable truth: vectors as arrays, in plain Rust. Every other implementation must equal it
//! to the byte.
//!
//! The loops run over 16 rows at once, and a compiler makes vector instructions of them wherever
//! the target has some (NEON on aarch64). On x86 there are two instantiations, with and without
//! fused multiply-add: without, each `mul_add` is a call of a library, right and very slow.

use super::simd::{BLOCK, Dots, Floats, Simd, Task};

/// Arrays.
pub(super) struct Scalar;

impl Simd for Scalar {
    type Floats = Array;
    type Dots = Sums;
    const FLOAT_ROWS: usize = 1;
    const INT8_ROWS: usize = 1;

    #[inline(always)]
    fn float_tile(_: usize) -> usize {
        1
    }

    #[inline(always)]
    fn int8_tile(_: usize) -> usize {
        1
    }
}

/// `mul_add` as one x86 instruction, eight lanes wide.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(super) fn run_with_fma<T: Task>(task: T) -> T::Output {
    task.run::<Scalar>()
}

/// `mul_add` as the target's own instruction (aarch64), or as a slow, exact library call.
pub(super) fn run<T: Task>(task: T) -> T::Output {
    task.run::<Scalar>()
}

/// Sixteen floats.
#[derive(Debug, Clone, Copy)]
pub(super) struct Array([f32; BLOCK]);

impl Floats for Array {
    const LANES: usize = BLOCK;

    #[inline(always)]
    fn zero() -> Self {
        Self([0.0; BLOCK])
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; BLOCK])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { from.cast::<[f32; BLOCK]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u32) -> [Self; 2] {
        // SAFETY: the caller's.
        let pairs = unsafe { &*from.cast::<[u32; BLOCK]>() };
        let mut out = [Self([0.0; BLOCK]); 2];
        for (lower, pair) in out[0].0.iter_mut().zip(pairs) {
            *lower = f32::from_bits(pair << 16);
        }
        for (upper, pair) in out[1].0.iter_mut().zip(pairs) {
            *upper = f32::from_bits(pair & 0xffff_0000);
        }
        out
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; BLOCK]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        let mut out = addend;
        for ((out, value), factor) in out.0.iter_mut().zip(self.0).zip(factor.0) {
            *out = value.mul_add(factor, *out);
        }
        out
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        let mut out = self;
        for (out, other) in out.0.iter_mut().zip(other.0) {
            *out += other;
        }
        out
    }
}

/// Sixteen integer sums.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums([i32; BLOCK]);

impl Dots for Sums {
    type Inputs = [i16; 4];

    #[inline(always)]
    fn zero() -> Self {
        Self([0; BLOCK])
    }

    #[inline(always)]
    unsafe fn load_inputs(from: *const u8) -> [i16; 4] {
        // SAFETY: the caller's.
        unsafe { from.cast::<[u8; 4]>().read() }.map(i16::from)
    }

    #[inline(always)]
    unsafe fn add_products<const N: usize>(
        sums: &mut [Self; N],
        weights: *const i8,
        inputs: &[[i16; 4]; N],
    ) {
        // SAFETY: the caller's.
        let weights = unsafe { &*weights.cast::<[[i8; 4]; BLOCK]>() };
        for (sums, x) in sums.iter_mut().zip(inputs) {
            for (sum, w) in sums.0.iter_mut().zip(weights) {
                // An i16 holds each product: 128 times 255 at most.
                let products: [i32; 4] = std::array::from_fn(|i| i32::from(i16::from(w[i]) * x[i]));
                // As the vectors do: what overflows on the way is right in the end.
                let four = (products[0] + products[1]) + (products[2] + products[3]);
                *sum = sum.wrapping_add(four);
            }
        }
    }

    #[inline(always)]
    unsafe fn finish(
        self,
        correction: *const i32,
        scales: *const f32,
        scale: f32,
        init: *const f32,
        out: *mut f32,
    ) {
        for (row, sum) in self.0.iter().enumerate() {
            // SAFETY: the caller's; a row is one of the block's.
            unsafe {
                let exact = (sum + *correction.add(row)) as f32;
                *out.add(row) = exact.mul_add(*scales.add(row) * scale, *init.add(row));
            }
        }
    }
}
