//! Real beside generated: which recordings to compare a model's sound with, and whether what it plays
//! is nothing, or nothing but noise.
//!
//! The spectral flatness of a sound is the geometric mean of its power spectrum over the arithmetic
//! mean: near 1 for white noise, near 0 where a few frequencies hold the energy.

use anyhow::Result;
use realfft::RealFftPlanner;
use wavenet_engine::{Config, Recipe, Told};

use crate::clip::{Clip, Wanted};
use crate::corpus::notes::key_name;
use crate::material::DEFAULT_VELOCITY;
use crate::prepared::{Entry, Prepared, Split};

/// The longest clip.
const MAX_S: f64 = 3.0;
/// Pairs at most.
const MAX_PAIRS: usize = 3;

/// Softer than this is silence, and at least this much louder is sound.
const SILENT_DB: f64 = -60.0;
const HEARD_DB: f64 = -50.0;
/// Flatter than this, and so many times flatter than the recording, is noise.
const NOISE_FLATNESS: f64 = 0.1;
const NOISE_FACTOR: f64 = 10.0;
/// Samples of a spectrum.
const WINDOW: usize = 1024;

/// A recording, and what the model shall play to be compared with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// What both should be: a note, a class.
    pub title: String,
    /// The recording's name.
    pub name: String,
    /// The recording, as the model hears it.
    pub real: Clip,
    /// What to play.
    pub wanted: Wanted,
}

/// What is wrong with a sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// There is none.
    Silent,
    /// It has no pitch and no shape where recordings have.
    Noise,
}

/// Up to three recordings to compare with, of the validation part where there is one: of notes the
/// lowest, the middle and the highest, of classes one each.
///
/// # Errors
/// The disk failed.
pub fn examples(prepared: &Prepared, config: &Config) -> Result<Vec<Example>> {
    let entries = prepared.entries();
    let of_split = |split| {
        let entries = entries.iter().enumerate();
        entries.filter(move |(_, entry)| entry.split == split).collect::<Vec<_>>()
    };
    let mut candidates = of_split(Split::Valid);
    candidates.extend(of_split(Split::Train));
    let has_notes = config.conditioning != Recipe::None;
    if has_notes {
        candidates.retain(|(_, entry)| entry.key.is_some());
        let valid = candidates.iter().filter(|(_, entry)| entry.split == Split::Valid).count();
        // Three recordings that it was not trained on are enough to compare with.
        candidates.truncate(if valid >= MAX_PAIRS { valid } else { usize::MAX });
        candidates.sort_by_key(|(_, entry)| entry.key);
        candidates.dedup_by_key(|(_, entry)| entry.key);
        if let [first, .., last] = candidates[..] {
            let middle = candidates[candidates.len() / 2];
            candidates = vec![first, middle, last];
            candidates.dedup_by_key(|(index, _)| *index);
        }
    } else if !config.classes.is_empty() {
        let mut seen = Vec::new();
        candidates.retain(|(_, entry)| {
            let is_new = !seen.contains(&entry.label);
            seen.push(entry.label.clone());
            is_new
        });
    } else {
        // The longest tell most; of one kind two are enough.
        candidates.sort_by_key(|(_, entry)| (entry.split == Split::Train, u64::MAX - entry.frames));
        candidates.truncate(2);
    }
    candidates.truncate(MAX_PAIRS);

    let max_frames = (MAX_S * f64::from(config.sample_rate_hz)) as usize;
    let example = |(place, (index, entry)): (usize, (usize, &Entry))| -> Result<Example> {
        let says_all = config.conditioning.told() != Told::Partials;
        let levels = says_all.then_some(config.levels);
        let real = Clip::of_entry(prepared, index, max_frames, levels)?;
        let label = entry.label.as_deref().filter(|_| !config.classes.is_empty());
        let note = entry.key.filter(|_| has_notes);
        let title = match (note.map(key_name), label) {
            (Some(note), Some(label)) => format!("{note}, {label}"),
            (Some(word), None) => word,
            (None, Some(word)) => word.to_owned(),
            (None, None) => format!("take {}", place + 1),
        };
        let wanted = Wanted {
            note: note.map(|key| (key, entry.velocity.unwrap_or(DEFAULT_VELOCITY))),
            class: label.map_or(Ok(0), |label| config.class_index(label))?,
            seed: place as u64 + 1,
            // A short recording says little of what the model makes of it.
            frames: if note.is_some() { real.samples.len() } else { max_frames },
        };
        Ok(Example { title, name: entry.name.clone(), real, wanted })
    };
    candidates.into_iter().enumerate().map(example).collect()
}

