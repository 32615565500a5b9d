//! The spectrum of the first second of a note, in which partials are looked for.
//!
//! Beside its level each bin is given a height: how far it stands above the ground around it.
//! Heights let every partial have a vote, and a loud one no more than a soft one: the ground is
//! the median level within one spacing of partials either side, or 40 dB below the partial's top
//! where that is higher, so that 40 dB is the most anything can stand out.

use anyhow::Result;
use realfft::RealFftPlanner;
use std::f64::consts::PI;

/// The greatest height.
pub(super) const HEIGHT_LIMIT_DB: f64 = 40.0;

/// The part of the recording whose spectrum is taken, in seconds.
const LENGTH_S: f64 = 1.0;
/// The attack, with its knock, is faded in over this time, in seconds.
const FADE_IN_S: f64 = 0.03;
/// The spectrum has at least this many bins to the inverse of its length.
const ZERO_PADDING: usize = 4;
/// Below this nothing is a partial: rounding to 16 bits leaves tones there, and many of them would
/// outvote a pure sine.
const LOWEST_GROUND_DB: f64 = -92.0;
/// Silence is this far below the highest bin.
const SILENCE_DB: f64 = -150.0;

/// Levels and heights over frequency.
pub(super) struct Spectrum {
    pub(super) bin_hz: f64,
    /// `[bins]`, in dB below the highest bin.
    pub(super) level_db: Vec<f64>,
    /// `[bins]`, 0 to `HEIGHT_LIMIT_DB`.
    height_db: Vec<f32>,
}

impl Spectrum {
    /// `note` begins with its attack; its partials lie about `spacing_hz` apart.
    pub(super) fn new(note: &[f32], rate_hz: f64, spacing_hz: f64) -> Result<Self> {
        let frames = note.len().min((LENGTH_S * rate_hz) as usize);
        let fade_in = (FADE_IN_S * rate_hz).min(frames as f64 / 2.0);
        let half_hann = |x: f64| 0.5 - 0.5 * libm::cos(PI * x.clamp(0.0, 1.0));
        let size = (ZERO_PADDING * frames).next_power_of_two();
        let mut windowed = vec![0.0f32; size];
        for (n, (out, x)) in windowed.iter_mut().zip(&note[..frames]).enumerate() {
            // It falls from the onset on, as most notes do: partials that die early count too.
            let rise = half_hann(n as f64 / fade_in);
            let fall = half_hann(1.0 - n as f64 / frames as f64);
            *out = (rise * fall) as f32 * x;
        }
        let fft = RealFftPlanner::<f32>::new().plan_fft_forward(size);
        let mut bins = fft.make_output_vec();
        fft.process(&mut windowed, &mut bins)?;

        let power: Vec<f64> = bins
            .iter()
            .map(|z| f64::from(z.re) * f64::from(z.re) + f64::from(z.im) * f64::from(z.im))
            .collect();
        let highest = power.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let level_db: Vec<f64> = power
            .iter()
            .map(|power| (10.0 * libm::log10(power / highest)).max(SILENCE_DB))
            .collect();
        let bin_hz = rate_hz / size as f64;
        let height_db = heights(&level_db, (spacing_hz / bin_hz) as usize);
        Ok(Self { bin_hz, level_db, height_db })
    }

    /// The height of the bin nearest to `hz`; 0 outside of the spectrum.
    pub(super) fn height_db(&self, hz: f64) -> f32 {
        let bin = (hz / self.bin_hz + 0.5) as usize;
        self.height_db.get(bin).copied().unwrap_or(0.0)
    }
}

/// `[bins]`: the height of each bin; partials lie about `spacing` bins apart.
fn heights(level_db: &[f64], spacing: usize) -> Vec<f32> {
    let around = |bin: usize, reach: usize| {
        &level_db[bin.saturating_sub(reach)..(bin + reach + 1).min(level_db.len())]
    };
    let ground_at = |bin: usize| {
        let top = around(bin, spacing / 2).iter().copied().fold(f64::MIN, f64::max);
        let mut levels = around(bin, spacing).to_vec();
        let middle = levels.len() / 2;
        let (_, median, _) = levels.select_nth_unstable_by(middle, f64::total_cmp);
        median.max(top - HEIGHT_LIMIT_DB).max(LOWEST_GROUND_DB)
    };
    // The ground changes slowly: it is found four times a spacing, and interpolated.
    let step = (spacing / 4).max(1);
    let ground_db: Vec<f64> = (0..=level_db.len().div_ceil(step))
        .map(|i| ground_at((i * step).min(level_db.len() - 1)))
        .collect();
    let height = |(bin, level): (usize, &f64)| {
        let (i, share) = (bin / step, (bin % step) as f64 / step as f64);
        let ground = ground_db[i] + (ground_db[i + 1] - ground_db[i]) * share;
        (level - ground).clamp(0.0, HEIGHT_LIMIT_DB) as f32
    };
    level_db.iter().enumerate().map(height).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    /// A loud and a soft partial stand equally high; between them is ground.
    #[test]
    fn every_partial_has_a_vote() {
        let rate_hz = 16_000.0;
        let note: Vec<f32> = (0..16_000)
            .map(|n| TAU * f64::from(n) / rate_hz)
            .map(|t| (libm::sin(300.0 * t) + 0.003 * libm::sin(600.0 * t)) as f32)
            .collect();
        let spectrum = Spectrum::new(&note, rate_hz, 300.0).unwrap();
        for partial_hz in [300.0, 600.0] {
            let height_db = spectrum.height_db(partial_hz);
            assert!(height_db > 39.0, "{partial_hz} Hz stands {height_db} dB high");
        }
        for ground_hz in [150.0, 450.0, 590.0, 750.0] {
            let height_db = spectrum.height_db(ground_hz);
            assert!(height_db < 15.0, "{ground_hz} Hz stands {height_db} dB high");
        }
        assert_eq!(spectrum.height_db(1e9), 0.0);
    }
}
