//! The prepared corpus: a folder that training reads from without loading it.
//!
//! - `samples.f32`: the mono samples of all entries, one after the other, little-endian f32.
//! - `index.json`: an [`Index`], which says where each entry lies and what is known about it.
//! - `sources.jsonl`: which samples came from which file, for the next preparation; training does not
//!   read it.
//!
//! Opening validates the whole index against the length of the samples; after that, reading fails
//! only if the disk does. A folder is written beside its place and renamed into it, so that a
//! half-written one is never seen.

mod journal;
mod writer;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

pub(crate) use journal::{Earlier, Facts};
pub(crate) use writer::PreparedWriter;

const INDEX_FILE: &str = "index.json";
const SAMPLES_FILE: &str = "samples.f32";
const FORMAT: &str = "wavenet-prepared";
/// Counts up with every change of the format, or of what preparing does to the samples.
pub(crate) const VERSION: u32 = 1;
/// Counts up with what preparing does else to a few corpora and leaves the others as they were. An older
/// corpus is still read, but made anew where its recordings are at hand. 1: offsets go, few files are divided.
pub(crate) const REVISION: u32 = 1;

const BYTES_PER_SAMPLE: u64 = 4;

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// The model is fitted to it.
    Train,
    /// The model is measured on it.
    Valid,
}

/// One stretch of one recording: most often the whole of it. The first entry of a file carries the
/// file's counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Path of the recording below the corpus's folder, with `/`; below the validation folder it
    /// begins with that folder's name. A note cut from a take has its time added: `take.wav @1.250s`.
    pub name: String,
    /// Its class, if the corpus has classes.
    pub label: Option<String>,
    /// MIDI key, 0 to 127, if it is known.
    pub key: Option<u8>,
    /// MIDI velocity, 1 to 127, if it is known.
    pub velocity: Option<u8>,
    /// Of a note cut from a take: where it begins in the recording, in frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_frame: Option<u64>,
    /// Training or validation.
    pub split: Split,
    /// Where it begins in the samples file, in frames.
    pub offset_frames: u64,
    /// How long it is; never 0.
    pub frames: u64,
    /// The recording's own rate.
    pub source_rate_hz: u32,
    /// The recording's own channels.
    pub source_channels: u32,
    /// Samples of the recording at full scale.
    pub clipped_samples: u64,
    /// Frames (at the model's rate) of silence cut off the recording's ends.
    pub dropped_frames: u64,
    /// Packets of a lossy recording that could not be decoded.
    pub damaged_packets: u64,
    /// The mean of the recording's samples where it was so large that it was taken away, else 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offset: f32,
    /// The largest magnitude in what is kept of the recording, 0 to 1.
    pub peak: f32,
}

impl Entry {
    /// The path of the recording.
    pub fn file(&self) -> &str {
        match (self.at_frame, self.name.rsplit_once(" @")) {
            (Some(_), Some((file, _))) => file,
            _ => &self.name,
        }
    }

    /// Another entry of the same file.
    pub(crate) fn without_counts(self) -> Self {
        Self { clipped_samples: 0, dropped_frames: 0, damaged_packets: 0, offset: 0.0, ..self }
    }
}

fn is_zero(number: &f32) -> bool {
    *number == 0.0
}

/// A file that was found and left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its path, as in [`Entry::name`].
    pub name: String,
    /// Why, in words.
    pub reason: String,
    /// Its length (at the model's rate) if it was left out for being silence, else 0.
    pub silent_frames: u64,
}

/// Everything about a prepared corpus but its samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// Always `wavenet-prepared`.
    pub format: String,
    /// The format's version.
    pub version: u32,
    /// What preparing did else: `REVISION`.
    #[serde(default)]
    pub revision: u32,
    /// The model's rate: that of the samples.
    pub rate_hz: u32,
    /// Whether silence was cut off the ends.
    pub trimmed: bool,
    /// SHA-256 (hex) over the settings, every source's name, size and time of change, and what was done
    /// that version 1 did not do at first.
    pub fingerprint: String,
    /// In the order of their samples: without gaps, from 0 to the end.
    pub entries: Vec<Entry>,
    /// Files that were left out, and why.
    pub skipped: Vec<Skipped>,
    /// Notes of takes that were left out, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_notes: Vec<Skipped>,
    /// What was decided for the user, in sentences.
    pub notices: Vec<String>,
}

