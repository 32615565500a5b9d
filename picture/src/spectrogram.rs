//! How a sound's spectrum moves: the short-time Fourier transform, on a logarithmic axis of frequency.
//!
//! A window slides over the sound in hops of at most a quarter of its length. Each frame is shaped
//! by a Hann window `w`, padded with zeros to twice its length, and transformed:
//!
//! ```text
//! X(f) = sum_t x(t) w(t) exp(-2 pi i f t)        power(f) = |2 X(f) / sum_t w(t)|^2
//! ```
//!
//! so that a sine of full scale reads 0 dB. The frames that fall in one column of the picture are
//! averaged in power; the bins that fall in one row give their largest. The window is about a tenth
//! of a second, long enough to part the partials of a bass note, and shorter for short sounds.

use realfft::RealFftPlanner;
use realfft::num_complex::Complex;

/// What silence reads, and the least a spectrogram holds, in dB.
pub const FLOOR_DB: f32 = -200.0;

/// The window's length in seconds, before it is rounded down to a power of two.
const WINDOW_S: f64 = 0.13;
/// Bounds of the window in frames.
const WINDOW_MIN: usize = 64;
const WINDOW_MAX: usize = 16_384;
/// Loudest sample believed (+60 dB): keeps the powers finite whatever comes in.
const SAMPLE_MAX: f32 = 1e3;

/// A logarithmic axis of frequency: position 0 is `low_hz`, position 1 is `high_hz`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrequencyAxis {
    /// The lowest frequency, above 0.
    pub low_hz: f64,
    /// The highest frequency, above `low_hz`.
    pub high_hz: f64,
}

impl FrequencyAxis {
    /// The audible part of what `rate_hz` can carry: 30 Hz, or four octaves below the top if that is
    /// lower, up to half the rate or 24 kHz.
    pub fn audible(rate_hz: u32) -> Self {
        let high_hz = (f64::from(rate_hz.max(1)) / 2.0).min(24_000.0);
        Self { low_hz: (high_hz / 16.0).min(30.0), high_hz }
    }

    /// The frequency at `position`, 0 to 1.
    pub fn frequency_hz(&self, position: f64) -> f64 {
        self.low_hz * libm::pow(self.high_hz / self.low_hz, position)
    }

    /// Where `frequency_hz` lies, 0 to 1 on the axis and beyond it otherwise.
    pub fn position(&self, frequency_hz: f64) -> f64 {
        libm::log(frequency_hz / self.low_hz) / libm::log(self.high_hz / self.low_hz)
    }
}

/// Levels in dB below a sine of full scale, over time and frequency.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrogram {
    /// Columns, evenly spread over the sound's duration.
    pub columns: usize,
    /// Rows, evenly spread over `axis`.
    pub rows: usize,
    /// `[columns][rows]`, the lowest frequency first.
    pub level_db: Vec<f32>,
    /// The axis of the rows.
    pub axis: FrequencyAxis,
    /// The window's length in samples.
    pub window_frames: usize,
}

impl Spectrogram {
    /// The level at `column` and `row`, [`FLOOR_DB`] outside of the picture.
    pub fn at(&self, column: usize, row: usize) -> f32 {
        if row >= self.rows {
            return FLOOR_DB;
        }
        self.level_db.get(column * self.rows + row).copied().unwrap_or(FLOOR_DB)
    }

    /// The highest level anywhere.
    pub fn peak_db(&self) -> f32 {
        self.level_db.iter().copied().fold(FLOOR_DB, f32::max)
    }
}

