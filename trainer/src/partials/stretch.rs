//! Fundamental and inharmonicity of a note: f_k = k f1 sqrt(1 + B k^2).
//!
//! 1. Search: each (f1, B) on a grid is given the sum of the spectrum's heights at its f_k. No
//!    step of the grid moves a partial by more than 1 Hz, half its width in the spectrum, so the
//!    best of them is near the truth.
//! 2. Fit: the peaks next to those f_k are measured, and the straight line
//!    (f_k / k)^2 = f1^2 + f1^2 B k^2 is laid through them, mistrusting those far from it.

use anyhow::{Result, ensure};

use super::spectrum::{HEIGHT_LIMIT_DB, Spectrum};
use wavenet_engine::conditioning::{HIGHEST_PARTIAL, partial_ratio};

/// So many partials are looked at, however many are asked for.
const PARTIALS: usize = 16;
/// The pitch is sought this far either side of the key's nominal pitch.
const SEARCH_CENTS: f64 = 90.0;
/// No string is stiffer.
const HIGHEST_INHARMONICITY: f64 = 0.02;
/// Nor is B sought beyond B k^2 = this at the highest partial: B = 0.003 for 16 partials.
const HIGHEST_STRETCH: f64 = 0.768;
/// One step of the grid moves the highest partial by this.
const GRID_HZ: f64 = 1.0;

/// A partial's peak is looked for within this share of its frequency, but at least this far.
const PEAK_REACH: f64 = 0.01;
const LEAST_PEAK_REACH_HZ: f64 = 2.0;
/// A peak that stands less high may be noise.
const LEAST_HEIGHT_DB: f64 = 12.0;
/// If no peak stands as high as this all of them are noise.
const CLEAR_HEIGHT_DB: f64 = 20.0;
/// What is lower than this below the highest bin is not looked at.
const FLOOR_DB: f64 = -90.0;
/// A peak this far from the line counts half.
const HALF_TRUSTED_CENTS: f64 = 6.0;
/// The line is laid this many times; it comes to rest after a few.
const FITS: usize = 20;

/// f1 and B.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) fundamental_hz: f64,
    pub(super) inharmonicity: f64,
}

impl Stretch {
    pub(super) fn partial_hz(&self, partial: usize) -> f64 {
        self.fundamental_hz * partial_ratio(partial, self.inharmonicity)
    }
}

/// Finds f1, within 90 cents of `nominal_hz`, and B of a note that begins with its attack.
pub(super) fn find(note: &[f32], rate_hz: f64, nominal_hz: f64) -> Result<Stretch> {
    let limit_hz = HIGHEST_PARTIAL * rate_hz;
    let lowest_hz = nominal_hz / libm::exp2(SEARCH_CENTS / 1200.0);
    ensure!(
        lowest_hz < limit_hz,
        "a note of {nominal_hz:.0} Hz does not fit into {rate_hz} Hz: raise the sample rate"
    );
    let spectrum = Spectrum::new(note, rate_hz, nominal_hz)?;
    let partials = PARTIALS.min((limit_hz / lowest_hz) as usize);
    let near = search(&spectrum, nominal_hz, partials, limit_hz);
    let peaks: Vec<Peak> = (1..=partials)
        .filter(|&partial| near.partial_hz(partial) <= limit_hz)
        .filter_map(|partial| peak(&spectrum, near, partial))
        .collect();
    let clear = CLEAR_HEIGHT_DB / HEIGHT_LIMIT_DB;
    ensure!(
        peaks.iter().any(|peak| peak.weight >= clear),
        "no partial of a note of {nominal_hz:.1} Hz stands out: is the file named after its key?"
    );
    Ok(fit(&peaks, near))
}

/// The point of the grid whose partials stand highest; of equals the one with the smallest B.
fn search(spectrum: &Spectrum, nominal_hz: f64, partials: usize, limit_hz: f64) -> Stretch {
    let k = partials as f64;
    let range = libm::exp2(SEARCH_CENTS / 1200.0);
    let (low_hz, high_hz) = (nominal_hz / range, nominal_hz * range);
    let pitch_steps = ((high_hz - low_hz) * k / GRID_HZ).ceil() as usize;
    let highest_b = HIGHEST_INHARMONICITY.min(HIGHEST_STRETCH / (k * k));
    let widest_hz = nominal_hz * (partial_ratio(partials, highest_b) - k);
    let stretch_steps = (widest_hz / GRID_HZ).ceil() as usize;

    let mut highest = f32::NEG_INFINITY;
    let mut best = Stretch { fundamental_hz: nominal_hz, inharmonicity: 0.0 };
    for stretch_step in 0..=stretch_steps {
        let stretch = 1.0 + stretch_step as f64 * GRID_HZ / (nominal_hz * k);
        let inharmonicity = (stretch * stretch - 1.0) / (k * k);
        let ratios: Vec<f64> =
            (1..=partials).map(|partial| partial_ratio(partial, inharmonicity)).collect();
        for pitch_step in 0..=pitch_steps {
            let share = pitch_step as f64 / pitch_steps as f64;
            let fundamental_hz = low_hz + (high_hz - low_hz) * share;
            let sum: f32 = ratios
                .iter()
                .map(|ratio| ratio * fundamental_hz)
                .take_while(|&hz| hz <= limit_hz)
                .map(|hz| spectrum.height_db(hz))
                .sum();
            if sum > highest {
                highest = sum;
                best = Stretch { fundamental_hz, inharmonicity };
            }
        }
    }
    best
}

