//! What users of trainers get stuck on, said in words while there is time to act.
//!
//! The data are examined before the first step, the losses at every validation, and a sound that the
//! model plays from the middle of the run on. Each finding is a sentence that says what is seen and
//! what to do; a healthy run has none.

mod data;

use super::history::History;
use crate::listening::Flaw;

pub(super) use data::of_data;
pub use data::{of_missing_notes, of_other_notes};

/// A loss above this share of blind guessing has learned nothing.
const STUCK_SHARE: f64 = 0.97;
/// Steps that a run is given before that is said.
const STUCK_STEPS: u64 = 200;
/// Bits by which validation must have risen, and training fallen meanwhile.
const RISEN_BITS: f64 = 0.05;
const FALLEN_BITS: f64 = 0.02;
/// A loss below this share of the unigram's has learned something. Trained for half a minute (140 to 290 steps) models
/// reach 65 to 86 % on recorded notes, voices and songs; on a pad, whose partials leave little but breath, the
/// built-in one ends at 88 %. After 100 steps of the piano it is 91 %.
const LEARNED_SHARE: f64 = 0.9;
/// Points of the training loss that are averaged.
const AVERAGED: usize = 8;

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only some recordings tell their notes, so that the model is told none.
    MissingNotes,
    /// Recordings sound like other notes than they are named after.
    OtherNotes,
    /// There is too little to learn from.
    TooLittle,
    /// Many recordings are shorter than what the model looks back on.
    ShortFiles,
    /// The loss stays where it began.
    Stuck,
    /// Validation rises while training falls.
    Overfitting,
    /// Validation is worse than knowing nothing but how often each value occurs.
    ByHeart,
    /// It knows little more than how often each value occurs.
    Untrained,
    /// What the model plays is silence.
    Silent,
    /// What the model plays is noise.
    Noise,
}

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub kind: Kind,
    /// What is seen, and what to do.
    pub text: String,
}

impl Finding {
    fn new(kind: Kind, text: String) -> Self {
        Self { kind, text }
    }
}

/// What is seen in the losses so far. `steady_step` is the first step at the full learning rate.
pub(super) fn of_losses(
    history: &History,
    levels: usize,
    learning_rate: f32,
    steady_step: u64,
) -> Vec<Finding> {
    stuck(history, levels, learning_rate, steady_step)
        .into_iter()
        .chain(overfitting(history))
        .collect()
}

fn stuck(
    history: &History,
    levels: usize,
    learning_rate: f32,
    steady_step: u64,
) -> Option<Finding> {
    let blind = libm::log2(levels as f64);
    let last = history.trained.last()?;
    let bits = trained_bits(history, last.step)?;
    let is_late = last.step >= STUCK_STEPS.max(2 * steady_step);
    (is_late && bits > STUCK_SHARE * blind).then(|| {
        Finding::new(
            Kind::Stuck,
            format!(
                "after {} steps the loss is still {bits:.2} bits, and guessing blindly costs {blind:.0}: \
                 change learning_rate (now {learning_rate:.0e}; 1e-3 to 3e-3 suit most models), and \
                 listen whether the recordings are more than noise",
                last.step
            ),
        )
    })
}

fn overfitting(history: &History) -> Option<Finding> {
    let best = history.validated.iter().min_by(|a, b| a.bits.total_cmp(&b.bits))?;
    let [.., before, last] = history.validated[..] else { return None };
    let risen = before.bits.min(last.bits) - best.bits;
    let (then, now) = (trained_bits(history, best.step)?, trained_bits(history, last.step)?);
    (risen > RISEN_BITS && before.step > best.step && then - now > FALLEN_BITS).then(|| {
        Finding::new(
            Kind::Overfitting,
            format!(
                "validation has risen from {1:.2} bits (step {0}) to {2:.2} while training fell from \
                 {then:.2} to {now:.2}: it learns its recordings by heart, and the best model stays \
                 that of step {0}; add recordings, or choose a smaller model (--patience ends such a \
                 run)",
                best.step, best.bits, last.bits
            ),
        )
    })
}

/// The loss in training around a step: the mean of the points up to it.
fn trained_bits(history: &History, step: u64) -> Option<f64> {
    let end = history.trained.partition_point(|point| point.step <= step);
    let points = &history.trained[end.saturating_sub(AVERAGED)..end];
    let sum: f64 = points.iter().map(|point| point.bits).sum();
    (!points.is_empty()).then(|| sum / points.len() as f64)
}

