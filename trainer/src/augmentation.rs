//! Chance changes to what is heard in training: level, polarity, and a little pitch.
//!
//! Segment n draws its [`Change`] from the seed and n alone. The pitch changes by reading a recording
//! faster or slower: the sample at a place p between two samples is the sum of its 2 x 16 neighbours
//!
//! ```text
//! y(p) = sum_k x(k) sinc(p - k) w(p - k)        w: Hann, zero 16 samples away
//! ```
//!
//! from a table of 512 places between two samples.

use std::sync::OnceLock;

use wavenet_engine::Philox;

use crate::settings::Augmentation;

/// Samples either side of a place that are summed.
pub(crate) const REACH: usize = 16;
/// Places between two samples in the table.
const PLACES: usize = 512;
/// Keeps these draws apart from all others of the seed.
const STREAM: u64 = 0x6175_676d_656e;
const NOISE_STREAM: u64 = 0x6e6f_6973_6500;

/// What happens to one segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Factor of the level, 1 as recorded.
    pub gain: f32,
    /// Whether it is turned upside down.
    pub is_flipped: bool,
    /// Samples of the recording a sample heard: 1 as recorded, 2 an octave up.
    pub speed: f64,
    /// Noise under the past that is heard; none where it is as recorded.
    pub noise: Option<Noise>,
}

/// White noise, of its own for each segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Root mean square.
    pub rms: f32,
    /// Tells one noise from another.
    key: u64,
}

impl Noise {
    /// Lays the noise under samples. Each is a sum of three uniform draws: nearly Gaussian, never far.
    pub(crate) fn lay_under(&self, samples: &mut [f32]) {
        let draws = Philox::new(self.key, NOISE_STREAM);
        for (index, sample) in (0..).zip(samples) {
            let sum: f32 = (0..3).map(|part| draws.uniform(4 * index + part)).sum();
            // A sum of three has a variance of a quarter.
            *sample += 2.0 * self.rms * (sum - 1.5);
        }
    }
}

impl Change {
    /// As recorded.
    pub const NONE: Self = Self { gain: 1.0, is_flipped: false, speed: 1.0, noise: None };

    /// That of the segment numbered `index`.
    pub fn draw(settings: &Augmentation, seed: u64, index: u64) -> Self {
        if *settings == Augmentation::default() {
            return Self::NONE;
        }
        let draws = Philox::new(seed, STREAM);
        let uniform = |place: u64| draws.uniform(4 * index + place);
        let [low_db, high_db] = settings.gain_db;
        let gain_db = low_db + (high_db - low_db) * uniform(0);
        let cents = settings.pitch_cents * (2.0 * uniform(2) - 1.0);
        let factor = |db: f32| libm::exp2f(db * (libm::log2f(10.0) / 20.0));
        let noise = settings.past_noise_db.map(|[softest, loudest]| Noise {
            rms: factor(softest + (loudest - softest) * uniform(3)),
            key: seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        });
        Self {
            gain: factor(gain_db),
            is_flipped: settings.flip_polarity && uniform(1) < 0.5,
            speed: libm::exp2(f64::from(cents) / 1200.0),
            noise,
        }
    }

    /// Changes level and polarity.
    pub(crate) fn apply(&self, samples: &mut [f32]) {
        let factor = if self.is_flipped { -self.gain } else { self.gain };
        if factor != 1.0 {
            samples.iter_mut().for_each(|sample| *sample = (*sample * factor).clamp(-1.0, 1.0));
        }
    }
}

/// The kernel at every place: `[PLACES + 1][2 REACH]`, each row of sum 1.
fn table() -> &'static [[f32; 2 * REACH]] {
    static TABLE: OnceLock<Vec<[f32; 2 * REACH]>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let kernel = |x: f64| {
            let turn = core::f64::consts::PI * x;
            let sinc = if x == 0.0 { 1.0 } else { libm::sin(turn) / turn };
            sinc * (0.5 + 0.5 * libm::cos(turn / REACH as f64))
        };
        let row = |place: usize| {
            let fraction = place as f64 / PLACES as f64;
            let taps: [f64; 2 * REACH] =
                core::array::from_fn(|tap| kernel(fraction + REACH as f64 - 1.0 - tap as f64));
            let sum: f64 = taps.iter().sum();
            taps.map(|tap| (tap / sum) as f32)
        };
        (0..=PLACES).map(row).collect()
    })
}

/// Reads `out.len()` samples at the places `start`, `start + speed` and so on of `samples`; beyond
/// its ends there is silence.
pub(crate) fn read_between(samples: &[f32], start: f64, speed: f64, out: &mut [f32]) {
    let table = table();
    for (index, out) in out.iter_mut().enumerate() {
        let place = start + index as f64 * speed;
        let whole = place.floor();
        let fine = (place - whole) * PLACES as f64;
        let row = (fine as usize).min(PLACES - 1);
        let share = (fine - row as f64) as f32;
        let first = whole as i64 + 1 - REACH as i64;
        let sum = |taps: &[f32; 2 * REACH]| -> f32 {
            let neighbour = |tap: usize| {
                let at = usize::try_from(first + tap as i64).ok();
                at.and_then(|at| samples.get(at)).copied().unwrap_or(0.0)
            };
            taps.iter().enumerate().map(|(tap, weight)| weight * neighbour(tap)).sum()
        };
        let (low, high) = (sum(&table[row]), sum(&table[row + 1]));
        *out = (low + (high - low) * share).clamp(-1.0, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Augmentation {
        Augmentation {
            gain_db: [-12.0, 6.0],
            flip_polarity: true,
            pitch_cents: 100.0,
            ..Augmentation::default()
        }
    }

    #[test]
    fn a_segment_draws_from_the_seed_and_its_number_alone() {
        let changes: Vec<Change> = (0..500).map(|n| Change::draw(&settings(), 3, n)).collect();
        assert_eq!(changes[77], Change::draw(&settings(), 3, 77));
        assert_ne!(changes[77], Change::draw(&settings(), 4, 77));
        let (low, high) = (libm::exp2(-1.0 / 12.0), libm::exp2(1.0 / 12.0));
        assert!(changes.iter().all(|change| (0.25..2.0).contains(&change.gain)));
        assert!(changes.iter().all(|change| (low..=high).contains(&change.speed)));
        for half in [
            changes.iter().filter(|change| change.is_flipped).count(),
            changes.iter().filter(|change| change.speed > 1.0).count(),
            changes.iter().filter(|change| change.gain > 0.708).count(),
        ] {
            assert!((200..300).contains(&half), "{half} of 500");
        }
        assert_eq!(Change::draw(&Augmentation::default(), 3, 77), Change::NONE);
    }

    #[test]
    fn a_sine_that_is_read_faster_is_a_higher_sine() {
        let sine = |frame: f64| libm::sin(frame * 0.37) as f32;
        let samples: Vec<f32> = (0..2_000).map(|frame| sine(f64::from(frame))).collect();
        for speed in [0.89, 1.0, 1.059] {
            let mut out = vec![0.0; 1_000];
            read_between(&samples, 100.25, speed, &mut out);
            for (index, sample) in out.iter().enumerate() {
                let expected = sine(100.25 + index as f64 * speed);
                assert!((sample - expected).abs() < 2e-3, "{index}: {sample} for {expected}");
            }
        }
        let mut out = vec![1.0; 4];
        read_between(&samples, -40.0, 1.0, &mut out);
        assert_eq!(out, [0.0; 4]);
    }
}
