//! Notes whose partials are known, sounds that have none, and a real piano.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::audio::read_recording;

/// A struck string, which begins at `onset_frame` of a recording of 1.2 seconds.
struct StiffString {
    rate_hz: u32,
    key: u8,
    cents: f64,
    inharmonicity: f64,
    partials: usize,
    onset_frame: usize,
}

impl StiffString {
    fn fundamental_hz(&self) -> f64 {
        440.0 * libm::exp2((f64::from(self.key) - 69.0) / 12.0 + self.cents / 1200.0)
    }

    fn partial_hz(&self, k: usize) -> f64 {
        self.fundamental_hz() * partial_ratio(k, self.inharmonicity)
    }

    /// Phase of partial k at `frame`, in turns. Any start phases will do.
    fn turns(&self, k: usize, frame: usize) -> f64 {
        let seconds = (frame as f64 - self.onset_frame as f64) / f64::from(self.rate_hz);
        self.partial_hz(k) * seconds + 0.37 * (k * k) as f64
    }

    /// High partials are softer and die sooner.
    fn amplitude(&self, k: usize, frame: usize) -> f64 {
        if frame < self.onset_frame {
            return 0.0;
        }
        let seconds = (frame - self.onset_frame) as f64 / f64::from(self.rate_hz);
        0.3 * libm::exp(-seconds * (1.0 + 0.3 * k as f64)) / k as f64
    }

    fn partials(&self) -> impl Iterator<Item = usize> {
        let limit_hz = HIGHEST_PARTIAL * f64::from(self.rate_hz);
        (1..=self.partials).take_while(move |&k| self.partial_hz(k) <= limit_hz)
    }

    fn sound(&self, turns: impl Fn(usize, usize) -> f64) -> Vec<f32> {
        (0..self.rate_hz as usize * 6 / 5)
            .map(|frame| {
                self.partials()
                    .map(|k| self.amplitude(k, frame) * libm::cos(TAU * turns(k, frame)))
                    .sum::<f64>() as f32
            })
            .collect()
    }

    fn samples(&self) -> Vec<f32> {
        self.sound(|k, frame| self.turns(k, frame))
    }
}

fn strings() -> Vec<StiffString> {
    let kinds = [
        (16_000, 36, -23.0, 2.3e-4),
        (24_000, 43, 12.0, 2.0e-4),
        (16_000, 48, 55.0, 2.1e-4),
        (16_000, 60, -4.0, 3.0e-4),
        (24_000, 69, 0.0, 4.8e-4),
        (16_000, 72, 7.0, 0.0),
        (16_000, 79, -48.0, 1.3e-3),
        (24_000, 84, 3.0, 2.1e-3),
    ];
    kinds
        .into_iter()
        .map(|(rate_hz, key, cents, inharmonicity)| StiffString {
            rate_hz,
            key,
            cents,
            inharmonicity,
            partials: 16,
            onset_frame: 600,
        })
        .collect()
}

fn turns_apart(a: f64, b: f64) -> f64 {
    let apart = a - b;
    (apart - apart.round()).abs()
}

/// The share of the energy of `samples` that `model` explains.
fn share_explained(samples: &[f32], model: &[f32]) -> f64 {
    let energy = |x: f32| f64::from(x) * f64::from(x);
    let total: f64 = samples.iter().map(|&x| energy(x)).sum();
    let left: f64 = samples.iter().zip(model).map(|(x, y)| energy(x - y)).sum();
    1.0 - left / total
}

#[test]
fn pitch_inharmonicity_and_phases_of_a_string_are_found() {
    for string in strings() {
        let samples = string.samples();
        let tracks = analyse(&samples, string.rate_hz, string.key, 16).unwrap();
        let name = format!("key {} at {} Hz", string.key, string.rate_hz);

        let cents = 1200.0 * libm::log2(tracks.fundamental_hz / string.fundamental_hz());
        assert!(cents.abs() < 0.5, "{name}: {cents} cents off");
        let off = (tracks.inharmonicity - string.inharmonicity).abs();
        assert!(off <= (0.05 * string.inharmonicity).max(1e-6), "{name}: B {off} off");
        assert!(tracks.onset_frame.abs_diff(600) <= string.rate_hz as usize / 500, "{name}");

        // While the window still reaches over the onset the neighbours are not quite silenced.
        let ms = string.rate_hz as usize / 1000;
        for (from_ms, to_ms, tolerance) in [(0, 40, 0.5), (40, 1000, 0.01)] {
            for k in string.partials() {
                let worst = (600 + from_ms * ms..600 + to_ms * ms)
                    .step_by(17)
                    .map(|n| {
                        turns_apart(tracks.phase_turns(k, n as f64).into(), string.turns(k, n))
                    })
                    .fold(0.0, f64::max)
                    * TAU;
                assert!(worst < tolerance, "{name}: partial {k}: {worst} radians off");
            }
        }
        let model = string.sound(|k, frame| tracks.phase_turns(k, frame as f64).into());
        let share = share_explained(&samples, &model);
        assert!(share > 0.99, "{name}: only {share} of the energy explained");
    }
}

