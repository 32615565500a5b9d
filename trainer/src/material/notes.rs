//! Recorded notes: their analysis, their samples at several pitches, and what their model is told
//! about them.
//!
//! A note begins a little before its measured onset, so that a played note's attack is whole; but where a
//! recording rises slowly, no longer before it is heard than a player would notice. The phases of its partials
//! come from the recording's analysis; a copy at another pitch plays the recording faster or slower, and its
//! phases with it.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use anyhow::{Context, Result, bail, ensure};
use wavenet_engine::conditioning::{HIGHEST_PARTIAL, Levels, NoteConditioner, turns_from};
use wavenet_engine::resample::Resampler;
use wavenet_engine::{KeyTable, MAX_PARTIALS, NoteRecipe};

use super::found::{self, Found, sounds_like};
use super::store::{Store, StoreWriter};
use super::{layers, levels};
use crate::partials::{PartialTracks, analyse, other_key};
use crate::prepared::{Entry, Prepared};
use crate::settings::Tuning;

/// Taken from before the onset, so that the attack is not cut.
const LEAD_MS: u32 = 3;
/// A note is heard so long after its beginning at the latest: once a sample is a fifth (14 dB below) of the largest
/// of its attack. (Played, noise has another shape each time, and a fifth may be a tenth.)
const HEARD_AFTER_MS: u32 = 5;
const ATTACK_MS: u32 = 300;
const HEARD_SHARE: f32 = 0.2;
/// A recording whose name does not tell its velocity.
pub(crate) const DEFAULT_VELOCITY: u8 = 100;

/// One recording's analysis.
#[derive(Debug, Clone)]
struct Note {
    tracks: Arc<PartialTracks>,
    /// What was measured on it, as a model is told.
    table: Arc<KeyTable>,
    label: Option<String>,
    /// The key that it sounds like, where that is surely not its name's.
    other_key: Option<u8>,
    /// The recording's frame at which the note begins.
    start_frame: usize,
    /// Frames of the recording before the entry: not 0 for the end of a file that was divided.
    entry_offset: usize,
}

impl Note {
    /// The note of an entry, or why it is none; `None` where the entry goes on with the one before.
    fn of_entry(
        prepared: &Prepared,
        index: usize,
        recipe: &NoteRecipe,
    ) -> Result<Option<std::result::Result<Self, Left>>> {
        let entry = &prepared.entries()[index];
        let before = index.checked_sub(1).map(|before| &prepared.entries()[before]);
        if before.is_some_and(|before| before.name == entry.name) {
            return Ok(None);
        }
        let Some(key) = entry.key else {
            return Ok(Some(Err(Left::new("its name tells no note (such as A4 or 069)"))));
        };
        let mut samples = vec![0.0; entry.frames as usize];
        prepared.read(index, 0, &mut samples)?;
        let other_key = other_key(&samples, prepared.rate_hz(), key);
        let note = Self::new(entry, key, &samples, prepared.rate_hz(), recipe);
        let note = note.map(|note| Self { other_key, ..note });
        Ok(Some(note.map_err(|error| {
            let reason = format!("{error:#}{}", sounds_like(other_key));
            Left { reason, other_key }
        })))
    }

    fn new(
        entry: &Entry,
        key: u8,
        samples: &[f32],
        rate_hz: u32,
        recipe: &NoteRecipe,
    ) -> Result<Self> {
        let partials = recipe.tracked_partials();
        let tracks = analyse(samples, rate_hz, key, partials)?;
        let start_frame = start(samples, rate_hz, tracks.onset_frame);
        let semitones = 12.0 * libm::log2(tracks.fundamental_hz / 440.0);
        let mut table = KeyTable {
            key,
            velocity: entry.velocity.unwrap_or(DEFAULT_VELOCITY),
            cents: 100.0 * (semitones + 69.0 - f64::from(key)),
            inharmonicity: tracks.inharmonicity,
            start_turns: (1..=partials)
                .map(|k| tracks.phase_turns(k, start_frame as f64))
                .collect(),
            ..KeyTable::default()
        };
        if recipe.has_levels() {
            levels::measure(&mut table, recipe, samples, start_frame, &tracks);
        }
        Ok(Self {
            tracks: Arc::new(tracks),
            table: Arc::new(table),
            label: entry.label.clone(),
            other_key: None,
            start_frame,
            entry_offset: 0,
        })
    }

