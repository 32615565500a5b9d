//! A few seconds of sound: what a model plays, or a recording as such a model could play it.

use std::io::Cursor;

use anyhow::{Context, Result};
use hound::{SampleFormat, WavSpec, WavWriter};
use wavenet_engine::synth::{Event, EventKind, Settings, Synth};
use wavenet_engine::{Dtype, Isa, MuLaw, Packed, Recipe, Sampling, Weights};

use crate::prepared::Prepared;

/// A recording's sound begins with its first sample above this (-50 dB), and so much before it.
const AUDIBLE: f32 = 3e-3;
const LEAD_MS: u64 = 20;
/// Frames that are searched at a time.
const PART_FRAMES: u64 = 1 << 16;

/// Mono samples in [-1, 1].
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// The samples.
    pub samples: Vec<f32>,
    /// Their rate.
    pub rate_hz: u32,
}

/// What a model shall play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// MIDI key and velocity, for a model of notes; others go on from silence by themselves.
    pub note: Option<(u8, u8)>,
    /// Index of the class, for a model that has classes.
    pub class: usize,
    /// Decides every draw.
    pub seed: u64,
    /// How long.
    pub frames: usize,
}

impl Clip {
    /// What a model plays, as a player with 32-bit weights would.
    ///
    /// # Errors
    /// The class is none of the model's.
    pub fn play(weights: &Weights, wanted: &Wanted) -> Result<Self> {
        let config = weights.config();
        let packed = Packed::new(weights, Dtype::F32, Isa::Auto)?;
        let settings = Settings {
            sampling: Sampling { temperature: config.default_temperature(), ..Sampling::default() },
            seed: wanted.seed,
            class: wanted.class,
            voices: 1,
            ..Settings::default()
        };
        let kind = match (&config.conditioning, wanted.note) {
            (Recipe::Note(_), Some((key, velocity))) => {
                EventKind::NoteOn { channel: 0, key, velocity }
            }
            _ => EventKind::Drone,
        };
        let mut synth = Synth::new(packed, settings)?;
        let mut samples = vec![0.0; wanted.frames];
        synth.render(&[Event { frame: 0, kind }], &mut samples);
        samples.iter_mut().for_each(|sample| *sample = sample.clamp(-1.0, 1.0));
        Ok(Self { samples, rate_hz: config.sample_rate_hz })
    }

    /// An entry of a corpus from its first sound on, rounded to the `levels` of a model that says all of it.
    ///
    /// # Errors
    /// There is no such entry, or the disk failed.
    pub fn of_entry(
        prepared: &Prepared,
        index: usize,
        max_frames: usize,
        levels: Option<usize>,
    ) -> Result<Self> {
        let entry = prepared.entries().get(index).context("there is no such recording")?;
        let max_frames = entry.frames.min(max_frames as u64) as usize;
        let start = first_sound(prepared, index, entry.frames)?;
        let mut samples = vec![0.0; (entry.frames - start).min(max_frames as u64) as usize];
        prepared.read(index, start, &mut samples)?;
        if let Some(mulaw) = levels.map(MuLaw::new) {
            samples.iter_mut().for_each(|sample| *sample = mulaw.decode(mulaw.encode(*sample)));
        }
        Ok(Self { samples, rate_hz: prepared.rate_hz() })
    }

    /// The bytes of a WAV file of 16 bits.
    ///
    /// # Errors
    /// It is too long for one.
    pub fn wav(&self) -> Result<Vec<u8>> {
        let spec = WavSpec {
            channels: 1,
            sample_rate: self.rate_hz,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let mut bytes = Cursor::new(Vec::with_capacity(2 * self.samples.len() + 44));
        let mut writer = WavWriter::new(&mut bytes, spec)?;
        for sample in &self.samples {
            writer.write_sample((sample.clamp(-1.0, 1.0) * 32_767.0).round() as i16)?;
        }
        writer.finalize()?;
        Ok(bytes.into_inner())
    }
}

/// The frame of an entry at which its first sound is about to begin; 0 where there is none.
fn first_sound(prepared: &Prepared, index: usize, frames: u64) -> Result<u64> {
    // Part by part: a long recording need not fit into memory.
    let mut part = vec![0.0; frames.min(PART_FRAMES) as usize];
    for start in (0..frames).step_by(PART_FRAMES as usize) {
        let part = &mut part[..(frames - start).min(PART_FRAMES) as usize];
        prepared.read(index, start, part)?;
        if let Some(heard) = part.iter().position(|sample| sample.abs() > AUDIBLE) {
            let lead_frames = LEAD_MS * u64::from(prepared.rate_hz()) / 1000;
            return Ok((start + heard as u64).saturating_sub(lead_frames));
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::default_model;

    #[test]
    fn a_model_plays_and_the_wav_holds_it() {
        let weights = Weights::random(default_model(), 3).unwrap();
        let wanted = Wanted { note: Some((60, 100)), class: 0, seed: 1, frames: 2_000 };
        let clip = Clip::play(&weights, &wanted).unwrap();
        assert_eq!(clip.samples.len(), 2_000);
        assert!(clip == Clip::play(&weights, &wanted).unwrap());
        assert!(clip != Clip::play(&weights, &Wanted { seed: 2, ..wanted }).unwrap());
        let mut reader = hound::WavReader::new(Cursor::new(clip.wav().unwrap())).unwrap();
        assert_eq!(reader.spec().sample_rate, clip.rate_hz);
        for (sample, code) in clip.samples.iter().zip(reader.samples::<i16>()) {
            assert!((sample * 32_767.0 - f32::from(code.unwrap())).abs() <= 0.5);
        }
    }
}
