//! Decodes the files, and cuts what is taken of each.

use std::sync::mpsc::sync_channel;

use anyhow::{Context, Result, ensure};

use super::PrepareOptions;
use super::offset::take_away_offset;
use super::sources::{Source, source_key};
use crate::audio::{Recording, decode_file};
use crate::corpus::Item;
use crate::prepared::{Earlier, Entry, Facts, Skipped};
use crate::takes::{self, Take};
use crate::trim::{TrimOptions, trim};

/// A file that is taken.
pub(super) struct Kept {
    pub(super) key: String,
    /// The recording, or its notes one after the other.
    pub(super) samples: Vec<f32>,
    pub(super) facts: Facts,
    pub(super) known: bool,
}

impl Kept {
    /// The entries of `source`, whose samples begin at `offset_frames`: one, or one for each note.
    pub(super) fn entries(self, source: &Source, rate_hz: u32, offset_frames: u64) -> Vec<Entry> {
        let Self { samples, facts, .. } = self;
        let Item { name, label, note, .. } = &source.item;
        let peak = |samples: &[f32]| samples.iter().fold(0.0, |peak: f32, x| peak.max(x.abs()));
        let whole = Entry {
            name: name.clone(),
            label: label.clone(),
            key: note.map(|note| note.key),
            velocity: note.and_then(|note| note.velocity),
            at_frame: None,
            split: source.split,
            offset_frames,
            frames: samples.len() as u64,
            source_rate_hz: facts.source_rate_hz,
            source_channels: facts.source_channels,
            clipped_samples: facts.clipped_samples,
            dropped_frames: facts.dropped_frames,
            damaged_packets: facts.damaged_packets,
            offset: facts.offset,
            peak: peak(&samples),
        };
        let Some(take) = &facts.take else {
            return vec![whole];
        };
        let mut done = 0;
        let entry = |(place, note): (usize, &takes::TakeNote)| {
            let first = done as usize;
            done += note.frames;
            let entry = Entry {
                name: note_name(name, note.start_frame, rate_hz),
                key: Some(note.key),
                velocity: Some(note.velocity),
                at_frame: Some(note.start_frame),
                offset_frames: offset_frames + first as u64,
                frames: note.frames,
                peak: peak(samples.get(first..done as usize).unwrap_or_default()),
                ..whole.clone()
            };
            if place == 0 { entry } else { entry.without_counts() }
        };
        take.notes.iter().enumerate().map(entry).collect()
    }

    /// The notes of a take that cannot be learned, and why.
    pub(super) fn left_notes(&self, source: &Source, rate_hz: u32) -> Vec<Skipped> {
        let left = self.facts.take.iter().flat_map(|take| &take.left);
        left.map(|note| Skipped {
            name: note_name(&source.item.name, note.start_frame, rate_hz),
            reason: note.reason.clone(),
            silent_frames: 0,
        })
        .collect()
    }
}

/// `take.wav @1.250s`
fn note_name(file: &str, start_frame: u64, rate_hz: u32) -> String {
    format!("{file} @{:.3}s", start_frame as f64 / f64::from(rate_hz))
}

/// A file that is left out.
pub(super) struct Left {
    pub(super) reason: String,
    pub(super) silent_frames: u64,
}

impl Left {
    fn new(error: &anyhow::Error, silent_frames: usize) -> Self {
        // Reasons are shown in lists: one line each, whatever a system's message holds.
        let reason = format!("{error:#}").replace(['\n', '\r'], " ");
        Self { reason, silent_frames: silent_frames as u64 }
    }
}

fn decode_one(
    source: &Source,
    options: &PrepareOptions,
    earlier: &[Earlier],
) -> Result<Kept, Left> {
    let key = source_key(options, source);
    if let Some((samples, facts)) = earlier.iter().find_map(|earlier| earlier.find(&key)) {
        return Ok(Kept { key, samples, facts, known: true });
    }
    let mut recording =
        decode_file(&source.item.path, options.rate_hz).map_err(|error| Left::new(&error, 0))?;
    let offset = take_away_offset(&mut recording.samples);
    let before = recording.samples.len();
    let take = match &source.item.midi {
        Some(_) if options.cut_takes => {
            let take = cut_notes(source, &mut recording);
            Some(take.map_err(|error| Left::new(&error, 0))?)
        }
        _ => {
            if options.trim {
                let trimmed = trim(&recording.samples, recording.rate_hz, &TrimOptions::default())
                    .map_err(|error| Left::new(&error, before))?;
                recording.samples.truncate(trimmed.kept.end);
                recording.samples.drain(..trimmed.kept.start);
            }
            None
        }
    };
    let dropped_frames = if take.is_some() { 0 } else { before - recording.samples.len() };
    let facts = Facts {
        source_rate_hz: recording.source_rate_hz,
        source_channels: recording.source_channels as u32,
        clipped_samples: recording.clipped_samples as u64,
        dropped_frames: dropped_frames as u64,
        damaged_packets: recording.damaged_packets as u64,
        offset,
        take,
    };
    Ok(Kept { key, samples: recording.samples, facts, known: false })
}

/// Leaves the notes of a take, one after the other.
fn cut_notes(source: &Source, recording: &mut Recording) -> Result<Take> {
    let midi = source.item.midi.as_ref().context("no MIDI file")?;
    let take = wavenet_midi::read(midi, recording.rate_hz)
        .and_then(|events| takes::cut(&recording.samples, recording.rate_hz, &events))
        .context("cannot be cut into notes")?;
    ensure!(
        !take.notes.is_empty(),
        "has no note that could be learned alone ({}); --no-midi takes it whole",
        take.left.first().map_or("its MIDI file has none", |note| note.reason.as_str())
    );
    let mut samples = Vec::new();
    for note in &take.notes {
        let (from, to) = (note.start_frame as usize, (note.start_frame + note.frames) as usize);
        samples.extend_from_slice(&recording.samples[from..to]);
    }
    recording.samples = samples;
    Ok(take)
}

/// Decodes on `options.threads` threads and hands the outcomes over in the order of `sources`.
///
/// Thread t decodes every `threads`-th file from the t-th on and holds at most one back, so that
/// memory is bounded and the order needs no sorting.
pub(super) fn decode_in_order(
    sources: &[Source],
    options: &PrepareOptions,
    earlier: &[Earlier],
    mut take: impl FnMut(usize, Result<Kept, Left>) -> Result<()>,
) -> Result<()> {
    let threads = options.threads.clamp(1, sources.len().max(1));
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..threads)
            .map(|first| {
                let (sender, receiver) = sync_channel(0);
                scope.spawn(move || {
                    for source in sources.iter().skip(first).step_by(threads) {
                        // The receiver is gone: something else went wrong.
                        if sender.send(decode_one(source, options, earlier)).is_err() {
                            return;
                        }
                    }
                });
                receiver
            })
            .collect();
        for (place, lane) in (0..sources.len()).zip(lanes.iter().cycle()) {
            take(place, lane.recv().context("a decoding thread ended early")?)?;
        }
        Ok(())
    })
}
