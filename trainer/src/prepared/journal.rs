//! What became of each recording, a line as soon as it is known: `sources.jsonl` beside the samples.
//!
//! An interrupted preparation finds there what it need not decode again, and so does one of a folder
//! of which some files have changed. Samples are trusted by their SHA-256 alone: a line may have
//! reached the disk before a power cut when its samples had not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{BYTES_PER_SAMPLE, SAMPLES_FILE};
use crate::hex::hex;
use crate::takes::Take;

pub(super) const JOURNAL_FILE: &str = "sources.jsonl";

/// One recording as it lies among the samples, and what decoding it told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Identifies the file and the settings, see [`crate::prepare`].
    pub(crate) source: String,
    offset_frames: u64,
    frames: u64,
    sha256: String,
    #[serde(flatten)]
    pub(crate) facts: Facts,
}

/// What a recording was before it became samples; as in [`super::Entry`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) source_rate_hz: u32,
    pub(crate) source_channels: u32,
    pub(crate) clipped_samples: u64,
    pub(crate) dropped_frames: u64,
    pub(crate) damaged_packets: u64,
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub(crate) offset: f32,
    /// Of a take: the notes whose samples these are, one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) take: Option<Take>,
}

/// Writes the journal.
pub(super) struct Journal(File);

impl Journal {
    pub(super) fn create(folder: &Path) -> std::io::Result<Self> {
        Ok(Self(File::create(folder.join(JOURNAL_FILE))?))
    }

    /// Notes samples that are in the file by now.
    pub(super) fn append(
        &mut self,
        source: &str,
        offset_frames: u64,
        samples: &[u8],
        facts: &Facts,
    ) -> std::io::Result<()> {
        let line = Line {
            source: source.to_owned(),
            offset_frames,
            frames: samples.len() as u64 / BYTES_PER_SAMPLE,
            sha256: hash(samples, facts)?,
            facts: facts.clone(),
        };
        let mut line = serde_json::to_vec(&line)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }
}

/// The samples of an earlier preparation, whole or not.
#[derive(Debug)]
pub(crate) struct Earlier {
    lines: BTreeMap<String, Line>,
    samples: Mutex<File>,
}

impl Earlier {
    /// `None` where there is nothing of use. Lines that are damaged, as the last one may be, are
    /// passed over.
    pub(crate) fn open(folder: &Path) -> Option<Self> {
        let samples = File::open(folder.join(SAMPLES_FILE)).ok()?;
        let text = std::fs::read(folder.join(JOURNAL_FILE)).ok()?;
        let lines: BTreeMap<String, Line> = text
            .split(|&byte| byte == b'\n')
            .filter_map(|line| serde_json::from_slice::<Line>(line).ok())
            .map(|line| (line.source.clone(), line))
            .collect();
        (!lines.is_empty()).then_some(Self { lines, samples: Mutex::new(samples) })
    }

    /// Number of recordings that it knows.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The samples of a source and what is known about it, where they are here and whole.
    pub(crate) fn find(&self, source: &str) -> Option<(Vec<f32>, Facts)> {
        let line = self.lines.get(source)?;
        let bytes = line.frames.checked_mul(BYTES_PER_SAMPLE)?;
        let offset = line.offset_frames.checked_mul(BYTES_PER_SAMPLE)?;
        let read = {
            let mut file = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            // Memory is taken only for what is there.
            if line.frames == 0 || offset.checked_add(bytes)? > file.metadata().ok()?.len() {
                return None;
            }
            file.seek(SeekFrom::Start(offset)).ok()?;
            let mut read = vec![0; usize::try_from(bytes).ok()?];
            file.read_exact(&mut read).ok()?;
            read
        };
        if hash(&read, &line.facts).ok()? != line.sha256 {
            return None;
        }
        let samples = read.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        Some((samples.collect(), line.facts.clone()))
    }
}

/// Of the samples and of what decoding them told.
fn hash(samples: &[u8], facts: &Facts) -> serde_json::Result<String> {
    let hash = Sha256::new().chain_update(samples).chain_update(serde_json::to_vec(facts)?);
    Ok(hex(hash))
}