    fn found(&self) -> Found {
        let levels = &self.tracks.level_db;
        let loudest = levels.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Found {
            cents: self.table.cents,
            inharmonicity: self.table.inharmonicity,
            partials: levels.iter().filter(|&&level| level > loudest - 50.0).count(),
            other_key: self.other_key,
        }
    }
}

/// The frame at which a note begins whose analysis heard its first at `onset_frame`.
fn start(samples: &[f32], rate_hz: u32, onset_frame: usize) -> usize {
    let frames = |ms: u32| (rate_hz * ms / 1000) as usize;
    let attack = samples[onset_frame..].iter().take(frames(ATTACK_MS)).map(|sample| sample.abs());
    let largest = attack.clone().fold(0.0, f32::max);
    let heard = attack.take_while(|&size| size < HEARD_SHARE * largest).count();
    let whole = onset_frame.saturating_sub(frames(LEAD_MS));
    whole.max((onset_frame + heard).saturating_sub(frames(HEARD_AFTER_MS)))
}

/// A recording that is left out.
#[derive(Debug, Clone)]
struct Left {
    reason: String,
    /// As of a [`Note`].
    other_key: Option<u8>,
}

impl Left {
    fn new(reason: &str) -> Self {
        Self { reason: reason.into(), other_key: None }
    }
}

/// The analyses of a corpus of notes, one an entry.
#[derive(Debug)]
pub struct Notes {
    entries: Vec<std::result::Result<Note, Left>>,
    names: Vec<String>,
    recipe: NoteRecipe,
    /// For a rate that a note is played at.
    resamplers: Mutex<BTreeMap<u32, Resampler>>,
}

impl Notes {
    /// Analyses every recording of a corpus, on every core.
    ///
    /// # Errors
    /// The disk failed, or no recording is a note.
    pub fn analyse(prepared: &Prepared, recipe: &NoteRecipe) -> Result<Self> {
        let all = prepared.entries();
        let threads = available_parallelism().map_or(1, NonZero::get);
        let next = AtomicUsize::new(0);
        // Each takes the next recording that nobody has taken.
        let work = || {
            let mut found = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= all.len() {
                    return Ok(found);
                }
                found.push((index, Note::of_entry(prepared, index, recipe)?));
            }
        };
        let found: Vec<Result<Vec<_>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined
                .map(|found| found.unwrap_or_else(|_| bail!("the analysis of notes failed")))
                .collect()
        });
        let mut found: Vec<_> = found.into_iter().collect::<Result<Vec<_>>>()?.concat();
        found.sort_by_key(|(index, _)| *index);
        let mut entries: Vec<std::result::Result<Note, Left>> = Vec::with_capacity(all.len());
        for (index, note) in found {
            // The second part of a divided file is the same note, further on.
            entries.push(match (note, index.checked_sub(1)) {
                (None, Some(before)) => {
                    let frames = all[before].frames as usize;
                    entries[before]
                        .clone()
                        .map(|note: Note| Note { entry_offset: note.entry_offset + frames, ..note })
                }
                (note, _) => note.unwrap_or_else(|| Err(Left::new("its beginning is missing"))),
            });
        }
        let names = all.iter().map(|entry| entry.name.clone()).collect();
        ensure!(entries.iter().any(std::result::Result::is_ok), "no recording is a note");
        let recipe = NoteRecipe { keys: Vec::new(), ..recipe.clone() };
        Ok(Self { entries, names, recipe, resamplers: Mutex::default() })
    }

    /// The tables that a model of such classes plays from. Without levels one a key, that of its hardest
    /// recording; with levels one a velocity of it, and layers that are missing from their neighbours'.
    pub fn key_tables(&self, classes: &[String], tuning: Tuning) -> Vec<KeyTable> {
        let class = |note: &Note| {
            let own = |class: &String| note.label.as_ref() == Some(class);
            classes.iter().position(own).unwrap_or(0)
        };
        let notes = self.entries.iter().flatten();
        let table = |note: &Note| KeyTable { class: class(note), ..(*note.table).clone() };
        let mut tables: Vec<KeyTable> = notes.map(table).collect();
        // Of equals the first recording stays.
        tables.sort_by_key(|table| (table.class, table.key, table.velocity));
        tables.dedup_by_key(|table| (table.class, table.key, table.velocity));
        if self.recipe.has_levels() {
            layers::complete(&mut tables);
        } else {
            tables.reverse();
            tables.dedup_by_key(|table| (table.class, table.key));
            tables.reverse();
        }
        if tuning == Tuning::Equal {
            for table in &mut tables {
                // The first partial of a stiff string lies sqrt(1 + B) above f1.
                table.cents = -600.0 * libm::log2(1.0 + table.inharmonicity);
            }
        }
        tables
    }

    /// What was found, in lines for the user to check.
    pub fn report(&self) -> Vec<String> {
        let entries = self.entries.iter().map(|entry| match entry {
            Ok(note) => Ok(note.found()),
            Err(left) => Err(&left.reason[..]),
        });
        found::lines(self.names.iter().map(|name| &name[..]).zip(entries))
    }

    /// The recordings that surely sound like another key than that of their name, and that key.
    pub fn other_notes(&self) -> Vec<(&str, u8)> {
        let key = |entry: &std::result::Result<Note, Left>| match entry {
            Ok(note) => note.other_key,
            Err(left) => left.other_key,
        };
        let named = self.names.iter().zip(&self.entries);
        let mut others: Vec<(&str, u8)> =
            named.filter_map(|(name, entry)| Some((&name[..], key(entry)?))).collect();
        // Both parts of a file that was divided are the same note.
        others.dedup();
        others
    }

    /// The clips of one entry, one for each pitch shift in semitones; none of a recording that is
    /// no note. Each begins with up to `past` frames of the entry before, of the same recording.
    pub(super) fn clips(
        &self,
        prepared: &Prepared,
        entry: usize,
        shifts: &[i32],
        past: usize,
        store: &mut StoreWriter,
    ) -> Result<Vec<NoteClip>> {
        let Some(Ok(note)) = self.entries.get(entry) else {
            return Ok(Vec::new());
        };
        let frames = prepared.entries()[entry].frames as usize;
        let skipped = note.start_frame.saturating_sub(note.entry_offset).min(frames);
        let past = past.min(note.entry_offset.saturating_sub(note.start_frame));
        let mut samples = vec![0.0; past + frames - skipped];
        if let Some(before) = entry.checked_sub(1)
            && past > 0
        {
            let from = prepared.entries()[before].frames - past as u64;
            prepared.read(before, from, &mut samples[..past])?;
        }
        prepared.read(entry, skipped as u64, &mut samples[past..])?;
        let name = &prepared.entries()[entry].name;
        let rate_hz = prepared.rate_hz();
        let clip = |&shift: &i32| {
            let resampler = self.resampler(rate_hz, played_hz(rate_hz, shift))?;
            NoteClip::new(note, &samples, past, resampler, (rate_hz, shift), &self.recipe, store)
                .with_context(|| name.clone())
        };
        shifts.iter().map(clip).collect()
    }

    /// One that has heard nothing yet. Its table takes a while to make, and every note has the same few.
    fn resampler(&self, rate_hz: u32, played_hz: u32) -> Result<Resampler> {
        let mut known = self.resamplers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&played_hz) {
            return Ok(known.clone());
        }
        let resampler = Resampler::new(rate_hz, played_hz)?;
        known.insert(played_hz, resampler.clone());
        Ok(resampler)
    }
}