/// The spectrogram of `samples` (mono, full scale ±1) in `columns` x `rows`.
///
/// Total: no samples and samples that are not finite count as silence.
pub fn spectrogram(
    samples: &[f32],
    rate_hz: u32,
    columns: usize,
    rows: usize,
    axis: FrequencyAxis,
) -> Spectrogram {
    let window_frames = window_frames(samples.len(), rate_hz);
    let mut level_db = Vec::with_capacity(columns * rows);
    let mut transform = Transform::new(window_frames);
    let edges = row_edges(&axis, rows, transform.bins_per_hz(rate_hz));

    // The frames of a column stand evenly within it, at most a quarter of a window apart.
    let column_frames = samples.len() as f64 / columns.max(1) as f64;
    let hops = libm::ceil(4.0 * column_frames / window_frames as f64).max(1.0) as usize;
    for column in 0..columns {
        transform.clear();
        for hop in 0..hops {
            let centre = (column as f64 + (hop as f64 + 0.5) / hops as f64) * column_frames;
            transform.add(samples, centre as i64 - window_frames as i64 / 2);
        }
        let power = transform.mean_power(hops);
        level_db.extend(edges.windows(2).map(|edge| decibels(loudest(&power, edge[0], edge[1]))));
    }
    Spectrogram { columns, rows, level_db, axis, window_frames }
}

/// At most [`WINDOW_S`] and a quarter of the sound, rounded down to a power of two.
fn window_frames(samples: usize, rate_hz: u32) -> usize {
    let wanted = (f64::from(rate_hz) * WINDOW_S) as usize;
    let bounded = wanted.min(samples / 4).clamp(WINDOW_MIN, WINDOW_MAX);
    if bounded.is_power_of_two() { bounded } else { bounded.next_power_of_two() / 2 }
}

/// The bounds of `rows` rows, in bins.
fn row_edges(axis: &FrequencyAxis, rows: usize, bins_per_hz: f64) -> Vec<f64> {
    (0..=rows).map(|row| axis.frequency_hz(row as f64 / rows.max(1) as f64) * bins_per_hz).collect()
}

/// The largest power between two places among the bins, interpolated at both ends.
fn loudest(power: &[f64], from: f64, to: f64) -> f64 {
    let last = power.len().saturating_sub(1);
    let between = |place: f64| {
        let below = (place as usize).min(last);
        let above = (below + 1).min(last);
        let fraction = (place - below as f64).clamp(0.0, 1.0);
        power[below] + (power[above] - power[below]) * fraction
    };
    let inside = power.iter().take(to as usize + 1).skip(from as usize + 1);
    inside.copied().fold(between(from).max(between(to)), f64::max)
}

fn decibels(power: f64) -> f32 {
    (10.0 * libm::log10(power.max(1e-20))) as f32
}

/// One windowed transform, and the sum of its powers.
struct Transform {
    fft: std::sync::Arc<dyn realfft::RealToComplex<f32>>,
    /// `[window_frames]`, scaled such that a sine of full scale has power 1.
    window: Vec<f32>,
    /// `[2 window_frames]`: the second half stays zero.
    input: Vec<f32>,
    /// `[window_frames + 1]`
    spectrum: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
    /// `[window_frames + 1]`
    power: Vec<f64>,
}

impl Transform {
    fn new(window_frames: usize) -> Self {
        let fft = RealFftPlanner::new().plan_fft_forward(2 * window_frames);
        let hann = |frame: usize| {
            let phase = std::f64::consts::TAU * (frame as f64 + 0.5) / window_frames as f64;
            // The window's sum is half its length; a sine's energy is split over two frequencies.
            ((1.0 - libm::cos(phase)) * 2.0 / window_frames as f64) as f32
        };
        Self {
            window: (0..window_frames).map(hann).collect(),
            input: fft.make_input_vec(),
            spectrum: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            power: vec![0.0; window_frames + 1],
            fft,
        }
    }

    fn bins_per_hz(&self, rate_hz: u32) -> f64 {
        2.0 * self.window.len() as f64 / f64::from(rate_hz.max(1))
    }

    fn clear(&mut self) {
        self.power.fill(0.0);
    }

    /// Adds the power of the window that begins at sample `start`; what lies outside is silence.
    fn add(&mut self, samples: &[f32], start: i64) {
        self.input.fill(0.0);
        for (offset, (input, window)) in self.input.iter_mut().zip(&self.window).enumerate() {
            let sample = usize::try_from(start + offset as i64).ok().and_then(|at| samples.get(at));
            let sample = sample.copied().filter(|sample| sample.is_finite()).unwrap_or(0.0);
            *input = sample.clamp(-SAMPLE_MAX, SAMPLE_MAX) * window;
        }
        let done =
            self.fft.process_with_scratch(&mut self.input, &mut self.spectrum, &mut self.scratch);
        debug_assert!(done.is_ok(), "the buffers are the plan's own");
        for (power, bin) in self.power.iter_mut().zip(&self.spectrum) {
            *power += f64::from(bin.norm_sqr());
        }
    }

