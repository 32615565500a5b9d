//! How a row of weights becomes bytes: in a file, and in the kernels of int8.

/// The scale of a row of weights: of its largest magnitude / 127, rounded up to 16 bits of mantissa.
/// So `scale q` is exact in f32, and weights that went through int8 once do not change again.
pub fn row_scale(largest: f32) -> f32 {
    f32::from_bits((largest / 127.0).to_bits().wrapping_add(0xff) & !0xff)
}

/// The nearest multiple of a scale.
pub(crate) fn rounded(weight: f32, scale: f32) -> i8 {
    let multiple = if scale > 0.0 { weight / scale } else { 0.0 };
    multiple.round_ties_even().clamp(-127.0, 127.0) as i8
}
