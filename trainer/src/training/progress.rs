//! What the user sees while a model learns: a bar on a terminal, a line now and then elsewhere.

use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::network::Loss;

/// Lines are printed this often where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(15);
/// Parts of a whole on the bar.
const BAR_LENGTH: u64 = 10_000;

pub(super) struct Progress {
    bar: ProgressBar,
    total_steps: Option<u64>,
    started: Instant,
    last_line: Instant,
    share_before: Option<f64>,
    samples: u64,
    smoothed_bits: Option<f64>,
    valid_bits: Option<f64>,
}

impl Progress {
    pub(super) fn new(total_steps: Option<u64>) -> Self {
        let bar = ProgressBar::new(BAR_LENGTH);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {percent:>3} %  {msg}") {
            bar.set_style(style.progress_chars("━━─"));
        }
        let now = Instant::now();
        Self {
            bar,
            total_steps,
            started: now,
            last_line: now,
            share_before: None,
            samples: 0,
            smoothed_bits: None,
            valid_bits: None,
        }
    }

    pub(super) fn step(&mut self, step: u64, share_done: f64, loss: Loss, learning_rate: f32) {
        self.samples += loss.samples;
        let bits = loss.bits_per_sample();
        let smoothed = self.smoothed_bits.map_or(bits, |old| old + 0.02 * (bits - old));
        self.smoothed_bits = Some(smoothed);
        let share_before = *self.share_before.get_or_insert(share_done);
        let seconds = self.started.elapsed().as_secs_f64();
        let speed = self.samples as f64 / seconds.max(1e-9);
        let gained = share_done - share_before;
        let to_do = (1.0 - share_done).max(0.0);
        let left = if gained > 0.0 { seconds * to_do / gained } else { f64::NAN };
        let steps = self.total_steps.map_or(String::new(), |total| format!("/{total}"));
        let valid = self.valid_bits.map_or(String::new(), |bits| format!("  valid {bits:.3}"));
        let message = format!(
            "step {step}{steps}  {smoothed:.3} bits/sample{valid}  rate {learning_rate:.1e}  \
             {:.0} k samples/s  {} left",
            speed / 1e3,
            duration(left)
        );
        if self.bar.is_hidden() {
            if self.last_line.elapsed() >= LINE_INTERVAL {
                self.last_line = Instant::now();
                say(&format!("{:>3.0} %  {message}", 100.0 * share_done.min(1.0)));
            }
        } else {
            self.bar.set_position((share_done.clamp(0.0, 1.0) * BAR_LENGTH as f64) as u64);
            self.bar.set_message(message);
        }
    }

    pub(super) fn validated(&mut self, bits: f64) {
        self.valid_bits = Some(bits);
    }

    pub(super) fn finish(&self) {
        self.bar.finish();
    }
}

/// A line on standard error. Training goes on whether or not anybody reads it.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "? s".into();
    }
    match seconds as u64 {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(7.9), "7 s");
        assert_eq!(duration(61.0), "1 min 1 s");
        assert_eq!(duration(7260.0), "2 h 1 min");
        assert_eq!(duration(f64::NAN), "? s");
    }
}