/// What is wrong with a sound beside recordings; `None` where it is like them.
pub fn flaw(played: &Clip, real: &[&Clip]) -> Option<Flaw> {
    let loudest = real.iter().map(|clip| sustained_db(clip)).fold(f64::MIN, f64::max);
    if sustained_db(played) < SILENT_DB {
        return (loudest > HEARD_DB).then_some(Flaw::Silent);
    }
    let flattest = real.iter().map(|clip| flatness(&clip.samples)).fold(0.0, f64::max);
    let own = flatness(&played.samples);
    (own > NOISE_FLATNESS && own > NOISE_FACTOR * flattest).then_some(Flaw::Noise)
}

/// Root mean square, in dB below full scale.
pub fn level_db(samples: &[f32]) -> f64 {
    let power: f64 = samples.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    10.0 * libm::log10((power / samples.len().max(1) as f64).max(1e-20))
}

/// The level that is exceeded for a tenth of the time: a stray click makes no sound of silence.
fn sustained_db(clip: &Clip) -> f64 {
    let frame = (clip.rate_hz / 20).max(1) as usize;
    let mut levels: Vec<f64> = clip.samples.chunks(frame).map(level_db).collect();
    levels.sort_by(f64::total_cmp);
    let place = levels.len() * 9 / 10;
    levels.get(place).copied().unwrap_or(f64::MIN)
}

/// Spectral flatness, 0 to 1; 1 for nothing at all.
pub fn flatness(samples: &[f32]) -> f64 {
    let fft = RealFftPlanner::<f32>::new().plan_fft_forward(WINDOW);
    let (mut input, mut spectrum) = (fft.make_input_vec(), fft.make_output_vec());
    let mut power = vec![0.0_f64; spectrum.len()];
    let mut samples = samples.to_vec();
    samples.resize(samples.len().max(WINDOW), 0.0);
    for frame in samples.windows(WINDOW).step_by(WINDOW / 2) {
        for (at, (input, sample)) in input.iter_mut().zip(frame).enumerate() {
            let phase = std::f64::consts::TAU * (at as f64 + 0.5) / WINDOW as f64;
            *input = sample * (0.5 - 0.5 * libm::cos(phase)) as f32;
        }
        let done = fft.process(&mut input, &mut spectrum);
        debug_assert!(done.is_ok(), "the buffers are the plan's own");
        for (power, bin) in power.iter_mut().zip(&spectrum) {
            *power += f64::from(bin.norm_sqr());
        }
    }
    // Direct current is no sound.
    let power = &power[2..];
    let mean = power.iter().sum::<f64>() / power.len() as f64;
    let logs = power.iter().map(|power| libm::log(power.max(1e-20))).sum::<f64>();
    if mean > 1e-18 { (libm::exp(logs / power.len() as f64) / mean).min(1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wavenet_engine::Philox;

    fn clip(samples: Vec<f32>) -> Clip {
        Clip { samples, rate_hz: 16_000 }
    }

    fn noise(frames: u64) -> Vec<f32> {
        let draws = Philox::new(1, 2);
        (0..frames).map(|at| draws.draw(at) as f32 / u32::MAX as f32 - 0.5).collect()
    }

    fn sine(amplitude: f32) -> Vec<f32> {
        (0..16_000).map(|at| amplitude * libm::sinf(0.2 * at as f32)).collect()
    }

    #[test]
    fn level_and_flatness_are_those_of_the_books() {
        assert!((level_db(&sine(1.0)) + 3.01).abs() < 0.02);
        assert_eq!(level_db(&[]), -200.0);
        assert!(flatness(&noise(16_000)) > 0.9);
        assert!(flatness(&sine(0.5)) < 1e-4);
        assert_eq!(flatness(&[0.0; 10]), 1.0);
    }

    #[test]
    fn silence_and_noise_are_flaws_only_where_recordings_are_neither() {
        let (sine, noise) = (clip(sine(0.5)), clip(noise(16_000)));
        let mut silence = clip(vec![1e-4; 16_000]);
        silence.samples[7_000] = 1.0;
        assert_eq!(flaw(&noise, &[&sine]), Some(Flaw::Noise));
        assert_eq!(flaw(&silence, &[&sine]), Some(Flaw::Silent));
        assert_eq!(flaw(&sine, &[&sine]), None);
        assert_eq!(flaw(&noise, &[&sine, &noise]), None);
        assert_eq!(flaw(&silence, &[&silence]), None);
        assert_eq!(flaw(&silence, &[]), None);
    }
}
