//! Cuts silence off both ends of a recording, never out of its middle.
//!
//! The recording is measured in windows of 10 ms. A window sounds if its RMS lies less than
//! `threshold_db` under that of the loudest window; what is kept reaches from the first sounding
//! window to the last, and a margin beyond both, so that attacks and decays stay whole.

use std::ops::Range;

use anyhow::{Result, bail};

/// A recording whose loudest window has an RMS under this (in dB, full scale = 0) is silence: all
/// of it lies within the smallest step of 8-bit mu-law.
pub const SILENCE_DB: f32 = -80.0;

const WINDOW_MS: f32 = 10.0;

/// What counts as silence, and how much of it stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrimOptions {
    /// A window is silent when its RMS is this far under the loudest window's (dB, negative).
    pub threshold_db: f32,
    /// How much is kept before the first and after the last sounding window.
    pub margin_ms: f32,
}

impl Default for TrimOptions {
    /// -50 dB and 50 ms.
    fn default() -> Self {
        Self { threshold_db: -50.0, margin_ms: 50.0 }
    }
}

/// What [`trim`] keeps of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trimmed {
    /// The kept frames, never empty.
    pub kept: Range<usize>,
    /// The frames before and after them.
    pub dropped_frames: usize,
}

/// The range of `samples` (mono, at `rate_hz`) that remains when both ends are freed of silence.
///
/// # Errors
///
/// All of it is silence (see [`SILENCE_DB`]): nothing would remain.
pub fn trim(samples: &[f32], rate_hz: u32, options: &TrimOptions) -> Result<Trimmed> {
    let frames = |ms: f32| (ms / 1000.0 * rate_hz as f32) as usize;
    let window = frames(WINDOW_MS).max(1);
    let powers: Vec<f32> = samples
        .chunks(window)
        .map(|chunk| chunk.iter().map(|x| x * x).sum::<f32>() / chunk.len() as f32)
        .collect();
    let loudest = powers.iter().copied().fold(0.0, f32::max);
    if loudest < power_of_db(SILENCE_DB) {
        bail!("is silence all through (its loudest 10 ms lie under {SILENCE_DB} dB)");
    }
    let least = loudest * power_of_db(options.threshold_db.min(0.0));
    let sounds = |&power: &f32| power >= least;
    // Both exist: the loudest window sounds.
    let first = powers.iter().position(sounds).unwrap_or(0);
    let last = powers.iter().rposition(sounds).unwrap_or(0);
    let margin = frames(options.margin_ms.max(0.0));
    let kept = (first * window).saturating_sub(margin)
        ..((last + 1) * window).saturating_add(margin).min(samples.len());
    Ok(Trimmed { dropped_frames: samples.len() - kept.len(), kept })
}

fn power_of_db(db: f32) -> f32 {
    libm::powf(10.0, db / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_HZ: u32 = 8_000;

    /// Seconds of a tone at the given levels, one after the other.
    fn recording(parts: &[(f32, f32)]) -> Vec<f32> {
        let tone = |n: usize| libm::sinf(n as f32 * 0.7);
        parts
            .iter()
            .flat_map(|&(seconds, level)| {
                (0..(seconds * RATE_HZ as f32) as usize).map(move |n| level * tone(n))
            })
            .collect()
    }

    fn trimmed(samples: &[f32]) -> Trimmed {
        trim(samples, RATE_HZ, &TrimOptions::default()).unwrap()
    }

    #[test]
    fn both_ends_go_and_the_margin_stays() {
        let kept = trimmed(&recording(&[(1.0, 0.0), (0.5, 0.5), (2.0, 0.0)]));
        assert_eq!(kept, Trimmed { kept: 7_600..12_400, dropped_frames: 28_000 - 4_800 });
    }

    #[test]
    fn the_middle_stays() {
        let samples = recording(&[(0.2, 0.5), (3.0, 0.0), (0.2, 0.5)]);
        assert_eq!(trimmed(&samples), Trimmed { kept: 0..samples.len(), dropped_frames: 0 });
    }

    #[test]
    fn the_threshold_is_relative_to_the_loudest_window() {
        // -40 dB and -60 dB under a peak of 0.5, and the same at a hundredth of the level.
        for scale in [1.0, 0.01] {
            let parts = [(1.0, 0.0005), (1.0, 0.005), (1.0, 0.5), (1.0, 0.005), (1.0, 0.0005)];
            let samples = recording(&parts.map(|(seconds, level)| (seconds, level * scale)));
            assert_eq!(trimmed(&samples).kept, 7_600..32_400);
        }
    }

    #[test]
    fn silence_is_refused_instead_of_dropped() {
        for samples in [vec![], vec![0.0; 8_000], recording(&[(1.0, 1e-4)])] {
            let error = trim(&samples, RATE_HZ, &TrimOptions::default()).unwrap_err().to_string();
            assert!(error.contains("silence all through"), "{error}");
        }
    }

    #[test]
    fn very_short_recordings_are_kept() {
        assert_eq!(trimmed(&[0.3]).kept, 0..1);
        assert_eq!(trim(&[0.3; 3], 10, &TrimOptions::default()).unwrap().kept, 0..3);
    }
}
