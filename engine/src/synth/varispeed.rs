//! Keys for models that know no pitch: the voice is played faster or slower, like a tape.
//!
//! At ratio r a voice owes r model samples an output sample, r from 1/4 to 4. The position is a
//! 32.32-bit number; between samples a windowed sinc of [`TAPS`] samples interpolates, its cutoff
//! lowered where the ratio is above 1 so that nothing folds back. Tables come from `libm`, the dot
//! product is summed in order: the same bytes everywhere.

use core::f64::consts::SQRT_2;

use crate::resample::windowed_sinc;

/// Samples under the sinc; output is late by half of them.
pub(super) const TAPS: usize = 32;
/// Positions between two samples at which the sinc is tabulated.
const PHASES: usize = 256;
/// Highest ratio that each table serves.
const LIMITS: [f64; 5] = [1.0, SQRT_2, 2.0, 2.0 * SQRT_2, 4.0];
/// Ratio 1 in the 32.32-bit position.
const ONE: u64 = 1 << 32;

/// Tables for all ratios.
#[derive(Debug)]
pub(super) struct Sincs {
    /// Shape: `[LIMITS][PHASES + 1][TAPS]`.
    tables: Vec<f32>,
}

impl Sincs {
    pub(super) fn new() -> Self {
        let mut tables = Vec::with_capacity(LIMITS.len() * (PHASES + 1) * TAPS);
        for limit in LIMITS {
            for phase in 0..=PHASES {
                tables.extend(windowed_sinc(TAPS, phase as f64 / PHASES as f64, 1.0 / limit));
            }
        }
        Self { tables }
    }
}

/// One voice's tape.
#[derive(Debug, Clone)]
pub(super) struct Tape {
    /// The newest samples, oldest first.
    history: [f32; TAPS],
    /// Fraction of a sample by which the output lies beyond the centre of the history.
    position: u64,
    ratio: u64,
    table: usize,
}

impl Tape {
    pub(super) fn new() -> Self {
        Self { history: [0.0; TAPS], position: 0, ratio: ONE, table: 0 }
    }

    /// Begins with silence behind it.
    pub(super) fn start(&mut self) {
        self.history.fill(0.0);
        self.position = 0;
    }

    /// Sets the speed to so many semitones above the model's own.
    pub(super) fn tune(&mut self, semitones: f64) {
        let ratio = libm::exp2(semitones / 12.0).clamp(0.25, 4.0);
        self.ratio = (ratio * ONE as f64) as u64;
        self.table = LIMITS.iter().position(|&limit| ratio <= limit).unwrap_or(LIMITS.len() - 1);
    }

    /// Moves one output sample on and says how many model samples are owed for it.
    pub(super) fn owed(&mut self) -> u32 {
        self.position += self.ratio;
        let owed = (self.position >> 32) as u32;
        self.position &= ONE - 1;
        owed
    }

    /// Takes a model sample that was owed.
    pub(super) fn push(&mut self, sample: f32) {
        self.history.copy_within(1.., 0);
        self.history[TAPS - 1] = sample;
    }

    /// The output at the present position.
    pub(super) fn read(&self, sincs: &Sincs) -> f32 {
        let phase = (self.position >> 24) as usize;
        let fraction = (self.position & 0xff_ffff) as f32 / (1 << 24) as f32;
        let start = (self.table * (PHASES + 1) + phase) * TAPS;
        let (low, high) = sincs.tables[start..start + 2 * TAPS].split_at(TAPS);
        let mut sum = 0.0;
        for ((low, high), sample) in low.iter().zip(high).zip(&self.history) {
            sum += (low + (high - low) * fraction) * sample;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tape of a sine of `hz` at 16 kHz, played `semitones` higher.
    fn play(hz: f64, semitones: f64, frames: usize) -> Vec<f32> {
        let sincs = Sincs::new();
        let mut tape = Tape::new();
        tape.tune(semitones);
        let mut made = 0_u32;
        let mut out = Vec::new();
        for _ in 0..frames {
            for _ in 0..tape.owed() {
                let angle = core::f64::consts::TAU * hz * f64::from(made) / 16_000.0;
                tape.push(libm::sin(angle) as f32);
                made += 1;
            }
            out.push(tape.read(&sincs));
        }
        out
    }

    #[test]
    fn a_sine_becomes_the_sine_of_the_key() {
        for semitones in [-24.0, -7.0, 0.0, 0.3, 12.0, 24.0] {
            let hz = 200.0;
            let out = play(hz, semitones, 4_000);
            let step = core::f64::consts::TAU * hz * libm::exp2(semitones / 12.0) / 16_000.0;
            // Any sine of that frequency satisfies x[n+1] + x[n-1] = 2 cos(step) x[n].
            let worst = out[500..]
                .windows(3)
                .map(|x| {
                    f64::from(x[2]) + f64::from(x[0]) - 2.0 * libm::cos(step) * f64::from(x[1])
                })
                .fold(0.0_f64, |worst, error| worst.max(error.abs()));
            assert!(worst < 1e-3, "{semitones}: {worst}");
            assert!(out[500..].iter().any(|x| x.abs() > 0.9));
        }
    }

    #[test]
    fn what_would_fold_back_is_taken_out() {
        // 6 kHz two octaves up would be 24 kHz.
        let out = play(6_000.0, 24.0, 2_000);
        let worst = out[100..].iter().fold(0.0_f32, |worst, x| worst.max(x.abs()));
        assert!(worst < 0.02, "{worst}");
    }
}
