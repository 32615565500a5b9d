//! One mono stream from the file's rate to the model's rate (rubato, FFT).
//!
//! The ratio is exact, the length is round(frames * target / source), and the filter's delay is
//! taken off again. rubato centres its windowed sinc at `block / 2` in whole frames, so the block
//! is chosen even on both sides: then the delay is whole too, and what is taken off is all of it.

use anyhow::{Context, Result};
use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler};

/// The filter is at least this long, in frames of the slower side: the pass band then reaches to
/// within a few per cent of the lower Nyquist frequency.
const MIN_BLOCK_FRAMES: usize = 512;

/// Takes samples one by one, gives the resampled whole.
pub(super) struct MonoResampler {
    source_hz: u32,
    target_hz: u32,
    /// None where the rates are equal: then samples pass untouched.
    fft: Option<Fft<f32>>,
    /// The part of an input block that has arrived: at most `block_in` samples.
    block: Vec<f32>,
    block_in: usize,
    block_out: usize,
    /// Everything made so far, the filter's delay still in front.
    out: Vec<f32>,
    frames_in: u64,
}

impl MonoResampler {
    pub(super) fn new(source_hz: u32, target_hz: u32) -> Result<Self> {
        let common = gcd(source_hz, target_hz);
        let (unit_in, unit_out) = ((source_hz / common) as usize, (target_hz / common) as usize);
        // Even, and long enough on the slower side.
        let units = MIN_BLOCK_FRAMES.div_ceil(unit_in.min(unit_out)).next_multiple_of(2);
        let (block_in, block_out) = (unit_in * units, unit_out * units);
        let fft = if source_hz == target_hz {
            None
        } else {
            let both = FixedSync::Both;
            let fft = Fft::new(source_hz as usize, target_hz as usize, block_in, 1, both)
                .with_context(|| format!("cannot resample {source_hz} Hz to {target_hz} Hz"))?;
            debug_assert_eq!((fft.fft_size_in(), fft.fft_size_out()), (block_in, block_out));
            Some(fft)
        };
        Ok(Self {
            source_hz,
            target_hz,
            fft,
            block: Vec::with_capacity(block_in),
            block_in,
            block_out,
            out: Vec::new(),
            frames_in: 0,
        })
    }

    /// Takes the next sample of the source.
    pub(super) fn push(&mut self, sample: f32) -> Result<()> {
        self.frames_in += 1;
        if self.fft.is_none() {
            self.out.push(sample);
            return Ok(());
        }
        self.block.push(sample);
        if self.block.len() == self.block_in {
            self.process_block()?;
        }
        Ok(())
    }

    fn process_block(&mut self) -> Result<()> {
        if let Some(fft) = &mut self.fft {
            let done = self.out.len();
            self.out.resize(done + self.block_out, 0.0);
            let input = SequentialSlice::new(&self.block, 1, self.block_in)?;
            let mut output = SequentialSlice::new_mut(&mut self.out[done..], 1, self.block_out)?;
            fft.process_into_buffer(&input, &mut output, None)?;
        }
        self.block.clear();
        Ok(())
    }

    /// The whole at the target rate: round(frames in * target / source) samples.
    pub(super) fn finish(mut self) -> Result<Vec<f32>> {
        let delay = self.fft.as_ref().map_or(0, Resampler::output_delay);
        let (source, target) = (u128::from(self.source_hz), u128::from(self.target_hz));
        let frames = ((2 * u128::from(self.frames_in) * target + source) / (2 * source)) as usize;
        while self.out.len() < delay + frames {
            self.block.resize(self.block_in, 0.0);
            self.process_block()?;
        }
        self.out.drain(..delay);
        self.out.truncate(frames);
        Ok(self.out)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    const RATES: [(u32, u32); 8] = [
        (44_100, 16_000),
        (44_100, 8_000),
        (8_000, 16_000),
        (48_000, 16_000),
        (44_100, 48_000),
        (22_050, 16_000),
        (11_025, 44_100),
        (44_101, 16_000),
    ];

    fn resample(source: &[f32], source_hz: u32, target_hz: u32) -> Vec<f32> {
        let mut resampler = MonoResampler::new(source_hz, target_hz).unwrap();
        for &sample in source {
            resampler.push(sample).unwrap();
        }
        resampler.finish().unwrap()
    }

    #[test]
    fn length_is_the_rounded_ratio() {
        for (source_hz, target_hz) in RATES {
            for frames in [0_usize, 1, 2, 100, 7_777, 44_100] {
                let ratio = f64::from(target_hz) / f64::from(source_hz);
                let want = (frames as f64 * ratio).round() as usize;
                let got = resample(&vec![0.1; frames], source_hz, target_hz).len();
                assert_eq!(got, want, "{frames} frames, {source_hz} -> {target_hz} Hz");
            }
        }
    }

    /// The centre of gravity of the energy of an impulse at 0.5 s, to a hundredth of a frame.
    #[test]
    fn an_impulse_stays_at_its_second() {
        for (source_hz, target_hz) in RATES {
            let mut source = vec![0.0; source_hz as usize];
            let at = source_hz as usize / 2;
            source[at] = 1.0;
            let out = resample(&source, source_hz, target_hz);
            let energy: f64 = out.iter().map(|&x| f64::from(x * x)).sum();
            let moment: f64 =
                out.iter().enumerate().map(|(n, &x)| n as f64 * f64::from(x * x)).sum();
            let want = at as f64 / f64::from(source_hz) * f64::from(target_hz);
            let got = moment / energy;
            assert!((got - want).abs() < 0.01, "{source_hz} -> {target_hz}: {got} not {want}");
        }
    }

    /// Every sample of a sine in the pass band, away from the ends, within -80 dB.
    #[test]
    fn a_sine_keeps_amplitude_frequency_and_phase() {
        for (source_hz, target_hz) in RATES {
            for frequency_hz in [110.0, 0.42 * f64::from(source_hz.min(target_hz))] {
                let sine = |n: usize, rate_hz: u32| {
                    (0.5 * libm::sin(TAU * frequency_hz * n as f64 / f64::from(rate_hz))) as f32
                };
                let source: Vec<f32> =
                    (0..source_hz as usize).map(|n| sine(n, source_hz)).collect();
                let out = resample(&source, source_hz, target_hz);
                let margin = out.len() / 4;
                for (n, &x) in out.iter().enumerate().skip(margin).take(2 * margin) {
                    let error = (x - sine(n, target_hz)).abs();
                    assert!(error < 5e-5, "{source_hz} -> {target_hz}, {frequency_hz}: {error}");
                }
            }
        }
    }

    #[test]
    fn what_the_target_cannot_hold_is_removed() {
        let source: Vec<f32> = (0..44_100)
            .map(|n| libm::sin(TAU * 9_000.0 * f64::from(n) / 44_100.0) as f32)
            .collect();
        let out = resample(&source, 44_100, 16_000);
        let peak = out[4_000..12_000].iter().fold(0.0_f32, |peak, x| peak.max(x.abs()));
        assert!(peak < 1e-4, "alias of {peak}");
    }
}