    fn mean_power(&self, frames: usize) -> Vec<f64> {
        self.power.iter().map(|power| power / frames as f64).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_HZ: u32 = 16_000;

    fn sine(frequency_hz: f64, seconds: f64, amplitude: f64) -> Vec<f32> {
        let frames = (seconds * f64::from(RATE_HZ)) as usize;
        let step = std::f64::consts::TAU * frequency_hz / f64::from(RATE_HZ);
        (0..frames).map(|at| (amplitude * libm::sin(step * at as f64)) as f32).collect()
    }

    #[test]
    fn a_sine_lies_at_its_frequency_and_its_level() {
        for frequency_hz in [65.4, 440.0, 5_000.0] {
            let axis = FrequencyAxis::audible(RATE_HZ);
            let picture = spectrogram(&sine(frequency_hz, 1.0, 0.1), RATE_HZ, 20, 400, axis);
            let row = (0..400).max_by(|&a, &b| picture.at(10, a).total_cmp(&picture.at(10, b)));
            let expected = axis.position(frequency_hz) * 400.0;
            assert!(
                (row.unwrap() as f64 + 0.5 - expected).abs() < 4.0,
                "{frequency_hz} Hz: {row:?}"
            );
            assert!((picture.at(10, row.unwrap()) + 20.0).abs() < 0.5, "{}", picture.peak_db());
            // Three octaves away there is nothing but the window's skirt.
            let far = axis.position(if frequency_hz > 500.0 { 200.0 } else { 4_000.0 });
            assert!(picture.at(10, (far * 400.0) as usize) < -100.0);
        }
    }

    #[test]
    fn a_click_is_found_in_its_column_however_long_the_silence() {
        for frames in [800, 16_000, 3_000_000] {
            let mut samples = vec![0.0; frames];
            samples[frames / 2 + frames / 200] = 1.0;
            let picture = spectrogram(&samples, RATE_HZ, 100, 8, FrequencyAxis::audible(RATE_HZ));
            assert!(picture.at(50, 7) > -90.0, "{frames}: {}", picture.at(50, 7));
            assert_eq!(picture.at(20, 7), FLOOR_DB, "{frames}");
        }
    }

    #[test]
    fn nothing_and_the_extreme_are_pictures_too() {
        for samples in [vec![], vec![0.0], vec![f32::MAX; 5_000], vec![f32::NAN; 300]] {
            for rate_hz in [1, 8_000, u32::MAX] {
                let axis = FrequencyAxis::audible(rate_hz);
                let picture = spectrogram(&samples, rate_hz, 7, 5, axis);
                assert_eq!(picture.level_db.len(), 35);
                assert!(picture.level_db.iter().all(|level| (FLOOR_DB..67.0).contains(level)));
            }
        }
        let axis = FrequencyAxis::audible(8_000);
        assert!(spectrogram(&[1.0], 8_000, 0, 0, axis).level_db.is_empty());
    }

    #[test]
    fn windows_suit_the_rate_and_the_length() {
        let lengths = [(8_000, 1024), (16_000, 2048), (44_100, 4096), (48_000, 4096)];
        for (rate_hz, expected) in lengths {
            assert_eq!(window_frames(1_000_000, rate_hz), expected);
        }
        assert_eq!(window_frames(2_400, 48_000), 512);
        assert_eq!(window_frames(0, 48_000), WINDOW_MIN);
        assert_eq!(window_frames(usize::MAX, u32::MAX), WINDOW_MAX);
    }

    #[test]
    fn the_axis_is_its_own_inverse() {
        let axis = FrequencyAxis::audible(44_100);
        assert_eq!((axis.low_hz, axis.high_hz), (30.0, 22_050.0));
        for position in [0.0, 0.3, 1.0] {
            assert!((axis.position(axis.frequency_hz(position)) - position).abs() < 1e-12);
        }
    }
}
