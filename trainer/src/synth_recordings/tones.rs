//! Sines, chords, exponential sweeps and rhythms of filtered noise.

use std::f64::consts::TAU;

use super::random::Random;
use super::{Clip, RATE_HZ, key_hz};

const STEP_S: f64 = 1.0 / RATE_HZ as f64;

/// 0 to 1 to 0: a raised cosine of 10 ms at the start, of 60 ms at the end.
pub(super) fn fade(frame: usize, frames: usize) -> f64 {
    let rise = frame as f64 * STEP_S / 0.010;
    let fall = (frames - frame) as f64 * STEP_S / 0.060;
    raised(rise) * raised(fall)
}

/// 0 to 1, and there it stays: half a turn of a cosine.
pub(super) fn raised(x: f64) -> f64 {
    0.5 - 0.5 * libm::cos(0.5 * TAU * x.clamp(0.0, 1.0))
}

/// A band-pass: the zero-delay state-variable filter (Zavalishin 2012), g = tan(pi f / rate).
pub(super) struct BandPass {
    g: f64,
    damping: f64,
    low: f64,
    band: f64,
}

impl BandPass {
    /// `damping` is 1 / Q.
    pub(super) fn new(centre_hz: f64, damping: f64) -> Self {
        let mut new = Self { g: 0.0, damping, low: 0.0, band: 0.0 };
        new.tune(centre_hz);
        new
    }

    pub(super) fn tune(&mut self, centre_hz: f64) {
        self.g = libm::tan(0.5 * TAU * centre_hz * STEP_S);
    }

    /// One sample in, one out.
    pub(super) fn next(&mut self, input: f64) -> f64 {
        let Self { g, damping, .. } = *self;
        let high = (input - (damping + g) * self.band - self.low) / (1.0 + g * (damping + g));
        let band = g * high + self.band;
        self.band = g * high + band;
        let low = g * band + self.low;
        self.low = g * band + low;
        band
    }
}

/// sin(2 pi f t).
pub(super) fn sine(hz: f64, frames: usize) -> Clip {
    (0..frames).map(|n| fade(n, frames) * libm::sin(TAU * hz * n as f64 * STEP_S)).collect()
}

/// Each note six harmonics, the k-th at 1/k^1.5, dying away the faster the higher it is; the notes
/// begin one after the other, as if strummed, every second anew.
pub(super) fn chord(keys: &[u8], frames: usize, random: &mut Random) -> Clip {
    let mut clip = vec![0.0; frames];
    let strum_frames = RATE_HZ as usize;
    for strum in (0..frames).step_by(strum_frames) {
        for (voice, &key) in keys.iter().enumerate() {
            let hz = key_hz(key);
            let start = strum + (voice as f64 * random.between(0.010, 0.030) / STEP_S) as usize;
            // A strum that is interrupted by the next fades into it.
            let end = (strum + strum_frames).min(frames);
            let length = end.saturating_sub(start);
            for (n, x) in clip[start.min(end)..end].iter_mut().enumerate() {
                let t = n as f64 * STEP_S;
                for k in (1..=6).map(f64::from) {
                    let level = libm::exp(-t * (0.8 + 0.5 * k)) / libm::pow(k, 1.5);
                    *x += fade(n, length) * level * libm::sin(TAU * k * hz * t);
                }
            }
        }
    }
    clip
}

/// From f0 to f1 in T seconds, equal times an octave: the phase is
/// 2 pi f0 T / ln(f1/f0) (exp(t/T ln(f1/f0)) - 1).
pub(super) fn sweep(from_hz: f64, to_hz: f64, frames: usize) -> Clip {
    let octaves = libm::log(to_hz / from_hz);
    let seconds = frames as f64 * STEP_S;
    (0..frames)
        .map(|n| {
            let grown = libm::exp(n as f64 / frames as f64 * octaves) - 1.0;
            fade(n, frames) * libm::sin(TAU * from_hz * seconds / octaves * grown)
        })
        .collect()
}

/// A bar of eight steps, repeated: each step a burst of noise through a band-pass of its own
/// (or a rest).
pub(super) fn noise_pattern(frames: usize, random: &mut Random) -> Clip {
    let step_frames = (random.between(0.11, 0.16) / STEP_S) as usize;
    // (centre in Hz, level, decay in seconds) of the eight steps; the first always sounds.
    let bar: Vec<(f64, f64, f64)> = (0..8)
        .map(|step| {
            let centre_hz = 200.0 * libm::exp2(random.between(0.0, 5.0));
            let level = if step == 0 { 1.0 } else { [0.0, 0.4, 0.7, 1.0][random.below(4)] };
            (centre_hz, level, random.between(0.015, 0.080))
        })
        .collect();
    let mut filter = BandPass::new(200.0, 0.4);
    (0..frames)
        .map(|n| {
            let (centre_hz, level, decay_s) = bar[n / step_frames % bar.len()];
            let t = (n % step_frames) as f64 * STEP_S;
            let level = level * libm::exp(-t / decay_s) * (t / 0.002).min(1.0);
            filter.tune(centre_hz);
            fade(n, frames) * filter.next(level * random.noise())
        })
        .collect()
}