#[test]
fn absent_partials_are_said_to_be_absent() {
    let string = &strings()[6];
    let tracks = analyse(&string.samples(), string.rate_hz, string.key, 16).unwrap();
    let present = string.partials().count();
    assert!(present < 16);
    for partial in 0..20 {
        assert_eq!(tracks.present(partial), (1..=present).contains(&partial));
        let audible =
            partial > 0 && tracks.level_db.get(partial - 1).is_some_and(|db| db.is_finite());
        assert_eq!(tracks.present(partial), audible);
    }
    assert_eq!(tracks.phase_turns(present + 1, 1000.0), 0.0);
    assert_eq!(tracks.start_phases().len(), 16);
}

/// Outside of the note a partial turns steadily: no jump at the onset, none at the end.
#[test]
fn phases_go_on_steadily_before_and_after_the_recording() {
    let string = &strings()[3];
    let samples = string.samples();
    let tracks = analyse(&samples, string.rate_hz, string.key, 16).unwrap();
    let turns = |frame: f64| f64::from(tracks.phase_turns(2, frame));
    let per_frame = tracks.partial_hz(2) / tracks.rate_hz;
    let last = samples.len() as f64;
    for (from, to) in [(-100.5, 0.0), (0.0, 599.0), (last + 500.0, last + 900.0)] {
        assert!(turns_apart(turns(to), turns(from) + per_frame * (to - from)) < 1e-4);
    }
    assert_eq!(tracks.start_phases()[1], tracks.phase_turns(2, tracks.onset_frame as f64));
}

/// Two strings of one note, 4 cents apart, beat: the louder one gives the pitch.
#[test]
fn a_beating_unison_is_followed() {
    let mut string = strings().swap_remove(3);
    let loud = string.samples();
    string.cents += 4.0;
    let soft = string.samples();
    let samples: Vec<f32> = loud.iter().zip(&soft).map(|(a, b)| a + 0.6 * b).collect();
    let tracks = analyse(&samples, string.rate_hz, string.key, 16).unwrap();
    string.cents -= 4.0;
    let cents = 1200.0 * libm::log2(tracks.fundamental_hz / string.fundamental_hz());
    assert!((-0.5..2.5).contains(&cents), "{cents} cents from the louder string");
}