/// The rate to which a recording is converted that shall sound so many semitones higher at the model's.
fn played_hz(rate_hz: u32, shift: i32) -> u32 {
    (f64::from(rate_hz) / libm::exp2(f64::from(shift) / 12.0)).round() as u32
}

/// What was measured on one recording.
#[derive(Debug, Clone, Copy)]
pub struct Analysed<'a> {
    /// Index of its class.
    pub class: usize,
    /// What a model is told of it.
    pub table: &'a KeyTable,
    /// Its partials.
    pub tracks: &'a PartialTracks,
}

/// One note at one pitch.
#[derive(Debug)]
pub(super) struct NoteClip {
    /// Where its samples lie in the store.
    offset_frames: u64,
    /// With the past.
    frames: usize,
    /// Frames at the beginning that belong to the entry before.
    past: usize,
    tracks: Arc<PartialTracks>,
    table: Arc<KeyTable>,
    /// Its levels, at any age.
    levels: Levels,
    /// Frame of the recording at which the clip begins, and the note's age there.
    start_frame: usize,
    start_age: u64,
    /// Frames of the recording a frame of this clip: 1 as recorded, 2 an octave up.
    speed: f64,
    /// Pitch of the key as the model is told, 69 = A4.
    semitones: f64,
    /// Partials low enough for the rate at this pitch.
    present: usize,
}