/// What is heard.
pub(super) fn of_sound(flaw: Flaw, share_done: f64) -> Finding {
    let when = if share_done < 1.0 { "so far" } else { "in the end" };
    match flaw {
        Flaw::Silent => Finding::new(
            Kind::Silent,
            format!(
                "what the model plays is silence {when}: cut long silences out of the recordings, or \
                 make them louder"
            ),
        ),
        Flaw::Noise => Finding::new(
            Kind::Noise,
            format!(
                "what the model plays is noise {when}, and the recordings are not: train longer, or \
                 choose a larger model"
            ),
        ),
    }
}

/// What the last validation says, beside what was seen in the losses before.
pub(super) fn of_end(
    history: &History,
    valid_bits: f64,
    unigram_bits: f64,
    seen: &[Finding],
) -> Option<Finding> {
    // What has not learned its own recordings either does not know them by heart.
    let trained = trained_bits(history, history.trained.last()?.step)?;
    if valid_bits > unigram_bits && trained < LEARNED_SHARE * unigram_bits {
        return Some(Finding::new(
            Kind::ByHeart,
            "it knows its recordings by heart and nothing else: add recordings (minutes of sound, not \
             seconds), or train less"
                .into(),
        ));
    }
    // Where the losses told what is wrong already, more of the same is no help.
    (unigram_bits > 0.0 && valid_bits > LEARNED_SHARE * unigram_bits && seen.is_empty()).then(|| {
        Finding::new(
            Kind::Untrained,
            format!(
                "it knows little more than how often each value occurs ({valid_bits:.2} \
                 bits a sample, {:.0} % of the unigram's): unless the recordings are noise, train longer \
                 (--resume with more --minutes or --steps goes on)",
                100.0 * valid_bits / unigram_bits
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses at steps 1 to 1000: a line from one to another; validated every hundred steps.
    fn run(trained: (f64, f64), valid: impl Fn(f64) -> f64) -> History {
        let mut history = History::default();
        for step in 1_u32..=1000 {
            let share = f64::from(step) / 1000.0;
            let bits = trained.0 + (trained.1 - trained.0) * share;
            history.step(step.into(), share, bits);
            if step % 100 == 0 {
                history.validated(step.into(), share, valid(share));
            }
        }
        history
    }

    fn kinds(history: &History) -> Vec<Kind> {
        of_losses(history, 256, 1e-3, 100).iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn losses_that_fall_together_are_healthy() {
        assert_eq!(kinds(&run((8.0, 2.0), |share| 8.0 - 5.5 * share)), []);
        // Validation that wavers, and one that stands still.
        assert_eq!(kinds(&run((4.0, 2.0), |share| 3.0 + 0.04 * libm::sin(40.0 * share))), []);
        assert_eq!(kinds(&run((4.0, 2.0), |share| if share > 0.95 { 3.2 } else { 3.0 })), []);
        // Both rise: something else is wrong.
        assert_eq!(kinds(&run((3.0, 4.0), |share| 3.0 + share)), []);
        assert_eq!(kinds(&History::default()), []);
    }

    #[test]
    fn a_model_that_ends_near_the_unigram_has_hardly_learned() {
        let end = |trained: f64, valid: f64| {
            let history = run((8.0, trained), |_| valid);
            let finding = of_end(&history, valid, 7.4, &[]);
            finding.map(|finding| finding.kind)
        };
        assert_eq!(end(7.0, 7.06), Some(Kind::Untrained));
        assert_eq!(end(6.7, 6.7), Some(Kind::Untrained));
        assert_eq!(end(7.6, 7.7), Some(Kind::Untrained));
        assert_eq!(end(6.3, 6.6), None);
        assert_eq!(end(3.0, 7.7), Some(Kind::ByHeart));
        let history = run((8.0, 7.0), |_| 7.06);
        let text = of_end(&history, 7.06, 7.4, &[]).unwrap().text;
        assert!(text.contains("(7.06 bits a sample, 95 % of the unigram's)"), "{text}");
        assert!(text.contains("train longer (--resume"), "{text}");
        let stuck = Finding::new(Kind::Stuck, String::new());
        assert_eq!(of_end(&history, 7.06, 7.4, &[stuck]), None);
    }

    #[test]
    fn rising_validation_and_a_loss_that_stays_are_named() {
        let rising = run((4.0, 2.0), |share| 3.0 + (share - 0.3).abs());
        assert_eq!(kinds(&rising), [Kind::Overfitting]);
        let text = &of_losses(&rising, 256, 1e-3, 100)[0].text;
        assert!(text.contains("from 3.00 bits (step 300) to 3.70"), "{text}");
        assert_eq!(kinds(&run((8.01, 7.98), |_| 8.0)), [Kind::Stuck]);
    }
}
