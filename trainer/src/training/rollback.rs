//! What to do when the loss explodes: go back to the last checkpoint and learn half as fast.
//!
//! A loss has exploded when it is no number; when a batch costs twice as much as knowing nothing
//! (`log2 levels` bits) and as the batches before; or when the average of some 20 batches has risen far
//! above the lowest that it was:
//!
//! ```text
//! smoothed > 1.5 lowest + 2 bits        a model that knew 2 bits and is back at 5 knows nothing more
//! ```
//!
//! A checkpoint is one to go back to if the next batch has shown that its weights are good: it is below
//! this limit, and the average half way at most. Others are written too, for a run that is killed. The
//! number of times is saved: it is the learning rate's scale.

use crate::checkpoint::Trend;
use crate::network::Loss;

/// So often a run goes back; then it ends.
pub(super) const MOST_ROLLBACKS: u32 = 3;
/// Weight of a batch in the average.
const SMOOTHING: f32 = 0.05;

/// What a batch tells.
pub(super) enum Verdict {
    /// The trend with this batch, and whether the weights are good enough to be gone back to.
    Fine(Trend, bool),
    /// What is wrong, in words.
    Exploded(String),
}

/// Judges a batch by its loss, the norm of its gradient and the batches before.
pub(super) fn judge(loss: Loss, norm: f64, before: Option<Trend>, levels: usize) -> Verdict {
    let bits = loss.bits_per_sample() as f32;
    if !bits.is_finite() || !norm.is_finite() {
        return Verdict::Exploded("the loss is no longer a number".into());
    }
    let nothing = libm::log2f(levels as f32);
    // The average comes down from above: one quiet first batch of a model that knows much already
    // must not become the lowest.
    let first = bits.max(nothing);
    let before = before.unwrap_or(Trend { smoothed: first, lowest: first });
    let smoothed = before.smoothed + SMOOTHING * (bits - before.smoothed);
    let limit = 1.5 * before.lowest + 2.0;
    if bits > 2.0 * nothing.max(before.smoothed) || smoothed > limit {
        return Verdict::Exploded(format!("the loss has exploded to {bits:.1} bits a sample"));
    }
    let is_good = bits <= limit && smoothed <= 1.25 * before.lowest + 1.0;
    Verdict::Fine(Trend { smoothed, lowest: smoothed.min(before.lowest) }, is_good)
}

/// What is left of the learning rate: exact, as it is a power of two.
pub(super) fn rate_scale(rollbacks: u32) -> f32 {
    1.0 / (1_u32 << rollbacks.min(31)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds losses in bits; tells how many until it has exploded, and the last that was good enough to go back to.
    fn run(bits: &[f64]) -> (Option<usize>, Option<usize>) {
        let (mut trend, mut good) = (None, None);
        for (index, bits) in bits.iter().enumerate() {
            let loss = Loss { nats: bits * core::f64::consts::LN_2, samples: 1, hits: 0 };
            match judge(loss, 1.0, trend, 256) {
                Verdict::Fine(new, is_good) => {
                    trend = Some(new);
                    good = if is_good { Some(index) } else { good };
                }
                Verdict::Exploded(_) => return (Some(index), good),
            }
        }
        (None, good)
    }

    #[test]
    fn a_run_that_learns_with_some_noise_has_not_exploded() {
        let falling = |n: usize| 8.2 - 6.0 * (n as f64 / 200.0).min(1.0) + (n % 7) as f64 * 0.4;
        let bits: Vec<f64> = (0..1_000).map(falling).collect();
        assert_eq!(run(&bits), (None, Some(999)));
        // What was trained on other sounds may begin far above.
        let tuned: Vec<f64> = (0..300).map(|n| 30.0 - 28.0 * (n as f64 / 300.0)).collect();
        assert_eq!(run(&tuned), (None, Some(299)));
        // A model that knows much already, and begins with an easy batch.
        let knowing = [&[0.5][..], &[3.0; 300]].concat();
        assert_eq!(run(&knowing), (None, Some(300)));
        // One batch of another kind.
        let mut strange = bits;
        strange[700] = 9.0;
        assert_eq!(run(&strange).0, None);
    }

    #[test]
    fn forgetting_everything_is_noticed_and_what_it_goes_back_to_is_from_before() {
        let mut bits = vec![2.0; 300];
        bits.extend([6.3; 300]);
        let (seen, good) = run(&[&[8.0; 9][..], &bits].concat());
        assert!(seen.is_some_and(|seen| (310..360).contains(&seen)), "{seen:?}");
        assert_eq!(good, Some(308));
    }

    #[test]
    fn a_single_batch_beyond_all_measure_is_enough() {
        assert_eq!(run(&[8.0, 7.0, 17.0]).0, Some(2));
        assert_eq!(run(&[8.0, f64::NAN]).0, Some(1));
        let loss = Loss { nats: 1.0, samples: 1, hits: 0 };
        assert!(matches!(judge(loss, f64::INFINITY, None, 256), Verdict::Exploded(_)));
        assert_eq!([0, 1, 3].map(rate_scale), [1.0, 0.5, 0.125]);
    }
}
