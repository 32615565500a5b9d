//! What the user sees while a model learns: a bar of two lines on a terminal, a line now and then
//! elsewhere.

use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::history::History;

/// Lines are printed this often where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(15);
/// Parts of a whole on the bar.
const BAR_LENGTH: u64 = 10_000;
/// Share of a new step in the loss that is shown.
const SMOOTHING: f64 = 0.05;
/// Columns of the little curve.
const CURVE: usize = 20;

/// What there is to see of a step.
pub(super) struct View<'a> {
    pub(super) step: u64,
    pub(super) share_done: f64,
    pub(super) bits: f64,
    pub(super) learning_rate: f32,
    pub(super) samples: u64,
    /// Time that the step took.
    pub(super) spent: Duration,
    pub(super) history: &'a History,
}

pub(super) struct Progress {
    bar: ProgressBar,
    total_steps: Option<u64>,
    started: Instant,
    last_line: Instant,
    /// What a line would say now, unless it was said.
    line: Option<String>,
    share_before: Option<f64>,
    samples: u64,
    spent: Duration,
    smoothed_bits: Option<f64>,
    valid_bits: Option<f64>,
    best_bits: f64,
}

impl Progress {
    pub(super) fn new(total_steps: Option<u64>, history: &History) -> Self {
        let bar = ProgressBar::new(BAR_LENGTH);
        let template = "{bar:28.cyan/dim} {percent:>3.bold} %  {msg}\n{prefix}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        let now = Instant::now();
        let valid = history.validated.iter().map(|point| point.bits);
        Self {
            bar,
            total_steps,
            started: now,
            last_line: now,
            line: None,
            share_before: None,
            samples: 0,
            spent: Duration::ZERO,
            smoothed_bits: history.trained.last().map(|point| point.bits),
            valid_bits: valid.clone().next_back(),
            best_bits: valid.fold(f64::INFINITY, f64::min),
        }
    }

    pub(super) fn step(&mut self, view: &View<'_>) {
        self.samples += view.samples;
        self.spent += view.spent;
        let share_done = view.share_done;
        let smoothed =
            self.smoothed_bits.map_or(view.bits, |old| old + SMOOTHING * (view.bits - old));
        self.smoothed_bits = Some(smoothed);
        let share_before = *self.share_before.get_or_insert(share_done);
        let speed = self.samples as f64 / self.spent.as_secs_f64().max(1e-9);
        let gained = share_done - share_before;
        let to_do = (1.0 - share_done).max(0.0);
        let seconds = self.started.elapsed().as_secs_f64();
        let left = duration(if gained > 0.0 { seconds * to_do / gained } else { f64::NAN });

        let steps = self.total_steps.map_or(String::new(), |total| format!("/{total}"));
        let place = format!("step {}{steps}", view.step);
        let valid = match self.valid_bits {
            Some(bits) if bits > self.best_bits => {
                format!("  valid {bits:.3} (best {:.3})", self.best_bits)
            }
            Some(bits) => format!("  valid {bits:.3}"),
            None => String::new(),
        };
        let rates = format!("rate {:.1e}  {:.0} k samples/s", view.learning_rate, speed / 1e3);
        let percent = 100.0 * share_done.min(1.0);
        self.line = Some(format!(
            "{percent:>3.0} %  {place}  {smoothed:.3} bits/sample{valid}  {rates}  {left} left"
        ));
        if !self.bar.is_hidden() {
            let curve = curve(view.history);
            self.bar.set_position((share_done.clamp(0.0, 1.0) * BAR_LENGTH as f64) as u64);
            self.bar.set_message(format!("{place}  {left} left"));
            self.bar.set_prefix(format!("{curve:CURVE$} {smoothed:.3} bits{valid}  {rates}"));
        } else if self.last_line.elapsed() >= LINE_INTERVAL {
            self.show_line();
        }
    }

    pub(super) fn validated(&mut self, bits: f64) {
        self.valid_bits = Some(bits);
        self.best_bits = self.best_bits.min(bits);
    }

    /// Of the bar a line stays.
    pub(super) fn finish(&mut self) {
        self.bar.finish_and_clear();
        self.show_line();
    }

    /// A line above the bar.
    pub(super) fn say(&self, line: &str) {
        self.bar.suspend(|| say(line));
    }

    fn show_line(&mut self) {
        if let Some(line) = self.line.take() {
            self.last_line = Instant::now();
            say(&line);
        }
    }
}

/// A line on standard error. Training goes on whether or not anybody reads it.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The loss from the first step until now, in at most [`CURVE`] letters of eight heights.
fn curve(history: &History) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let points = &history.trained;
    let columns = points.len().min(CURVE);
    let mean = |column: usize| {
        let part = &points[column * points.len() / columns..(column + 1) * points.len() / columns];
        part.iter().map(|point| point.bits).sum::<f64>() / part.len() as f64
    };
    let means: Vec<f64> = (0..columns).map(mean).collect();
    let low = means.iter().copied().fold(f64::INFINITY, f64::min);
    let high = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Differences of less than a tenth of a bit are no mountains.
    let scale = 7.0 / (high - low).max(0.1);
    means.iter().map(|mean| HEIGHTS[(((mean - low) * scale).round() as usize).min(7)]).collect()
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

    #[test]
    fn the_curve_falls_with_the_loss() {
        let mut history = History::default();
        assert_eq!(curve(&history), "");
        for step in 1..=8 {
            history.step(step, 0.0, 8.0 - step as f64);
        }
        assert_eq!(curve(&history), "█▇▆▅▄▃▂▁");
        for step in 9..=5_000 {
            history.step(step, 0.0, 0.01);
        }
        assert_eq!(curve(&history).chars().count(), CURVE);
        assert!(curve(&history).ends_with("▁▁▁▁"));
    }
}
