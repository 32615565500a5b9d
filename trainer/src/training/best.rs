//! Which of the averaged weights become the model: the best on validation so far. After so many
//! validations in a row without a better one a run has lost its patience.

use crate::checkpoint::{Checkpoint, Record};

/// Notes the validation of the averaged weights of this moment, and keeps them if they are the best.
/// Returns whether they are.
pub(super) fn offer(now: &mut Checkpoint, bits: f64) -> bool {
    let step = now.step();
    // Rounded as it is saved, so that a resumed run compares the same numbers.
    let bits = bits as f32;
    let record = &mut now.run.record;
    record.validated_step = Some(step);
    let is_best = record.best.is_none_or(|(best, _)| bits < best);
    if is_best {
        record.best = Some((bits, step));
        record.without_gain = 0;
        now.best = Some(now.moments.average.clone());
    } else {
        record.without_gain += 1;
    }
    is_best
}

/// Whether nothing was gained for so long that a run may end.
pub(super) fn is_out_of_patience(record: &Record, patience: Option<u64>) -> bool {
    patience.is_some_and(|patience| record.without_gain >= patience)
}

/// Tells one model of a run from another: after a run has gone back, a step alone does not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mark {
    /// The step that it is of.
    pub(super) step: u64,
    bits: Option<f32>,
}

/// The weights of the model: the best, or the newest where none was validated yet.
pub(super) fn model_of(now: &Checkpoint) -> (&[f32], Mark) {
    match (&now.best, now.run.record.best) {
        (Some(best), Some((bits, step))) => (best, Mark { step, bits: Some(bits) }),
        _ => (&now.moments.average, Mark { step: now.step(), bits: None }),
    }
}

#[cfg(test)]
mod tests {
    use wavenet_engine::{Config, Weights};

    use super::*;
    use crate::checkpoint::RunSettings;
    use crate::settings::Training;

    #[test]
    fn the_best_stays_and_patience_ends_after_so_many_that_are_no_better() {
        let model = Config { dilations: vec![1], ..Config::default() };
        let settings = RunSettings {
            seed: 1,
            model: model.clone(),
            training: Training::default(),
            corpus: String::new(),
            finetuned_from: None,
        };
        let mut now = Checkpoint::start(Weights::zeros(model).unwrap(), settings);
        for (step, bits, best_step, is_over) in [
            (10, 5.0, 10, false),
            (20, 4.0, 20, false),
            (30, 4.0, 20, false),
            (40, 3.5, 40, false),
            (50, 4.5, 40, false),
            (60, 3.6, 40, true),
        ] {
            now.moments.step = step;
            now.moments.average.fill(step as f32);
            assert_eq!(offer(&mut now, bits), best_step == step);
            let (weights, mark) = model_of(&now);
            assert_eq!((weights[0], mark.step), (best_step as f32, best_step));
            assert_eq!(is_out_of_patience(&now.run.record, Some(2)), is_over);
            assert!(!is_out_of_patience(&now.run.record, None));
        }
    }
}
