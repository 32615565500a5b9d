//! A take: the recording of a phrase, beside the MIDI file of what was played in it. Each note that
//! sounds alone becomes a stretch of the recording whose key and velocity are known.
//!
//! 1. What was played (`performance`): notes with the pedal that holds them, and which of them sound
//!    at the same time as others or are bent, and so cannot be learned as notes.
//! 2. Alignment (`onsets`): a recording begins some time before or after its MIDI file, 100 ms at
//!    most, the same for all notes; that is where the onsets are strongest at the notes' beginnings.
//!    Then each note looks for its own onset nearby, as hands and strings are not exact.
//! 3. Cutting: from a little before the onset until the key is let go, or the next note begins.

mod onsets;
mod performance;

use std::fmt::{self, Display, Formatter};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use wavenet_engine::synth::Event;

use onsets::Onsets;
use performance::Played;

/// A recording and its MIDI file may begin this long after one another.
const REACH_MS: u64 = 100;
/// A note's own onset may differ from the others' by this.
const OWN_REACH_MS: u64 = 30;
/// An onset is this much stronger than the average of the recording; half of the notes must have one.
const CLEAR: f64 = 3.0;
/// Taken from before the onset.
const LEAD_MS: u64 = 10;
/// Shorter notes tell nothing of how they go on.
const SHORTEST_MS: u64 = 150;
/// A note that is never louder (-60 dB) was not recorded.
const SILENT_PEAK: f32 = 1e-3;

/// What became of a take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Take {
    /// In order of time; none overlaps another.
    pub(crate) notes: Vec<TakeNote>,
    pub(crate) left: Vec<LeftNote>,
}

/// A note that can be learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TakeNote {
    /// Where its stretch begins, in frames of the recording, and how long it is.
    pub(crate) start_frame: u64,
    pub(crate) frames: u64,
    pub(crate) key: u8,
    pub(crate) velocity: u8,
}

/// A note that cannot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LeftNote {
    /// Where it should begin, in frames of the recording.
    pub(crate) start_frame: u64,
    pub(crate) key: u8,
    pub(crate) reason: String,
}

/// Why a note cannot be learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Chord,
    Bent,
    Short,
    Silent,
    Beyond,
}

impl Display for Reason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chord => "another note sounds at the same time",
            Self::Bent => "the pitch wheel moves",
            Self::Short => "it is shorter than 150 ms",
            Self::Silent => "nothing is heard",
            Self::Beyond => "the recording ends before it",
        })
    }
}

/// Finds the notes of `events` (their frames at `rate_hz`) in a recording, mono at `rate_hz`.
///
/// # Errors
/// The recording has no onsets where notes begin: the MIDI file is of another one.
pub(crate) fn cut(samples: &[f32], rate_hz: u32, events: &[Event]) -> Result<Take> {
    let in_frames = |ms: u64| (ms * u64::from(rate_hz) / 1000) as i64;
    let played = performance::notes(events, rate_hz);
    let onsets = Onsets::find(samples, rate_hz)?;
    let late = offset(&onsets, &played, in_frames(REACH_MS));
    let end = samples.len() as i64;
    let mut begins: Vec<i64> = played
        .iter()
        .map(|note| onsets.strongest(note.start_frame as i64 + late, in_frames(OWN_REACH_MS)))
        .collect();
    // Whatever was found, notes keep their order.
    for place in (1..begins.len()).rev() {
        begins[place - 1] = begins[place - 1].min(begins[place]);
    }
    let inside = || begins.iter().filter(|begin| **begin < end);
    let clear = inside().filter(|begin| onsets.at(**begin) > CLEAR * onsets.mean()).count();
    ensure!(
        clear > 0 && 2 * clear >= inside().count(),
        "few onsets lie within {REACH_MS} ms of the notes in its MIDI file: is it of another take?"
    );
    let mut take = Take::default();
    for (place, note) in played.iter().enumerate() {
        let next = begins.get(place + 1).map_or(end, |next| next - in_frames(LEAD_MS));
        let start = (begins[place] - in_frames(LEAD_MS)).max(0);
        let stop = (note.end_frame as i64 + late).min(next).min(end);
        let flaw = note.flaw.or_else(|| {
            let heard = || &samples[start as usize..stop as usize];
            match () {
                () if begins[place] >= end => Some(Reason::Beyond),
                () if stop - start < in_frames(SHORTEST_MS) => Some(Reason::Short),
                () if heard().iter().all(|x| x.abs() < SILENT_PEAK) => Some(Reason::Silent),
                () => None,
            }
        });
        let (start_frame, key) = (start as u64, note.key);
        match flaw {
            Some(flaw) => {
                take.left.push(LeftNote { start_frame, key, reason: flaw.to_string() });
            }
            None => {
                let (frames, velocity) = ((stop - start) as u64, note.velocity);
                take.notes.push(TakeNote { start_frame, frames, key, velocity });
            }
        }
    }
    Ok(take)
}

/// How many frames the recording is behind the MIDI file, at most `reach`.
fn offset(onsets: &Onsets, played: &[Played], reach: i64) -> i64 {
    let strength = |late: i64| -> f64 {
        played.iter().map(|note| onsets.at(note.start_frame as i64 + late)).sum()
    };
    let offsets = (-reach..=reach).step_by(onsets.hop_frames);
    let strongest = offsets.map(|late| (strength(late), late)).max_by(|a, b| a.0.total_cmp(&b.0));
    strongest.map_or(0, |(_, late)| late)
}

#[cfg(test)]
mod tests;
