//! What the network is trained and measured on: clips cut into [`Segment`]s.
//!
//! Without notes a clip is an entry of the prepared corpus, read from disk where it is needed. With
//! notes each recording is analysed once into the phases of its partials ([`crate::partials`]), kept
//! in memory, and copied at other pitches by resampling, its phases with it: keys between the
//! recorded ones are heard that way.
//!
//! Every clip is preceded by silence: a receptive field of the code of 0.0 with an all-zero
//! conditioning vector. A segment is a receptive field of warm-up, then the samples that count; at a
//! clip's beginning the warm-up is that silence, so attacks are learned.

mod notes;

use anyhow::{Context, Result, ensure};
use wavenet_engine::conditioning::NoteConditioner;
use wavenet_engine::{Config, MuLaw, Philox};

use crate::network::Segment;
use crate::prepared::{Prepared, Split};

use notes::NoteClip;
pub use notes::Notes;

/// One clip.
#[derive(Debug)]
struct Clip {
    /// Place in the prepared corpus.
    entry: usize,
    frames: u64,
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
    /// Training clips: place in `clips`, and the sum of frames up to and with each.
    train: Vec<(usize, u64)>,
}

/// A stretch of a clip that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    clip: usize,
    start: u64,
    frames: usize,
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
        for (index, entry) in prepared.entries().iter().enumerate() {
            let class = match &entry.label {
                Some(label) if !config.classes.is_empty() => config.class_index(label)?,
                _ => 0,
            };
            let clip =
                |frames, note| Clip { entry: index, frames, class, split: entry.split, note };
            if conditioner.is_none() {
                clips.push(clip(entry.frames, None));
                continue;
            }
            let notes = notes.context("a model of notes needs their analysis")?;
            let shifts = if entry.split == Split::Train { shifts } else { &[0] };
            for note in notes.clips(&prepared, index, shifts)? {
                clips.push(clip(note.frames() as u64, Some(note)));
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
        Ok(Self { prepared, config: config.clone(), mulaw, conditioner, clips, train })
    }

    /// The corpus.
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
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
        let available = self.clips[clip].frames;
        // The drawn frame is the middle; pushed inside, so a clip's ends are heard about as often.
        let middle = place - (sum - available);
        let frames = (frames as u64).min(available);
        let start = middle.saturating_sub(frames / 2).min(available - frames);
        Ok(Stretch { clip, start, frames: frames as usize })
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
        // Rows from `sound_from` on lie inside the clip; those before are the leading silence.
        let sound_from = (warmup as u64).saturating_sub(stretch.start) as usize;
        let first = stretch.start.saturating_sub(warmup as u64);
        // One sample more, to know the input of the first row.
        let before = u64::from(first > 0);
        let mut samples = vec![0.0; rows - sound_from + before as usize];
        match &clip.note {
            Some(note) => note.read(first - before, &mut samples),
            None => self.prepared.read(clip.entry, first - before, &mut samples)?,
        }
        let silence = self.mulaw.silence();
        let codes = samples.iter().map(|&sample| self.mulaw.encode(sample));
        segment.targets.clear();
        segment.targets.resize(sound_from, silence);
        let mut codes = codes;
        let ahead = if before > 0 { codes.next() } else { None };
        segment.targets.extend(codes);
        segment.inputs.clear();
        segment.inputs.push(ahead.unwrap_or(silence));
        segment.inputs.extend(&segment.targets[..rows - 1]);
        segment.class = clip.class;
        segment.sound_from = sound_from;
        segment.counted_from = warmup;

        let channels = self.config.local_channels();
        segment.local.clear();
        segment.local.resize(rows * channels, 0.0);
        if let (Some(conditioner), Some(note)) = (&self.conditioner, &clip.note) {
            let rows = segment.local.chunks_exact_mut(channels).skip(sound_from);
            for (index, out) in (first..).zip(rows) {
                note.condition(conditioner, index, out);
            }
        }
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

#[cfg(test)]
mod tests;
