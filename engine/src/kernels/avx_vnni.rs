//! AVX2 with AVX-VNNI: processors of 2021 and later that have no AVX-512. Floats as AVX2 has them,
//! 8-bit products as AVX-512 has them, at half its width.

use std::arch::x86_64::*;

use super::simd::{BLOCK, Dots, Simd, Task};

/// AVX2, FMA and AVX-VNNI.
pub(super) struct AvxVnni;

#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) fn run<T: Task>(task: T) -> T::Output {
    task.run::<AvxVnni>()
}

impl Simd for AvxVnni {
    type Floats = __m256;
    type Dots = Halves;
    const FLOAT_ROWS: usize = 3;
    const INT8_ROWS: usize = 4;

    #[inline(always)]
    fn float_tile(rows: usize) -> usize {
        if rows == 1 { 2 } else { 1 }
    }

    #[inline(always)]
    fn int8_tile(rows: usize) -> usize {
        match rows {
            1 => 4,
            2 => 2,
            _ => 1,
        }
    }
}

// SAFETY (of every block below): only tasks that `run` was given use this type, so the machine has
// the instructions; pointers are as the callers promise.

/// Sums of rows 0 to 7 and 8 to 15.
#[derive(Debug, Clone, Copy)]
pub(super) struct Halves([__m256i; 2]);

impl Dots for Halves {
    type Inputs = __m256i;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: see above.
        unsafe { Self([_mm256_setzero_si256(); 2]) }
    }

    #[inline(always)]
    unsafe fn load_inputs(from: *const u8) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn add_products<const N: usize>(
        sums: &mut [Self; N],
        weights: *const i8,
        inputs: &[__m256i; N],
    ) {
        for half in 0..2 {
            // SAFETY: see above.
            unsafe {
                let weights = _mm256_loadu_si256(weights.add(32 * half).cast());
                for (sum, &inputs) in sums.iter_mut().zip(inputs) {
                    sum.0[half] = _mm256_dpbusd_avx_epi32(sum.0[half], inputs, weights);
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
        for (half, sums) in self.0.into_iter().enumerate() {
            let at = half * BLOCK / 2;
            // SAFETY: see above.
            unsafe {
                let sums = _mm256_add_epi32(sums, _mm256_loadu_si256(correction.add(at).cast()));
                let scales = _mm256_mul_ps(_mm256_loadu_ps(scales.add(at)), _mm256_set1_ps(scale));
                let init = _mm256_loadu_ps(init.add(at));
                _mm256_storeu_ps(
                    out.add(at),
                    _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scales, init),
                );
            }
        }
    }
}
