//! What to do when the loss explodes: go back to the last checkpoint and learn half as fast.
//!
//! A loss has exploded when it is no number, or twice as large as both knowing nothing (`log2 levels`)
//! and the run's first batch, which a model that was trained on other sounds may begin far above.
//! A checkpoint is written when the next batch has shown that its weights are good, so the one to go
//! back to is. The number of times is saved with it: it is the learning rate's scale.

/// So often a run goes back; then it ends.
pub(super) const MOST_ROLLBACKS: u32 = 3;
/// A loss this many times as large as is bearable has exploded.
const EXPLODED: f64 = 2.0;

/// What is wrong with a batch, in words, if something is.
pub(super) fn problem(
    bits: f64,
    gradient_norm: f64,
    first_bits: Option<f32>,
    levels: usize,
) -> Option<String> {
    if !bits.is_finite() || !gradient_norm.is_finite() {
        return Some("the loss is no longer a number".into());
    }
    let bearable = libm::log2(levels as f64).max(f64::from(first_bits.unwrap_or(0.0)));
    (bits > EXPLODED * bearable)
        .then(|| format!("the loss has exploded to {bits:.0} bits a sample"))
}

/// What is left of the learning rate: exact, as it is a power of two.
pub(super) fn rate_scale(rollbacks: u32) -> f32 {
    1.0 / (1_u32 << rollbacks.min(31)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_far_beyond_knowing_nothing_has_exploded() {
        for (bits, norm, first, expected) in [
            (8.3, 2.0, None, None),
            (15.0, 1e9, Some(8.1), None),
            (17.0, 2.0, Some(8.1), Some("exploded to 17 bits")),
            (40.0, 2.0, Some(25.0), None),
            (60.0, 2.0, Some(25.0), Some("exploded")),
            (f64::NAN, 2.0, Some(8.1), Some("no longer a number")),
            (2.0, f64::INFINITY, Some(8.1), Some("no longer a number")),
        ] {
            let found = problem(bits, norm, first, 256);
            assert_eq!(found.is_some(), expected.is_some(), "{bits} {found:?}");
            assert!(found.is_none_or(|found| found.contains(expected.unwrap())));
        }
        assert_eq!([0, 1, 3].map(rate_scale), [1.0, 0.5, 0.125]);
    }
}
