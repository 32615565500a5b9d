//! What the network is trained and measured on: clips cut into [`Segment`]s.
//!
//! Without notes a clip is an entry of the prepared corpus, read from disk where it is needed. With
//! notes each recording is analysed once into the phases of its partials ([`crate::partials`]), kept
//! in memory, and copied at other pitches by resampling into a file, its phases with it: keys between
//! the recorded ones are heard that way.
//!
//! Every clip is preceded by silence: a receptive field of the code of 0.0 with an all-zero
//! conditioning vector. A segment is a receptive field of warm-up, then the samples that count; at a
//! clip's beginning the warm-up is that silence, so attacks are learned. A clip that goes on where
//! another entry of its file ends (one file is divided into a part to train on and one to validate
//! on) has that as its past instead.

mod found;
mod layers;
mod levels;
mod notes;
mod prefetch;
mod store;

use anyhow::{Context, Result, ensure};
use wavenet_engine::conditioning::NoteConditioner;
use wavenet_engine::{Config, MuLaw, Philox};

use crate::augmentation::{Change, REACH, read_between};
use crate::network::Segment;
use crate::prepared::{Prepared, Split};
use crate::settings::Augmentation;

pub(crate) use notes::DEFAULT_VELOCITY;
use notes::NoteClip;
pub use notes::{Analysed, Notes};
pub use prefetch::{Make, Prefetch};
use store::{Store, StoreWriter};

/// One clip.
#[derive(Debug)]
struct Clip {
    /// Place in the prepared corpus.
    entry: usize,
    /// Frames that count; before them lie `past` frames of the same file, which only warm up.
    frames: u64,
    past: u64,
    class: usize,
    split: Split,
    note: Option<NoteClip>,
}

/// A corpus seen through the eyes of one model.
#[derive(Debug)]
pub struct Material {
    prepared: Prepared,
    config: Config,
    mulaw: MuLaw,
    conditioner: Option<NoteConditioner>,
    clips: Vec<Clip>,
    /// The samples of all notes.
    store: Option<Store>,
    /// Training clips: place in `clips`, and the sum of frames up to and with each.
    train: Vec<(usize, u64)>,
    augmentation: Augmentation,
}

/// A stretch of a clip that counts, in frames as they are heard after the change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    clip: usize,
    start: u64,
    frames: usize,
    change: Change,
}

impl Material {
    /// Prepares the clips of a corpus for a model. A model of notes takes their analysis; `shifts`
    /// lists the pitch shifts in semitones of its training clips (0 = as recorded).
    ///
    /// # Errors
    /// A label that the model does not know, a model of notes without their analysis, or a disk
    /// that fails.
    pub fn new(
        prepared: Prepared,
        config: &Config,
        notes: Option<&Notes>,
        shifts: &[i32],
    ) -> Result<Self> {
        let conditioner = NoteConditioner::new(config);
        let mut clips = Vec::new();
        let mut store = None;
        for (index, entry) in prepared.entries().iter().enumerate() {
            let class = match &entry.label {
                Some(label) if !config.classes.is_empty() => config.class_index(label)?,
                _ => 0,
            };
            let split = entry.split;
            let clip = |frames, past, note| Clip { entry: index, frames, past, class, split, note };
            // One more than the receptive field, to know the input of the first row.
            let past = (config.receptive_field() as u64 + 1).min(frames_before(&prepared, index));
            if conditioner.is_none() {
                clips.push(clip(entry.frames, past, None));
                continue;
            }
            let store = match &mut store {
                Some(store) => store,
                None => store.insert(StoreWriter::create(prepared.folder())?),
            };
            let notes = notes.context("a model of notes needs their analysis")?;
            let shifts = if entry.split == Split::Train { shifts } else { &[0] };
            for note in notes.clips(&prepared, index, shifts, past as usize, store)? {
                clips.push(clip(note.frames() as u64, note.past() as u64, Some(note)));
            }
        }
        let mut sum = 0;
        let train = clips.iter().enumerate().filter(|(_, clip)| clip.split == Split::Train);
        let train: Vec<(usize, u64)> = train
            .map(|(index, clip)| {
                sum += clip.frames;
                (index, sum)
            })
            .collect();
        let mulaw = MuLaw::new(config.levels);
        let store = store.map(StoreWriter::finish).transpose()?;
        let (config, augmentation) = (config.clone(), Augmentation::default());
        Ok(Self { prepared, config, mulaw, conditioner, clips, store, train, augmentation })
    }