impl NoteClip {
    fn new(
        note: &Note,
        samples: &[f32],
        past: usize,
        mut resampler: Resampler,
        (rate_hz, shift): (u32, i32),
        recipe: &NoteRecipe,
        store: &mut StoreWriter,
    ) -> Result<Self> {
        let rate = f64::from(rate_hz);
        // Converted to a lower rate and played at the model's, the recording sounds higher.
        let speed = rate / f64::from(played_hz(rate_hz, shift));
        let mut shifted = Vec::new();
        resampler.process(samples, &mut shifted);
        resampler.finish((samples.len() as f64 / speed) as u64, &mut shifted);
        let heard = |&k: &usize| {
            let hz = note.tracks.partial_hz(k) * speed;
            note.tracks.present(k) && hz <= HIGHEST_PARTIAL * rate
        };
        // The past is never longer than what the note has behind it.
        let start_frame = note.start_frame.max(note.entry_offset.saturating_sub(past));
        let start_age = ((start_frame - note.start_frame) as f64 / speed) as u64;
        // The model hears every note equally loud.
        let mut levels = Levels::of_recording(recipe, &note.table, rate, speed);
        for (age, sample) in (start_age..).zip(&mut shifted) {
            levels.seek(age);
            *sample /= levels.gain();
        }
        Ok(Self {
            offset_frames: store.append(&shifted)?,
            frames: shifted.len(),
            past: (past as f64 / speed) as usize,
            tracks: Arc::clone(&note.tracks),
            levels,
            start_frame,
            start_age,
            speed,
            semitones: f64::from(note.table.key) + 12.0 * libm::log2(speed),
            table: Arc::clone(&note.table),
            present: (1..=recipe.tracked_partials()).take_while(heard).count(),
        })
    }

    /// What was measured; `None` of a copy at another pitch, or the end of a recording that was divided.
    pub(super) fn analysed(&self, class: usize) -> Option<Analysed<'_>> {
        let is_recording = self.speed == 1.0 && self.start_age == 0;
        is_recording.then_some(Analysed { class, table: &self.table, tracks: &self.tracks })
    }

    /// Frames that count.
    pub(super) fn frames(&self) -> usize {
        self.frames - self.past
    }

    /// Frames before those.
    pub(super) fn past(&self) -> usize {
        self.past
    }

    /// Reads from a frame on; beyond the end there is silence.
    pub(super) fn read(&self, store: &Store, start: u64, out: &mut [f32]) -> Result<()> {
        let known = self.frames.saturating_sub(start as usize).min(out.len());
        store.read(self.offset_frames + start, &mut out[..known])?;
        out[known..].fill(0.0);
        Ok(())
    }

    /// The local conditioning vectors of frames of the clip, its past included, from `first` on. Shape of
    /// `out`: `[frames, channels]`. Turned upside down, every partial is half a turn away. `partials` gets
    /// what the player adds to what the model says of each frame. Shape: `[frames]`
    pub(super) fn condition(
        &self,
        conditioner: &NoteConditioner,
        first: u64,
        is_flipped: bool,
        channels: usize,
        out: &mut [f32],
        partials: &mut [f32],
    ) {
        let mut levels = self.levels.clone();
        let mut turns = [0_u32; MAX_PARTIALS];
        let turns = &mut turns[..self.present];
        let rows = out.chunks_exact_mut(channels).zip(partials);
        for (index, (out, partials)) in (first..).zip(rows) {
            let age = self.start_age + index;
            let frame = self.start_frame as f64 + index as f64 * self.speed;
            for (partial, turns) in (1..).zip(turns.iter_mut()) {
                let measured = turns_from(f64::from(self.tracks.phase_turns(partial, frame)));
                *turns = measured.wrapping_add(if is_flipped { 1 << 31 } else { 0 });
            }
            let velocity = self.table.velocity;
            *partials =
                conditioner.recorded(self.semitones, velocity, age, turns, &mut levels, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_rise_begins_no_longer_than_a_player_waits() {
        let rate_hz = 16_000;
        // Rises by 1 dB a millisecond: the analysis hears it 30 dB below its loudest, a player 14.
        let rise = |n: i32| libm::powf(10.0, (n as f32 / 16.0 - 60.0).min(0.0) / 20.0);
        let slow: Vec<f32> = (0..16_000).map(rise).collect();
        let begins = start(&slow, rate_hz, 30 * 16);
        assert!((begins as i32 - (46 - 5) * 16).abs() <= 1, "{begins}");
        // One that is there at once begins as long before as the analysis may be late.
        let sudden: Vec<f32> = (0..16_000).map(|n| if n < 800 { 0.0 } else { 0.5 }).collect();
        assert_eq!(start(&sudden, rate_hz, 800), 800 - 3 * 16);
        assert_eq!(start(&sudden[790..], rate_hz, 10), 0);
    }
}