#[test]
fn what_has_no_pitch_is_refused() {
    let refused = |samples: &[f32], key: u8, reason: &str| {
        let error = analyse(samples, 16_000, key, 16).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    };
    let mut state = 1_u32;
    let noise: Vec<f32> = (0..32_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    for key in [36, 60, 84] {
        refused(&noise, key, "no partial");
    }
    refused(&[], 60, "silent");
    refused(&[0.0; 16_000], 60, "silent");
    refused(&[0.5; 100], 60, "ends within 100 ms");
    refused(&[f32::NAN; 16_000], 60, "not sound");
    refused(&noise, 120, "raise the sample rate");
    assert!(analyse(&noise, 16_000, 60, 0).is_err());
    assert!(analyse(&noise, 16_000, 60, usize::MAX).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the samples: an error, or tracks without a NaN.
    #[test]
    fn any_samples_give_an_error_or_finite_tracks(
        wave in proptest::collection::vec(-1e6f32..1e6, 1..40),
        frames in 0..6000usize,
        rate_hz in 1000..16_000u32,
        key: u8,
        frame: f64,
    ) {
        let samples: Vec<f32> = wave.iter().copied().cycle().take(frames).collect();
        let _ = other_key(&samples, rate_hz, key);
        if let Ok(tracks) = analyse(&samples, rate_hz, key, 20) {
            prop_assert!(tracks.fundamental_hz.is_finite() && tracks.fundamental_hz > 0.0);
            prop_assert!(tracks.inharmonicity.is_finite() && tracks.inharmonicity >= 0.0);
            prop_assert!(tracks.deviation.iter().flatten().all(|x| x.is_finite()));
            for partial in 0..22 {
                prop_assert!((0.0..1.0).contains(&tracks.phase_turns(partial, frame)));
            }
        }
    }
}

/// Demodulates partial k by its tracked phase, low-passes over 50 ms, keeps the real part and
/// plays it back: what is left over is neither this partial nor in phase with it.
fn replayed(samples: &[f32], tracks: &PartialTracks, partial: usize) -> Vec<f32> {
    let cosine: Vec<f64> = (0..samples.len())
        .map(|n| libm::cos(TAU * f64::from(tracks.phase_turns(partial, n as f64))))
        .collect();
    let window = tracks.rate_hz as usize / 20;
    let weight: Vec<f64> = (0..window)
        .map(|n| 0.5 - 0.5 * libm::cos(TAU * (n as f64 + 0.5) / window as f64))
        .collect();
    let amplitude = |centre: usize| {
        let from = centre.saturating_sub(window / 2);
        let (mut sum, mut weights) = (0.0, 0.0);
        for n in from..(centre + window / 2).min(samples.len()) {
            let w = weight[n + window / 2 - centre];
            sum += w * f64::from(samples[n]) * cosine[n];
            weights += w;
        }
        2.0 * sum / weights
    };
    let hop = tracks.hop_frames;
    let grid: Vec<f64> =
        (0..samples.len() / hop).map(|hop_index| amplitude(hop_index * hop)).collect();
    (0..(grid.len() - 1) * hop)
        .map(|n| {
            let share = (n % hop) as f64 / hop as f64;
            let amplitude = grid[n / hop] * (1.0 - share) + grid[n / hop + 1] * share;
            (amplitude * cosine[n]) as f32
        })
        .collect()
}

/// Pitch, inharmonicity and tracks of a few piano notes, as measured once over all keys.
#[test]
fn a_real_piano_is_explained_by_its_partials() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/piano-kw");
    if !folder.exists() {
        eprintln!("skipped: the piano recordings are not at ../shared/data/piano-kw");
        return;
    }
    let notes = [
        ("C2vL", 36, -28.0, 2.3e-4),
        ("A3vH", 57, -4.5, 2.5e-4),
        ("A4vH", 69, -3.0, 4.8e-4),
        ("C6vH", 84, -5.5, 2.1e-3),
    ];
    for (name, key, cents, inharmonicity) in notes {
        let recording = read_recording(&folder.join(name).with_extension("flac"), 16_000).unwrap();
        let second = &recording.samples[..16_000];
        let tracks = analyse(second, 16_000, key, 16).unwrap();
        let nominal_hz = 440.0 * libm::exp2((f64::from(key) - 69.0) / 12.0);
        let found = 1200.0 * libm::log2(tracks.fundamental_hz / nominal_hz);
        assert!((found - cents).abs() < 1.5, "{name}: {found} cents from equal temperament");
        let off = tracks.inharmonicity / inharmonicity - 1.0;
        assert!(off.abs() < 0.08, "{name}: B {}", tracks.inharmonicity);

        let mut model = vec![0.0; second.len()];
        for partial in (1..=16).filter(|&partial| tracks.present(partial)) {
            for (sum, x) in model.iter_mut().zip(replayed(second, &tracks, partial)) {
                *sum += x;
            }
        }
        let after_attack = tracks.onset_frame + 800..15_500;
        let share = share_explained(&second[after_attack.clone()], &model[after_attack]);
        assert!(share > 0.95, "{name}: only {share} of the energy explained");
    }
}

/// A sine rounded to 16 bits has tones of its own far below; they do not count.
#[test]
fn a_pure_sine_is_a_note() {
    for (key, hz) in [(69, 440.0), (57, 220.0), (60, 261.6256), (81, 880.0)] {
        let samples: Vec<f32> = (0..16_000)
            .map(|n| libm::sin(TAU * hz * f64::from(n) / 16_000.0))
            .map(|x| ((x * 0.7 * 32_767.0).round() / 32_768.0) as f32)
            .collect();
        let tracks = analyse(&samples, 16_000, key, 16).unwrap();
        let cents = 1200.0 * libm::log2(tracks.fundamental_hz / hz);
        assert!(cents.abs() < 0.5, "{hz}: {cents}");
    }
}
