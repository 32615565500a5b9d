//! Sixteen lanes at once: AVX-512. A block of weights is one register; the 32 registers hold 16 to
//! 24 sums, enough to keep both multipliers busy while each sum waits for its last addition.

use std::arch::x86_64::*;

use super::simd::{Dots, Floats, Simd, Task};

/// AVX-512 (F, BW, DQ, VL) with VNNI.
pub(super) struct Avx512;

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn run<T: Task>(task: T) -> T::Output {
    task.run::<Avx512>()
}

impl Simd for Avx512 {
    type Floats = __m512;
    type Dots = __m512i;
    const FLOAT_ROWS: usize = 3;
    const INT8_ROWS: usize = 4;

    #[inline(always)]
    fn float_tile(rows: usize) -> usize {
        if rows == 1 { 4 } else { 2 }
    }

    #[inline(always)]
    fn int8_tile(rows: usize) -> usize {
        if rows <= 2 { 8 } else { 4 }
    }
}

// SAFETY (of every block below): only tasks that `run` was given use these types, so
// the machine has the instructions; pointers are as the callers promise.

impl Floats for __m512 {
    const LANES: usize = 16;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: see above.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u32) -> [Self; 2] {
        // SAFETY: see above.
        unsafe {
            let pairs = _mm512_loadu_si512(from.cast());
            let upper = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(upper)]
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_ps(self, factor, addend) }
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_add_ps(self, other) }
    }
}

impl Dots for __m512i {
    type Inputs = __m512i;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: see above.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn load_inputs(from: *const u8) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn add_products<const N: usize>(
        sums: &mut [Self; N],
        weights: *const i8,
        inputs: &[__m512i; N],
    ) {
        // SAFETY: see above.
        unsafe {
            let weights = _mm512_loadu_si512(weights.cast());
            for (sum, &inputs) in sums.iter_mut().zip(inputs) {
                *sum = _mm512_dpbusd_epi32(*sum, inputs, weights);
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
        // SAFETY: see above.
        unsafe {
            let sums = _mm512_add_epi32(self, _mm512_loadu_si512(correction.cast()));
            let scales = _mm512_mul_ps(_mm512_loadu_ps(scales), _mm512_set1_ps(scale));
            let sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), scales, _mm512_loadu_ps(init));
            _mm512_storeu_ps(out, sums);
        }
    }
}
