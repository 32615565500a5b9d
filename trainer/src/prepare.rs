//! Turns a folder of recordings into a prepared corpus.
//!
//! Find the files -> decode, resample and trim them on several threads -> write them in the order
//! of their names -> choose which are for validation. The result depends on the files and the
//! options, not on the threads. A corpus that is already there and was made from the same files
//! with the same options is opened instead; of another one, and of what an interrupted preparation
//! left, the samples of unchanged files are taken over.

mod decode;
mod offset;
mod sources;
mod table;

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use crate::audio::check_rate;
use crate::corpus::split::choose_valid;
use crate::prepared::{
    Entry, Index, Prepared, PreparedWriter, REVISION, Skipped, Split, VERSION, is_prepared,
};
use crate::trim::SILENCE_DB;

use decode::{Left, decode_in_order};
use sources::{find_sources, fingerprint, with_changes};
pub use table::{Row, Table, print_table};

/// What to prepare, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct PrepareOptions {
    /// The folder of recordings.
    pub data: PathBuf,
    /// A folder of recordings for validation; without it some of `data` are set aside.
    pub valid: Option<PathBuf>,
    /// A table that labels the recordings in `data`; without it `labels.csv` there, if there is one.
    pub labels: Option<PathBuf>,
    /// The folder to write: new, empty, or an older prepared corpus.
    pub out: PathBuf,
    /// The model's rate, 1 kHz to 192 kHz.
    pub rate_hz: u32,
    /// Whether silence is cut off both ends of each recording.
    pub trim: bool,
    /// Whether a recording beside a MIDI file is cut into the notes that it tells.
    pub cut_takes: bool,
    /// The share of files (of a single file, or fewer than 5 without notes: of the frames of each) set
    /// aside for validation; 0.1 is usual. Above 0, below 1.
    pub valid_fraction: f32,
    /// Chooses the files for validation.
    pub seed: u64,
    /// Files decoded at once; each is held in memory until it is written.
    pub threads: usize,
}

/// How far [`prepare`] is: one report for each file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Files done.
    pub done: usize,
    /// Files in all.
    pub total: usize,
    /// The file that was done last.
    pub name: &'a str,
    /// Its samples were there already, from an earlier preparation.
    pub known: bool,
}

