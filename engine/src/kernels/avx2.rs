//! Eight lanes at once: AVX2 with FMA. A block of weights is two registers of f32.
//!
//! 8-bit weights and inputs are widened to 16 bits and multiplied by `vpmaddwd`, whose pairs of
//! products are summed exactly in 32 bits (`vpmaddubsw` would saturate).

use std::arch::x86_64::*;

use super::simd::{BLOCK, Dots, Floats, Simd, Task};

/// AVX2 with FMA.
pub(super) struct Avx2;

#[target_feature(enable = "avx2,fma")]
pub(super) fn run<T: Task>(task: T) -> T::Output {
    task.run::<Avx2>()
}

impl Simd for Avx2 {
    type Floats = __m256;
    type Dots = Pairs;
    const FLOAT_ROWS: usize = 3;
    const INT8_ROWS: usize = 2;

    #[inline(always)]
    fn float_tile(rows: usize) -> usize {
        if rows == 1 { 2 } else { 1 }
    }

    #[inline(always)]
    fn int8_tile(rows: usize) -> usize {
        if rows == 1 { 2 } else { 1 }
    }
}

// SAFETY (of every block below): only tasks that `run` was given use these types, so
// the machine has the instructions; pointers are as the callers promise.

impl Floats for __m256 {
    const LANES: usize = 8;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: see above.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u32) -> [Self; 2] {
        // SAFETY: see above.
        unsafe {
            let pairs = _mm256_loadu_si256(from.cast());
            let upper = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32));
            [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)), _mm256_castsi256_ps(upper)]
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe { _mm256_storeu_ps(to, self) }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm256_fmadd_ps(self, factor, addend) }
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm256_add_ps(self, other) }
    }
}

/// Two partial sums a row, four rows a register: those of its inputs 0 and 1, of its inputs 2 and 3.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pairs([__m256i; 4]);

impl Dots for Pairs {
    type Inputs = __m256i;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: see above.
        unsafe { Self([_mm256_setzero_si256(); 4]) }
    }

    #[inline(always)]
    unsafe fn load_inputs(from: *const u8) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_cvtepu8_epi16(_mm_set1_epi32(from.cast::<i32>().read_unaligned())) }
    }

    #[inline(always)]
    unsafe fn add_products<const N: usize>(
        sums: &mut [Self; N],
        weights: *const i8,
        inputs: &[__m256i; N],
    ) {
        for rows in 0..4 {
            // SAFETY: see above.
            unsafe {
                let weights = _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.add(16 * rows).cast()));
                for (sum, &inputs) in sums.iter_mut().zip(inputs) {
                    let products = _mm256_madd_epi16(weights, inputs);
                    sum.0[rows] = _mm256_add_epi32(sum.0[rows], products);
                }
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
        for half in 0..BLOCK / 8 {
            let [low, high] = [self.0[2 * half], self.0[2 * half + 1]];
            let at = 8 * half;
            // SAFETY: see above.
            unsafe {
                // Adding neighbours gives rows 0 1 4 5 2 3 6 7; the permutation sorts them.
                let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(low, high));
                let correction = _mm256_loadu_si256(correction.add(at).cast());
                let sums = _mm256_cvtepi32_ps(_mm256_add_epi32(sums, correction));
                let scales = _mm256_mul_ps(_mm256_loadu_ps(scales.add(at)), _mm256_set1_ps(scale));
                let init = _mm256_loadu_ps(init.add(at));
                _mm256_storeu_ps(out.add(at), _mm256_fmadd_ps(sums, scales, init));
            }
        }
    }
}
