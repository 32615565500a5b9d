//! From the model's rate to the listener's: a polyphase FIR of fixed order.
//!
//! With `out / in = L / M` in lowest terms, output frame n lies at input position `n M / L`: a whole
//! part and one of L phases, both integers, so time never drifts. Each phase has its own windowed
//! sinc (Kaiser, beta 9, 90 dB down in the stop band) of `TAPS` input samples, more when the rate
//! falls; each output is one dot product summed in order. All of it is IEEE arithmetic on tables
//! from `libm`: the same bytes everywhere.

use crate::error::{Error, Result};

/// Input samples under the sinc when the rate rises or stays.
const TAPS: usize = 64;
/// Pass band as a share of the lower Nyquist frequency.
const PASS: f64 = 0.93;
/// Shape of the Kaiser window.
const BETA: f64 = 9.0;
/// Tables larger than this many floats are refused: rates with no common divisor.
const MAX_TABLE: usize = 1 << 22;

/// Converts one channel. Feed it blocks of any size: the result is the same.
#[derive(Debug, Clone)]
pub struct Resampler {
    /// Shape: `[L][taps]`.
    table: Vec<f32>,
    taps: usize,
    l: u64,
    m: u64,
    /// The newest inputs, oldest first.
    history: Vec<f32>,
    /// Inputs taken so far.
    taken: u64,
    /// Outputs given so far.
    given: u64,
}

impl Resampler {
    /// A converter between two rates in Hz.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for rates outside 1 kHz to 768 kHz, or so unrelated that the table of
    /// phases would not fit in memory.
    pub fn new(in_hz: u32, out_hz: u32) -> Result<Self> {
        if !(1_000..=768_000).contains(&in_hz) || !(1_000..=768_000).contains(&out_hz) {
            return Err(Error::Unsupported(format!(
                "a rate of {out_hz} Hz from {in_hz} Hz; rates must lie between 1,000 and 768,000 Hz"
            )));
        }
        let divisor = gcd(in_hz, out_hz);
        let (l, m) = (u64::from(out_hz / divisor), u64::from(in_hz / divisor));
        if l == m {
            return Ok(Self {
                table: vec![1.0],
                taps: 1,
                l,
                m,
                history: vec![0.0],
                taken: 0,
                given: 0,
            });
        }
        let stretch = (f64::from(in_hz) / f64::from(out_hz)).max(1.0);
        let taps = (TAPS as f64 * stretch).ceil() as usize / 2 * 2;
        if taps * l as usize > MAX_TABLE {
            return Err(Error::Unsupported(format!(
                "a rate of {out_hz} Hz from a model at {in_hz} Hz; use a common rate such as 44100 or 48000"
            )));
        }
        let table =
            (0..l).flat_map(|phase| windowed_sinc(taps, phase as f64 / l as f64, 1.0 / stretch));
        let table = table.collect();
        Ok(Self { table, taps, l, m, history: vec![0.0; taps], taken: 0, given: 0 })
    }

    /// Output frames by which the filter looks ahead: output n needs the inputs that lie at
    /// outputs before `n + lookahead_frames()`.
    pub fn lookahead_frames(&self) -> u64 {
        (self.taps as u64 / 2 + 1) * self.l / self.m + 1
    }

    /// The first input frame at or after an output frame.
    pub fn input_frame(&self, output_frame: u64) -> u64 {
        let frame = (u128::from(output_frame) * u128::from(self.m)).div_ceil(u128::from(self.l));
        u64::try_from(frame).unwrap_or(u64::MAX)
    }

    /// Input frames that must still come before the next `outputs` frames are decided.
    pub fn frames_needed(&self, outputs: usize) -> u64 {
        let Some(last) = (self.given + outputs as u64).checked_sub(1) else {
            return 0;
        };
        let needed = self.position(last).0 + self.taps as u64 / 2 + 1;
        needed.saturating_sub(self.taken)
    }

    /// Goes on as though the input had been silent so far.
    pub fn forget(&mut self) {
        self.history.fill(0.0);
    }

    /// Input position of an output frame: whole part and phase.
    fn position(&self, output_frame: u64) -> (u64, usize) {
        let place = u128::from(output_frame) * u128::from(self.m);
        let l = u128::from(self.l);
        ((place / l) as u64, (place % l) as usize)
    }

    /// Takes all of `input` and appends the outputs that it decides. An output at input position p
    /// needs inputs up to p + taps / 2.
    pub fn process(&mut self, input: &[f32], output: &mut Vec<f32>) {
        for &sample in input {
            self.history.copy_within(1.., 0);
            self.history[self.taps - 1] = sample;
            self.taken += 1;
            loop {
                let (place, phase) = self.position(self.given);
                if place + self.taps as u64 / 2 >= self.taken {
                    break;
                }
                let taps = &self.table[phase * self.taps..(phase + 1) * self.taps];
                let mut sum = 0.0;
                for (tap, sample) in taps.iter().zip(&self.history) {
                    sum += tap * sample;
                }
                output.push(sum);
                self.given += 1;
            }
        }
    }