/// Opens `options.data` if it is a prepared corpus already, else prepares it.
///
/// # Errors
///
/// Those of [`Prepared::open`] and [`prepare`]; or the prepared corpus has another rate or is asked
/// to take validation recordings or labels.
pub fn open_or_prepare(
    options: &PrepareOptions,
    progress: &mut dyn FnMut(Progress<'_>) -> Result<()>,
) -> Result<Prepared> {
    if !is_prepared(&options.data) {
        return prepare(options, progress);
    }
    let prepared = Prepared::open(&options.data)?;
    ensure!(
        options.valid.is_none(),
        "{} is prepared already, its validation part too: give --valid to `prepare` instead",
        options.data.display()
    );
    ensure!(
        options.labels.is_none(),
        "{} is prepared already, its labels too: give --labels to `prepare` instead",
        options.data.display()
    );
    ensure!(
        prepared.rate_hz() == options.rate_hz,
        "{} was prepared at {} Hz, but the model runs at {} Hz: prepare the recordings again",
        options.data.display(),
        prepared.rate_hz(),
        options.rate_hz
    );
    Ok(prepared)
}

/// Prepares the recordings in `options.data` into `options.out`. An error from `progress` interrupts
/// it: `options.out` stays as it was, and what was decoded waits beside it for the next time.
///
/// Files that cannot be read are left out, each with its reason in the index.
///
/// # Errors
///
/// One line: the options contradict each other, a folder is missing or cannot be read, there is
/// nothing to train on or nothing to validate on, or `options.out` cannot be written.
pub fn prepare(
    options: &PrepareOptions,
    progress: &mut dyn FnMut(Progress<'_>) -> Result<()>,
) -> Result<Prepared> {
    check_rate(options.rate_hz)?;
    ensure!(
        options.valid_fraction > 0.0 && options.valid_fraction < 1.0,
        "a validation share of {} is not between 0 and 1",
        options.valid_fraction
    );
    let (sources, mut notices) = find_sources(options)?;
    let fingerprint = fingerprint(options, &sources);
    if let Ok(prepared) = Prepared::open(&options.out)
        && prepared.index().revision == REVISION
        && prepared.index().fingerprint == with_changes(&fingerprint, prepared.entries())
    {
        return Ok(prepared);
    }

    let mut writer = PreparedWriter::create(&options.out)?;
    let (mut entries, mut skipped, mut left_notes) = (Vec::new(), Vec::new(), Vec::new());
    let earlier = writer.earlier();
    let mut interrupted = false;
    let outcome = decode_in_order(&sources, options, &earlier, |place, outcome| {
        let source = &sources[place];
        let mut known = false;
        match outcome {
            Ok(kept) => {
                known = kept.known;
                let offset_frames = writer.append(&kept.key, &kept.samples, &kept.facts)?;
                left_notes.extend(kept.left_notes(source, options.rate_hz));
                entries.extend(kept.entries(source, options.rate_hz, offset_frames));
            }
            Err(Left { reason, silent_frames }) => {
                let name = source.item.name.clone();
                skipped.push((source.split, Skipped { name, reason, silent_frames }));
            }
        }
        let (done, total, name) = (place + 1, sources.len(), source.item.name.as_str());
        progress(Progress { done, total, name, known }).inspect_err(|_| interrupted = true)
    });
    // The folder that it is open in is about to be replaced.
    drop(earlier);
    if let Err(error) = outcome {
        if interrupted {
            writer.keep();
        }
        return Err(error);
    }

    if let Some(problem) = nothing_left(options, &entries, &skipped) {
        bail!(problem);
    }
    if options.valid.is_none() {
        set_aside(&mut entries, options);
    }
    notices.extend(strangers(&entries));
    writer.finish(Index {
        format: String::new(),
        version: VERSION,
        revision: REVISION,
        rate_hz: options.rate_hz,
        trimmed: options.trim,
        fingerprint: with_changes(&fingerprint, &entries),
        entries,
        skipped: skipped.into_iter().map(|(_, file)| file).collect(),
        left_notes,
        notices,
    })
}

/// Why there is nothing to train on, or nothing to validate on.
fn nothing_left(
    options: &PrepareOptions,
    entries: &[Entry],
    skipped: &[(Split, Skipped)],
) -> Option<String> {
    let is_empty = |split| entries.iter().all(|entry| entry.split != split);
    let (split, folder) = match &options.valid {
        _ if is_empty(Split::Train) => (Split::Train, &options.data),
        Some(valid) if is_empty(Split::Valid) => (Split::Valid, valid),
        _ => return None,
    };
    let skipped: Vec<&Skipped> =
        skipped.iter().filter(|(of, _)| *of == split).map(|(_, file)| file).collect();
    let shown = folder.display();
    let silent = skipped.iter().filter(|file| file.silent_frames > 0).count();
    Some(match skipped.first() {
        Some(_) if silent == skipped.len() => {
            format!("every recording in {shown} is silence: the level must exceed {SILENCE_DB} dB")
        }
        Some(Skipped { name, reason, .. }) => format!(
            "none of the recordings in {shown} can be used; the first of {}: {name} {reason}",
            skipped.len()
        ),
        None => format!("no recordings in {shown}"),
    })
}

/// Fewer files without notes are each divided: else one sound would be trained on and another measured.
const FEW_FILES: usize = 5;

/// Marks some files for validation; of few files, or a single note, their ends.
fn set_aside(entries: &mut Vec<Entry>, options: &PrepareOptions) {
    let tells_notes = entries.iter().any(|entry| entry.key.is_some());
    if entries.len() == 1 || entries.len() < FEW_FILES && !tells_notes {
        let whole = std::mem::take(entries);
        entries.extend(whole.into_iter().flat_map(|entry| divided(entry, options.valid_fraction)));
        return;
    }
    let files: Vec<_> =
        entries.iter().map(|entry| (entry.name.as_str(), entry.label.as_deref())).collect();
    let valid = choose_valid(&files, options.valid_fraction, options.seed);
    for (entry, valid) in entries.iter_mut().zip(valid) {
        entry.split = if valid { Split::Valid } else { Split::Train };
    }
}

/// A file to be trained on, and its end for validation where it is long enough.
fn divided(mut entry: Entry, valid_fraction: f32) -> Vec<Entry> {
    let share = entry.frames as f64 * f64::from(valid_fraction);
    let valid_frames = (share as u64).max(1).min(entry.frames - 1);
    entry.frames -= valid_frames;
    let end = Entry {
        split: Split::Valid,
        offset_frames: entry.offset_frames + entry.frames,
        frames: valid_frames,
        ..entry.clone().without_counts()
    };
    [entry, end].into_iter().filter(|part| part.frames > 0).collect()
}

/// A sentence for each label that is validated on but never trained on.
fn strangers(entries: &[Entry]) -> Vec<String> {
    let labels = |split| {
        let of_split = entries.iter().filter(move |entry| entry.split == split);
        of_split
            .filter_map(|entry| entry.label.as_deref())
            .collect::<std::collections::BTreeSet<_>>()
    };
    labels(Split::Valid)
        .difference(&labels(Split::Train))
        .map(|label| format!("label `{label}` is validated on but never trained on"))
        .collect()
}

#[cfg(test)]
mod tests;