/// A partial found in the spectrum.
struct Peak {
    partial: usize,
    hz: f64,
    /// 0 to 1: how high it stands.
    weight: f64,
}

/// The highest bin near where `partial` should be. None if it may be noise.
fn peak(spectrum: &Spectrum, near: Stretch, partial: usize) -> Option<Peak> {
    let (level_db, bin_hz) = (&spectrum.level_db, spectrum.bin_hz);
    let hz = near.partial_hz(partial);
    let reach_hz = (hz * PEAK_REACH).max(LEAST_PEAK_REACH_HZ).min(near.fundamental_hz / 3.0);
    let first = (((hz - reach_hz) / bin_hz) as usize).max(1);
    let last = ((hz + reach_hz) / bin_hz) as usize + 1;
    let top = (first..=last.min(level_db.len() - 2))
        .max_by(|&a, &b| level_db[a].total_cmp(&level_db[b]))?;
    let height_db = f64::from(spectrum.height_db(top as f64 * bin_hz));
    if height_db < LEAST_HEIGHT_DB || level_db[top] < FLOOR_DB {
        return None;
    }
    // The vertex of the parabola through the top three bins.
    let (left, right) = (level_db[top - 1], level_db[top + 1]);
    let curvature = left - 2.0 * level_db[top] + right;
    let shift =
        if curvature < 0.0 { (0.5 * (left - right) / curvature).clamp(-0.5, 0.5) } else { 0.0 };
    Some(Peak { partial, hz: (top as f64 + shift) * bin_hz, weight: height_db / HEIGHT_LIMIT_DB })
}

/// Weighted least squares for y = f1^2 + f1^2 B x, where x = k^2 and y = (f_k / k)^2, again and
/// again, each time with less trust in the peaks that lay far from the last line (Cauchy weights).
fn fit(peaks: &[Peak], near: Stretch) -> Stretch {
    let mut line = near;
    for _ in 0..FITS {
        let (mut w, mut wx, mut wy, mut wxx, mut wxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for peak in peaks {
            let cents = 1200.0 * libm::log2(peak.hz / line.partial_hz(peak.partial));
            let distance = cents / HALF_TRUSTED_CENTS;
            let weight = peak.weight / (1.0 + distance * distance);
            let k = peak.partial as f64;
            let (x, y) = (k * k, (peak.hz / k) * (peak.hz / k));
            w += weight;
            wx += weight * x;
            wy += weight * y;
            wxx += weight * x * x;
            wxy += weight * x * y;
        }
        let spread = w * wxx - wx * wx;
        // One partial alone has no slope; and no string sounds flatter than a harmonic series.
        let slope =
            if spread > 1e-9 * w * wxx { ((w * wxy - wx * wy) / spread).max(0.0) } else { 0.0 };
        let squared_hz = (wy - slope * wx) / w;
        if squared_hz <= 0.0 {
            break;
        }
        line =
            Stretch { fundamental_hz: libm::sqrt(squared_hz), inharmonicity: slope / squared_hz };
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peaks(ratio: impl Fn(usize) -> f64) -> Vec<Peak> {
        (1..=16).map(|partial| Peak { partial, hz: 220.0 * ratio(partial), weight: 1.0 }).collect()
    }

    const NEAR: Stretch = Stretch { fundamental_hz: 220.5, inharmonicity: 2.2e-4 };

    #[test]
    fn a_line_is_laid_through_all_peaks_but_the_strays() {
        let mut peaks = peaks(|k| partial_ratio(k, 3e-4));
        peaks[4].hz *= 1.008;
        peaks[11].hz *= 0.992;
        let line = fit(&peaks, NEAR);
        let cents = 1200.0 * libm::log2(line.fundamental_hz / 220.0);
        assert!(cents.abs() < 0.3, "{cents} cents off");
        assert!((line.inharmonicity / 3e-4 - 1.0).abs() < 0.02, "{line:?}");
    }

    #[test]
    fn a_harmonic_or_compressed_series_has_no_inharmonicity() {
        let harmonic = fit(&peaks(|k| k as f64), NEAR);
        assert!(harmonic.inharmonicity < 1e-12, "{harmonic:?}");
        let compressed = fit(&peaks(|k| k as f64 * (1.0 - 1e-5 * (k * k) as f64)), NEAR);
        assert_eq!(compressed.inharmonicity, 0.0);
    }

    #[test]
    fn one_peak_gives_a_pitch_without_inharmonicity() {
        let line = fit(&peaks(|k| k as f64)[..1], NEAR);
        assert!((line.fundamental_hz - 220.0).abs() < 1e-9);
        assert_eq!(line.inharmonicity, 0.0);
    }
}