    /// Flushes the filter with silence so that `frames` outputs were given in all.
    pub fn finish(&mut self, frames: u64, output: &mut Vec<f32>) {
        while self.given < frames {
            self.process(&[0.0], output);
        }
        output.truncate(output.len() - (self.given - frames) as usize);
        self.given = frames;
    }
}

/// Taps of an interpolator at a fraction of a sample beyond its centre (which lies between taps
/// `taps / 2 - 1` and `taps / 2`, at the former for fraction 0). Frequencies up to `band` times the
/// input's Nyquist frequency pass; the sum is 1, so a constant stays constant.
pub(crate) fn windowed_sinc(taps: usize, fraction: f64, band: f64) -> Vec<f32> {
    let cutoff = PASS * band;
    let half = taps as f64 / 2.0;
    let tap = |tap: usize| {
        let x = tap as f64 - (half - 1.0) - fraction;
        cutoff * sinc(cutoff * x) * kaiser(x / half)
    };
    let values: Vec<f64> = (0..taps).map(tap).collect();
    let sum: f64 = values.iter().sum();
    values.into_iter().map(|value| (value / sum) as f32).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn sinc(x: f64) -> f64 {
    let angle = core::f64::consts::PI * x;
    if angle.abs() < 1e-9 { 1.0 } else { libm::sin(angle) / angle }
}

/// Kaiser window over [-1, 1].
fn kaiser(x: f64) -> f64 {
    if x.abs() >= 1.0 {
        return 0.0;
    }
    bessel_i0(BETA * (1.0 - x * x).sqrt()) / bessel_i0(BETA)
}

/// Modified Bessel function of the first kind, order 0, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..60 {
        term *= (x / 2.0 / f64::from(k)) * (x / 2.0 / f64::from(k));
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, rate: u32, frames: usize) -> Vec<f32> {
        let angle = |n: usize| core::f64::consts::TAU * hz * n as f64 / f64::from(rate);
        (0..frames).map(|n| libm::sin(angle(n)) as f32).collect()
    }

    fn convert(input: &[f32], in_hz: u32, out_hz: u32, block: usize) -> Vec<f32> {
        let mut resampler = Resampler::new(in_hz, out_hz).unwrap();
        let mut output = Vec::new();
        for block in input.chunks(block) {
            resampler.process(block, &mut output);
        }
        let frames = input.len() as u64 * u64::from(out_hz) / u64::from(in_hz);
        resampler.finish(frames, &mut output);
        output
    }

    #[test]
    fn a_sine_stays_that_sine_in_place() {
        for (in_hz, out_hz) in
            [(16_000, 48_000), (16_000, 44_100), (24_000, 16_000), (16_000, 22_050)]
        {
            let input = sine(1000.0, in_hz, in_hz as usize / 2);
            let output = convert(&input, in_hz, out_hz, 333);
            let expected = sine(1000.0, out_hz, out_hz as usize / 2);
            assert_eq!(output.len(), expected.len());
            let inside = 500..output.len() - 500;
            let worst = output[inside.clone()]
                .iter()
                .zip(&expected[inside])
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(worst < 3e-4, "{in_hz} -> {out_hz}: {worst}");
        }
    }

    #[test]
    fn images_and_aliases_are_ninety_decibels_down() {
        // 9 kHz cannot live at 16 kHz: going down it must vanish.
        let output = convert(&sine(9_000.0, 48_000, 24_000), 48_000, 16_000, 64);
        let worst = output[200..output.len() - 200].iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        assert!(worst < 3.2e-5, "{worst}");
    }

    #[test]
    fn block_size_changes_nothing() {
        let input = sine(700.0, 16_000, 5_000);
        let whole = convert(&input, 16_000, 44_100, 5_000);
        for block in [1, 64, 333] {
            assert_eq!(convert(&input, 16_000, 44_100, block), whole);
        }
    }

    #[test]
    fn equal_rates_pass_through_untouched() {
        let input = sine(700.0, 16_000, 1_000);
        assert_eq!(convert(&input, 16_000, 16_000, 7), input);
    }

    #[test]
    fn the_last_of_all_frames_comes_last() {
        let resampler = Resampler::new(48_000, 16_000).unwrap();
        assert_eq!(resampler.input_frame(7), 21);
        assert_eq!(resampler.input_frame(u64::MAX), u64::MAX);
    }

    #[test]
    fn impossible_rates_are_refused() {
        assert!(Resampler::new(16_000, 0).is_err());
        assert!(Resampler::new(16_000, 191_999).is_err());
    }
}
