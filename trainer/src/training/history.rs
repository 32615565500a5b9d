//! How a run went: its loss over steps and time, thinned so that a run of days takes no more room than
//! one of minutes. It is kept with the run's state: a resumed run knows its beginning.

use serde::{Deserialize, Serialize};

/// More points than this are thinned to half as many.
const MAX_POINTS: usize = 512;

/// Some steps taken together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// The last of the steps.
    pub step: u64,
    /// Time spent training up to it, in seconds.
    pub elapsed_s: f64,
    /// Mean loss of the steps, in bits a sample.
    pub bits: f64,
}

/// One validation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Validated {
    /// The step after which it was made.
    pub step: u64,
    /// Time spent training up to it, in seconds.
    pub elapsed_s: f64,
    /// Loss of the averaged weights, in bits a sample.
    pub bits: f64,
}

/// The losses of a run, in order of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Steps that a point of `trained` stands for.
    stride: u64,
    /// Loss in training.
    pub trained: Vec<Trained>,
    /// Loss in validation.
    pub validated: Vec<Validated>,
    /// Steps after the last point: how many, and the sum of their bits.
    #[serde(skip)]
    open: (u64, f64),
}

impl Default for History {
    fn default() -> Self {
        Self { stride: 1, trained: Vec::new(), validated: Vec::new(), open: (0, 0.0) }
    }
}

impl History {
    /// Takes the loss of the next step.
    pub(super) fn step(&mut self, step: u64, elapsed_s: f64, bits: f64) {
        self.open = (self.open.0 + 1, self.open.1 + bits);
        if self.open.0 < self.stride.max(1) {
            return;
        }
        self.trained.push(Trained { step, elapsed_s, bits: self.open.1 / self.open.0 as f64 });
        self.open = (0, 0.0);
        if self.trained.len() > MAX_POINTS {
            let pair = |pair: &[Trained]| match *pair {
                [a, b] => Trained { bits: (a.bits + b.bits) / 2.0, ..b },
                _ => pair[0],
            };
            self.trained = self.trained.chunks(2).map(pair).collect();
            self.stride = self.stride.saturating_mul(2);
        }
    }

    /// Takes a validation.
    pub(super) fn validated(&mut self, step: u64, elapsed_s: f64, bits: f64) {
        self.validated.push(Validated { step, elapsed_s, bits });
        if self.validated.len() > MAX_POINTS {
            let mut at = 0;
            // The last one stays.
            self.validated.retain(|_| {
                at += 1;
                at % 2 == 1
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_is_thinned_and_its_mean_kept() {
        let mut history = History::default();
        for step in 1..=100_000 {
            history.step(step, step as f64, (step % 7) as f64);
            if step.is_multiple_of(10) {
                history.validated(step, step as f64, 1.0);
            }
        }
        assert!((MAX_POINTS / 2 - 1..=MAX_POINTS).contains(&history.trained.len()));
        assert!((MAX_POINTS / 2..=MAX_POINTS).contains(&history.validated.len()));
        assert!(history.trained.is_sorted_by_key(|point| point.step));
        assert!(history.trained[1..].iter().all(|point| (point.bits - 3.0).abs() < 0.1));
        assert!(history.trained.last().unwrap().step > 99_000);
        assert!(history.validated.last().unwrap().step > 99_000);
    }

    #[test]
    fn it_survives_a_file() {
        let mut history = History::default();
        history.step(1, 0.5, 8.0);
        history.validated(1, 0.5, 7.9);
        let text = serde_json::to_string(&history).unwrap();
        assert_eq!(serde_json::from_str::<History>(&text).unwrap(), history);
    }
}