    /// The same, training on changed copies.
    pub fn augmented(self, augmentation: Augmentation) -> Self {
        Self { augmentation, ..self }
    }

    /// What tells these recordings, prepared in this way, from others.
    pub fn fingerprint(&self) -> &str {
        &self.prepared.index().fingerprint
    }

    /// The corpus.
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// What was measured on each recorded note, as it was recorded.
    pub fn notes(&self) -> impl Iterator<Item = Analysed<'_>> {
        self.clips.iter().filter_map(|clip| clip.note.as_ref()?.analysed(clip.class))
    }

    /// Frames of the training clips.
    pub fn train_frames(&self) -> u64 {
        self.train.last().map_or(0, |(_, sum)| *sum)
    }

    /// The stretch numbered `index` of a training run: a place drawn uniformly from all training
    /// frames, a pure function of the seed and the number.
    ///
    /// # Errors
    /// There is nothing to train on.
    pub fn train_stretch(&self, seed: u64, index: u64, frames: usize) -> Result<Stretch> {
        let total = self.train_frames();
        ensure!(total > 0, "there is nothing to train on");
        let draws = Philox::new(seed, 0x7472_6169_6e00);
        let draw = u64::from(draws.draw(2 * index)) << 32 | u64::from(draws.draw(2 * index + 1));
        let place = ((u128::from(draw) * u128::from(total)) >> 64) as u64;
        let (clip, sum) = self.train[self.train.partition_point(|(_, sum)| *sum <= place)];
        let mut change = Change::draw(&self.augmentation, seed, index);
        if self.clips[clip].note.is_some() {
            // Notes have `shifts`, as their partials' phases must follow.
            change.speed = 1.0;
        }
        let heard = |frames: u64| (frames as f64 / change.speed) as u64;
        let available = heard(self.clips[clip].frames).max(1);
        // The drawn frame is the middle; pushed inside, so a clip's ends are heard about as often.
        let middle = heard(place - (sum - self.clips[clip].frames));
        let frames = (frames as u64).min(available);
        let start = middle.saturating_sub(frames / 2).min(available - frames);
        Ok(Stretch { clip, start, frames: frames as usize, change })
    }

    /// Stretches of at most `frames` that cover one part of the corpus (`None`: all of it), thinned
    /// out evenly to at most `limit` counted frames.
    pub fn cover(&self, split: Option<Split>, frames: usize, limit: u64) -> Vec<Stretch> {
        let clips = self.clips.iter().enumerate();
        let clips = clips.filter(|(_, clip)| split.is_none_or(|split| clip.split == split));
        let all: Vec<Stretch> = clips
            .flat_map(|(index, clip)| {
                (0..clip.frames).step_by(frames).map(move |start| Stretch {
                    clip: index,
                    start,
                    frames: (clip.frames - start).min(frames as u64) as usize,
                    change: Change::NONE,
                })
            })
            .collect();
        let total: u64 = all.iter().map(|stretch| stretch.frames as u64).sum();
        let step = total.div_ceil(limit.max(1)).max(1) as usize;
        all.into_iter().step_by(step).collect()
    }

    /// Fills a segment: a receptive field of warm-up, then the stretch.
    ///
    /// # Errors
    /// The disk failed.
    pub fn fill(&self, stretch: Stretch, segment: &mut Segment) -> Result<()> {
        let clip = self.clips.get(stretch.clip).context("a stretch of another corpus")?;
        let warmup = self.config.receptive_field();
        let rows = warmup + stretch.frames;
        let Change { speed, is_flipped, .. } = stretch.change;
        // From here on frames are counted from the beginning of the clip's past.
        let start = stretch.start + (clip.past as f64 / speed) as u64;
        // Rows from `sound_from` on lie inside the clip; those before are the leading silence.
        let sound_from = (warmup as u64).saturating_sub(start) as usize;
        let first = start.saturating_sub(warmup as u64);
        // One sample more, to know the input of the first row.
        let before = u64::from(first > 0);
        let mut samples = vec![0.0; rows - sound_from + before as usize];
        if speed == 1.0 {
            self.read(clip, first - before, &mut samples)?;
        } else {
            self.read_at_speed(clip, first - before, speed, &mut samples)?;
        }
        let channels = self.config.local_channels();
        segment.local.clear();
        segment.local.resize((rows + before as usize) * channels, 0.0);
        if let (Some(conditioner), Some(note)) = (&self.conditioner, &clip.note) {
            let local = &mut segment.local[sound_from * channels..];
            let mut partials = vec![0.0; samples.len()];
            note.condition(conditioner, first - before, is_flipped, channels, local, &mut partials);
            // The partials are told as they sound after the change.
            let sign = if is_flipped { -1.0 } else { 1.0 };
            for (sample, partials) in samples.iter_mut().zip(&partials) {
                *sample -= sign * partials;
            }
        }
        // The sample before the first row had a vector too, which nobody hears.
        segment.local.drain(..before as usize * channels);
        stretch.change.apply(&mut samples);
        let silence = self.mulaw.silence();
        let encode = |samples: &[f32], codes: &mut Vec<u8>| {
            codes.extend(samples.iter().map(|&sample| self.mulaw.encode(sample)));
        };
        segment.targets.clear();
        segment.targets.resize(sound_from, silence);
        encode(&samples[before as usize..], &mut segment.targets);
        segment.inputs.clear();
        if let Some(noise) = stretch.change.noise {
            noise.lay_under(&mut samples);
        }
        // The past of every row; that of the first row of all is silence.
        segment.inputs.resize(sound_from + 1 - before as usize, silence);
        encode(&samples[..samples.len() - 1], &mut segment.inputs);
        segment.class = clip.class;
        segment.sound_from = sound_from;
        segment.counted_from = warmup;
        Ok(())
    }

    /// Reads a clip from a frame on, counted from the beginning of its past.
    fn read(&self, clip: &Clip, start: u64, out: &mut [f32]) -> Result<()> {
        if let (Some(note), Some(store)) = (&clip.note, &self.store) {
            return note.read(store, start, out);
        }
        let of_past = (clip.past.saturating_sub(start) as usize).min(out.len());
        let (past, own) = out.split_at_mut(of_past);
        if let Some(before) = clip.entry.checked_sub(1)
            && !past.is_empty()
        {
            let from = self.prepared.entries()[before].frames - clip.past + start;
            self.prepared.read(before, from, past)?;
        }
        self.prepared.read(clip.entry, start.saturating_sub(clip.past), own)
    }

    /// The same, faster or slower, from a frame on that is counted as it is heard.
    fn read_at_speed(&self, clip: &Clip, start: u64, speed: f64, out: &mut [f32]) -> Result<()> {
        // What the past loses by rounding to frames that are heard.
        let lost = clip.past as f64 - (clip.past as f64 / speed).floor() * speed;
        let place = lost + start as f64 * speed;
        let from = (place as u64).saturating_sub(REACH as u64);
        let to = (place + out.len() as f64 * speed) as u64 + REACH as u64 + 1;
        let to = to.min(clip.past + clip.frames);
        let mut samples = vec![0.0; to.saturating_sub(from) as usize];
        self.read(clip, from, &mut samples)?;
        read_between(&samples, place - from as f64, speed, out);
        Ok(())
    }

    /// Entropy in bits of the codes of some stretches: what a model that knows only how often each
    /// code occurs would reach.
    ///
    /// # Errors
    /// The disk failed.
    pub fn unigram_bits(&self, stretches: &[Stretch]) -> Result<f64> {
        let mut counts = vec![0_u64; self.config.levels];
        let mut segment = Segment::default();
        for &stretch in stretches {
            self.fill(stretch, &mut segment)?;
            for &code in &segment.targets[segment.counted_from..] {
                counts[usize::from(code)] += 1;
            }
        }
        let total = counts.iter().sum::<u64>().max(1) as f64;
        let shares = counts.iter().filter(|&&count| count > 0).map(|&count| count as f64 / total);
        Ok(shares.map(|share| -share * libm::log2(share)).sum())
    }
}

/// Frames of the same file that lie before an entry: those of the entry ahead, where one file is
/// divided.
fn frames_before(prepared: &Prepared, index: usize) -> u64 {
    let entries = prepared.entries();
    let before = index.checked_sub(1).and_then(|before| entries.get(before));
    before.filter(|before| before.name == entries[index].name).map_or(0, |before| before.frames)
}

#[cfg(test)]
mod tests;
