//! exp, tanh and sigmoid of our own: the same bits on every machine, because they are made of IEEE
//! additions, multiplications, divisions and fused multiply-adds only, and short enough that a
//! compiler vectorises loops over them. Errors are stated per function and tested.
//!
//! Coefficients: minimax fits made for this file (iteratively reweighted least squares on
//! Chebyshev nodes in f64, then rounded to f32).

/// 1.5 * 2^23: adding and subtracting it rounds an f32 below 2^22 to the nearest integer, ties to
/// even.
const ROUND: f32 = 12_582_912.0;

/// e^x within 1.5 units in the last place over [-87, 88]; below it falls to 2^-126, above it stays at
/// e^88. NaN gives NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = core::f32::consts::LOG2_E;
    const LN_2_HIGH: f32 = 0.693_145_75;
    const LN_2_LOW: f32 = 1.428_606_8e-6;
    // Comparisons and not clamp(): a NaN must come through, and the select vectorises.
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let rounded = x.mul_add(LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = (-n).mul_add(LN_2_HIGH, x);
    let r = (-n).mul_add(LN_2_LOW, r);
    let p = 0.001_381_459_9_f32;
    let p = p.mul_add(r, 0.008_368_717);
    let p = p.mul_add(r, 0.041_668_39);
    let p = p.mul_add(r, 0.166_665_21);
    let p = p.mul_add(r, 0.499_999_94);
    let p = p.mul_add(r, 1.0);
    let p = p.mul_add(r, 1.0);
    // 2^n by its exponent bits. n lies in -126..=127 and is the low bits of `rounded`: so no
    // conversion is needed, and a NaN stays one whatever it is multiplied with.
    let n = rounded.to_bits().wrapping_sub(ROUND.to_bits());
    let scale = f32::from_bits(n.wrapping_add(127) << 23);
    p * scale
}

/// tanh(x) within 6 units in the last place, in [-1, 1], odd; NaN gives NaN.
///
/// `x P(x^2) / Q(x^2)` with both of degree 4, on |x| <= 9.02; beyond it stays at 1 - 2^-24.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let (above, below) = tanh_ratio(x);
    let t = above / below;
    let t = if t < -1.0 { -1.0 } else { t };
    if t > 1.0 { 1.0 } else { t }
}

/// Numerator and denominator of [`tanh`], before it is kept within -1 and 1. The denominator lies
/// between 1 and 430.
#[inline(always)]
pub fn tanh_ratio(x: f32) -> (f32, f32) {
    let x = if x < -9.02 { -9.02 } else { x };
    let x = if x > 9.02 { 9.02 } else { x };
    let y = x * x;
    let p = 1.331_906_1e-8_f32;
    let p = p.mul_add(y, 2.058_347_3e-5);
    let p = p.mul_add(y, 0.003_494_034);
    let p = p.mul_add(y, 0.133_797_17);
    let p = p.mul_add(y, 1.0);
    let q = 7.762_015e-7_f32;
    let q = q.mul_add(y, 0.000_328_309_2);
    let q = q.mul_add(y, 0.025_871_07);
    let q = q.mul_add(y, 0.467_130_33);
    let q = q.mul_add(y, 1.0);
    (x * p, q)
}

/// 1 / (1 + e^-x) within 3e-7 absolute, in [0, 1], by `tanh(x / 2) / 2 + 1/2`; NaN gives NaN.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    tanh(0.5 * x).mul_add(0.5, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 97th float between two magnitudes, both signs: some 10 million values of the 4 billion,
    /// in every binade.
    fn floats(low: f32, high: f32) -> impl Iterator<Item = f32> {
        (low.to_bits()..=high.to_bits())
            .step_by(97)
            .flat_map(|bits| [f32::from_bits(bits), -f32::from_bits(bits)])
    }

    fn ulps(value: f32, truth: f64) -> f64 {
        let near = (truth as f32).abs().max(f32::MIN_POSITIVE);
        let ulp = f64::from(f32::from_bits(near.to_bits() + 1)) - f64::from(near);
        (f64::from(value) - truth).abs() / ulp
    }

    #[test]
    fn exp_error_is_as_stated() {
        let worst =
            floats(1e-6, 87.0).map(|x| ulps(exp(x), libm::exp(f64::from(x)))).fold(0.0, f64::max);
        assert!(worst < 1.5, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), exp(-87.0));
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::INFINITY).is_finite());
    }

    #[test]
    fn tanh_error_is_as_stated() {
        let worst =
            floats(1e-6, 20.0).map(|x| ulps(tanh(x), libm::tanh(f64::from(x)))).fold(0.0, f64::max);
        assert!(worst < 6.0, "{worst}");
        for x in floats(1e-3, 20.0).step_by(101) {
            assert_eq!(tanh(-x), -tanh(x));
        }
        assert_eq!(tanh(100.0), 1.0 - f32::EPSILON / 2.0);
        assert_eq!(tanh(f32::NEG_INFINITY), -tanh(100.0));
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn sigmoid_error_is_as_stated() {
        let truth = |x: f32| 1.0 / (1.0 + libm::exp(-f64::from(x)));
        let worst = floats(1e-6, 40.0)
            .map(|x| (f64::from(sigmoid(x)) - truth(x)).abs())
            .fold(0.0, f64::max);
        assert!(worst < 3e-7, "{worst}");
        assert_eq!(sigmoid(1e9), 1.0);
        assert!((0.0..3.1e-8).contains(&sigmoid(-1e9)));
    }
}