impl Index {
    /// The samples that all entries need.
    ///
    /// # Errors
    ///
    /// Something in the index cannot be so.
    fn validate(&self) -> Result<u64> {
        ensure!((1_000..=192_000).contains(&self.rate_hz), "its rate is {} Hz", self.rate_hz);
        ensure!(!self.entries.is_empty(), "it has no entries");
        let mut offset = 0_u64;
        for entry in &self.entries {
            let name = &entry.name;
            ensure!(entry.offset_frames == offset, "`{name}` does not follow its predecessor");
            ensure!(entry.frames > 0, "`{name}` is empty");
            ensure!(entry.key.is_none_or(|key| key <= 127), "`{name}` has no MIDI key");
            let in_range = |velocity: u8| (1..=127).contains(&velocity);
            ensure!(entry.velocity.is_none_or(in_range), "`{name}` has no MIDI velocity");
            ensure!((0.0..=1.0).contains(&entry.peak), "`{name}` exceeds full scale");
            ensure!(entry.offset.abs() <= 1.0, "`{name}` has no offset");
            ensure!(
                entry.source_rate_hz > 0 && entry.source_channels > 0,
                "`{name}` has no source"
            );
            offset = offset.checked_add(entry.frames).context("it counts too many samples")?;
        }
        Ok(offset)
    }
}

/// An opened prepared corpus.
#[derive(Debug)]
pub struct Prepared {
    folder: PathBuf,
    index: Index,
    samples: Mutex<File>,
}

impl Prepared {
    /// Opens the prepared corpus in `folder`.
    ///
    /// # Errors
    ///
    /// One line: the folder is not a prepared corpus, is of another version, or is damaged (its
    /// index contradicts itself or the length of the samples).
    pub fn open(folder: &Path) -> Result<Self> {
        let shown = folder.display();
        let path = folder.join(INDEX_FILE);
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!("{shown} is not a prepared corpus (no readable {INDEX_FILE})")
        })?;
        let kind: Kind = serde_json::from_str(&text)
            .ok()
            .filter(|kind: &Kind| kind.format == FORMAT)
            .with_context(|| format!("{} is not the index of a prepared corpus", path.display()))?;
        ensure!(
            kind.version == VERSION,
            "{shown} was prepared by another version (format {}, this one reads {VERSION}): delete \
             it and prepare again",
            kind.version
        );
        let damaged = || format!("{shown} is damaged: delete it and prepare again");
        let index: Index = serde_json::from_str(&text).with_context(damaged)?;
        let frames = index.validate().with_context(damaged)?;

        let samples = File::open(folder.join(SAMPLES_FILE)).with_context(damaged)?;
        let bytes = samples.metadata().with_context(damaged)?.len();
        if Some(bytes) != frames.checked_mul(BYTES_PER_SAMPLE) {
            bail!("{}: {SAMPLES_FILE} has {bytes} bytes for {frames} samples", damaged());
        }
        Ok(Self { folder: folder.to_owned(), index, samples: Mutex::new(samples) })
    }

    /// The folder that it was opened from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Everything but the samples.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The entries, in the order of their samples; [`Prepared::read`] takes their places in it.
    pub fn entries(&self) -> &[Entry] {
        &self.index.entries
    }

    /// The rate of the samples.
    pub fn rate_hz(&self) -> u32 {
        self.index.rate_hz
    }

    /// The sum of the frames of one part.
    pub fn frames(&self, split: Split) -> u64 {
        self.entries().iter().filter(|entry| entry.split == split).map(|entry| entry.frames).sum()
    }

    /// Fills `samples` (`[frames]`, in [-1, 1]) from frame `start_frame` of an entry on.
    ///
    /// # Errors
    ///
    /// There is no such entry, the range leaves it, or the file cannot be read or holds something
    /// else than samples.
    pub fn read(&self, entry_index: usize, start_frame: u64, samples: &mut [f32]) -> Result<()> {
        let entry = self
            .entries()
            .get(entry_index)
            .with_context(|| format!("there is no entry {entry_index}"))?;
        let end = start_frame.checked_add(samples.len() as u64);
        ensure!(
            end.is_some_and(|end| end <= entry.frames),
            "{} frames from {start_frame} on leave `{}`, which has {}",
            samples.len(),
            entry.name,
            entry.frames
        );
        let failed = || format!("{} cannot be read", self.folder.join(SAMPLES_FILE).display());
        let mut bytes = [0; 4096 * BYTES_PER_SAMPLE as usize];
        // A reader that panicked left the file at some place: each read seeks anyway.
        let mut file = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = (entry.offset_frames + start_frame) * BYTES_PER_SAMPLE;
        file.seek(SeekFrom::Start(offset)).with_context(failed)?;
        for part in samples.chunks_mut(4096) {
            let bytes = &mut bytes[..size_of_val(part)];
            file.read_exact(bytes).with_context(failed)?;
            for (sample, bytes) in part.iter_mut().zip(bytes.as_chunks().0) {
                *sample = f32::from_le_bytes(*bytes);
                ensure!(
                    sample.abs() <= 1.0,
                    "{} is damaged: delete it and prepare again",
                    self.folder.display()
                );
            }
        }
        Ok(())
    }
}

/// The part of the index that every version has.
#[derive(Deserialize)]
struct Kind {
    format: String,
    version: u32,
}

/// Whether `folder` holds an index of ours, of whatever version and in whatever state.
pub fn is_prepared(folder: &Path) -> bool {
    std::fs::read_to_string(folder.join(INDEX_FILE))
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .is_some_and(|kind: Kind| kind.format == FORMAT)
}

#[cfg(test)]
mod tests;
