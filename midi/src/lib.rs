//! A Standard MIDI File becomes a list of notes, each on its frame.
//!
//! All tracks are merged by tick. Time is exact: with D ticks a quarter and tempo changes of q
//! microseconds a quarter, the time of a tick is `sum(ticks * q) / D` microseconds, kept as one
//! integer and rounded only to the nearest frame. Channel 10 (drums) is left out. Keys, sustain
//! pedals (controller 64) and pitch wheels (2 semitones either way) go to the synth as they are, but
//! that every key and pedal is let go at the end.
//!
//! The bytes come from outside: every one of them gives a score or an error, never a panic.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use midly::{EventIter, MetaMessage, MidiMessage, TrackEventKind};
use wavenet_engine::synth::{Event, EventKind};

/// Larger files are refused before they are read.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Notes, pedals and changes of tempo together.
const MAX_EVENTS: usize = 1_000_000;
/// Channel 10, counted from 0.
const DRUMS: u8 = 9;
/// The sustain pedal's controller.
pub const SUSTAIN: u8 = 64;
/// What a pitch wheel does unless told otherwise.
pub const BEND_RANGE_SEMITONES: f32 = 2.0;

/// Reads a file's notes with their frames at `rate_hz`, in order of time; all end in a note-off.
///
/// # Errors
/// If the file cannot be read, is damaged, or has nothing to play.
pub fn read(path: &Path, rate_hz: u32) -> Result<Vec<Event>> {
    let cannot = || format!("cannot read the MIDI file {}", path.display());
    let metadata = std::fs::metadata(path).with_context(cannot)?;
    ensure!(metadata.is_file(), "{}: it is not a file", cannot());
    ensure!(metadata.len() <= MAX_FILE_BYTES, "{}: it is larger than 16 MiB", cannot());
    let bytes = std::fs::read(path).with_context(cannot)?;
    parse(&bytes, rate_hz).with_context(|| format!("the MIDI file {}", path.display()))
}

/// What matters of one MIDI event.
#[derive(Debug, Clone, Copy)]
enum Action {
    Tempo { us_per_quarter: u32 },
    Strike { channel: u8, key: u8, velocity: u8 },
    LetGo { channel: u8, key: u8 },
    Pedal { channel: u8, down: bool },
    Bend { channel: u8, semitones: f32 },
    Program { channel: u8, program: u8 },
}

/// An action, when, and in which track.
#[derive(Debug, Clone, Copy)]
struct Timed {
    tick: u64,
    track: u16,
    action: Action,
}

/// As [`read`], from bytes.
///
/// # Errors
/// If the bytes are damaged or have nothing to play.
pub fn parse(bytes: &[u8], rate_hz: u32) -> Result<Vec<Event>> {
    let (mut clock, tracks) = split(bytes)?;
    let mut actions = Vec::new();
    let mut last_tick = 0;
    for (track, bytes) in tracks.into_iter().enumerate() {
        last_tick = last_tick.max(read_track(track as u16, bytes, &mut actions)?);
    }
    // Stable: what happens at one tick keeps the order of the tracks, and of each track.
    actions.sort_by_key(|timed| timed.tick);

    let mut keys = Keys::default();
    let mut events = Vec::new();
    for Timed { tick, track, action } in actions {
        clock.advance(tick);
        let frame = clock.frame(rate_hz);
        let mut emit = |kind| events.push(Event { frame, kind });
        match action {
            Action::Tempo { us_per_quarter } => clock.set_tempo(us_per_quarter)?,
            Action::Strike { channel, key, velocity } => {
                keys.strike(track, channel, key, velocity, &mut emit);
            }
            Action::LetGo { channel, key } => keys.let_go(track, channel, key, &mut emit),
            Action::Pedal { channel, down } => {
                keys.pedals[usize::from(channel)] = down;
                emit(EventKind::Pedal { channel, down });
            }
            Action::Bend { channel, semitones } => emit(EventKind::Bend { channel, semitones }),
            Action::Program { channel, program } => emit(EventKind::Program { channel, program }),
        }
    }
    let is_note = |event: &Event| matches!(event.kind, EventKind::NoteOn { .. });
    ensure!(
        events.iter().any(is_note),
        "it has no notes to play (drums, channel 10, are left out)"
    );
    clock.advance(last_tick);
    let frame = clock.frame(rate_hz);
    keys.end(&mut |kind| events.push(Event { frame, kind }));
    Ok(events)
}

/// Checks the frame of the file: the header's clock, and the bytes of each track.
fn split(bytes: &[u8]) -> Result<(Clock, Vec<&[u8]>)> {
    let mut rest = bytes;
    let (id, header) = next_chunk(&mut rest)?;
    ensure!(id == b"MThd", "it is not a Standard MIDI File");
    let &[format_high, format, count_high, count, division_high, division, ..] = header else {
        bail!("its header is too short; the file is damaged");
    };
    match u16::from_be_bytes([format_high, format]) {
        0 | 1 => {}
        2 => bail!("it is of format 2 (separate patterns); save it as format 0 or 1"),
        other => bail!("it is of format {other}, which does not exist; the file is damaged"),
    }
    let clock = Clock::new([division_high, division])?;
    let mut tracks = Vec::new();
    for _ in 0..u16::from_be_bytes([count_high, count]) {
        loop {
            let (id, track) = next_chunk(&mut rest)?;
            // Chunks of other kinds are to be passed over, says the standard.
            if id == b"MTrk" {
                tracks.push(track);
                break;
            }
        }
    }
    Ok((clock, tracks))
}

/// The name and the content of the next chunk.
fn next_chunk<'a>(rest: &mut &'a [u8]) -> Result<(&'a [u8], &'a [u8])> {
    let Some((head, after)) = rest.split_at_checked(8) else {
        bail!("it is not a Standard MIDI File, or it is cut short");
    };
    let (id, length) = head.split_at(4);
    ensure!(id.iter().all(u8::is_ascii), "it is not a Standard MIDI File, or it is damaged");
    let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
    let Some((content, after)) = after.split_at_checked(length) else {
        bail!("it is not a Standard MIDI File, or it is cut short");
    };
    *rest = after;
    Ok((id, content))
}

/// Appends one track's actions and returns the tick of its end.
fn read_track(track: u16, bytes: &[u8], actions: &mut Vec<Timed>) -> Result<u64> {
    let mut tick = 0_u64;
    let damaged = || format!("track {} is damaged", track + 1);
    for event in EventIter::new(bytes) {
        let event = event.with_context(damaged)?;
        tick += u64::from(event.delta.as_int());
        let action = match event.kind {
            // The one thing that shows that nothing was lost: the reader stops at damage in silence.
            TrackEventKind::Meta(MetaMessage::EndOfTrack) => return Ok(tick),
            TrackEventKind::Meta(MetaMessage::Tempo(tempo)) => {
                Action::Tempo { us_per_quarter: tempo.as_int() }
            }
            TrackEventKind::Midi { channel, message } if channel.as_int() != DRUMS => {
                match action(channel.as_int(), message) {
                    Some(action) => action,
                    None => continue,
                }
            }
            _ => continue,
        };
        ensure!(actions.len() < MAX_EVENTS, "it has more than a million notes; split it");
        actions.push(Timed { tick, track, action });
    }
    bail!("{}: it stops before its end", damaged())
}

fn action(channel: u8, message: MidiMessage) -> Option<Action> {
    Some(match message {
        MidiMessage::NoteOn { key, vel } if vel.as_int() > 0 => {
            Action::Strike { channel, key: key.as_int(), velocity: vel.as_int() }
        }
        MidiMessage::NoteOn { key, .. } | MidiMessage::NoteOff { key, .. } => {
            Action::LetGo { channel, key: key.as_int() }
        }
        MidiMessage::Controller { controller, value } if controller.as_int() == SUSTAIN => {
            Action::Pedal { channel, down: value.as_int() >= 64 }
        }
        MidiMessage::PitchBend { bend } => {
            Action::Bend { channel, semitones: BEND_RANGE_SEMITONES * bend.as_f32() }
        }
        MidiMessage::ProgramChange { program } => {
            Action::Program { channel, program: program.as_int() }
        }
        _ => return None,
    })
}

/// Time as an exact fraction of a second.
#[derive(Debug, Clone)]
struct Clock {
    tick: u64,
    /// Time in units: `units / units_per_second` seconds.
    units: u128,
    units_per_second: u128,
    units_per_tick: u128,
    /// Under SMPTE timing a tick is a fixed time, and tempo means nothing.
    follows_tempo: bool,
}

impl Clock {
    /// From the header's last word.
    fn new(division: [u8; 2]) -> Result<Self> {
        let [high, low] = division;
        // Frames a second as a fraction: 29 stands for 30 / 1.001.
        let (units_per_second, units_per_tick) = match high.wrapping_neg() {
            // The top bit is clear: ticks a quarter, at 120 quarters a minute until told otherwise.
            _ if high < 128 => (1_000_000 * u128::from(u16::from_be_bytes(division)), 500_000),
            29 => (30_000 * u128::from(low), 1_001),
            rate @ (24 | 25 | 30) => (u128::from(rate) * u128::from(low), 1),
            rate => bail!("its header asks for {rate} SMPTE frames a second; the file is damaged"),
        };
        ensure!(units_per_second > 0, "its header divides time by zero; the file is damaged");
        let follows_tempo = high < 128;
        Ok(Self { tick: 0, units: 0, units_per_second, units_per_tick, follows_tempo })
    }

    fn set_tempo(&mut self, us_per_quarter: u32) -> Result<()> {
        ensure!(us_per_quarter > 0, "it sets an endless tempo; the file is damaged");
        if self.follows_tempo {
            self.units_per_tick = u128::from(us_per_quarter);
        }
        Ok(())
    }

    fn advance(&mut self, tick: u64) {
        self.units += u128::from(tick - self.tick) * self.units_per_tick;
        self.tick = tick;
    }

    /// The nearest frame. The file's size bounds the units below 2^80, so nothing overflows.
    fn frame(&self, rate_hz: u32) -> u64 {
        let twice = 2 * self.units * u128::from(rate_hz) + self.units_per_second;
        u64::try_from(twice / (2 * self.units_per_second)).unwrap_or(u64::MAX)
    }
}

/// Which keys and pedals are down.
#[derive(Debug)]
struct Keys {
    /// The track that struck a key and holds it. Shape: `[channel][key]`.
    holder: [[Option<u16>; 128]; 16],
    /// One a channel.
    pedals: [bool; 16],
}

impl Default for Keys {
    fn default() -> Self {
        Self { holder: [[None; 128]; 16], pedals: [false; 16] }
    }
}

impl Keys {
    fn strike(
        &mut self,
        track: u16,
        channel: u8,
        key: u8,
        velocity: u8,
        emit: &mut impl FnMut(EventKind),
    ) {
        let holder = &mut self.holder[usize::from(channel)][usize::from(key)];
        if holder.replace(track).is_some() {
            emit(EventKind::NoteOff { channel, key });
        }
        emit(EventKind::NoteOn { channel, key, velocity });
    }

    fn let_go(&mut self, track: u16, channel: u8, key: u8, emit: &mut impl FnMut(EventKind)) {
        let holder = &mut self.holder[usize::from(channel)][usize::from(key)];
        // Where two tracks share a channel, the end of one's note is not the end of the other's.
        if *holder == Some(track) {
            *holder = None;
            emit(EventKind::NoteOff { channel, key });
        }
    }

    /// Lets go of what the file has forgotten.
    fn end(&self, emit: &mut impl FnMut(EventKind)) {
        for (channel, keys) in (0..).zip(&self.holder) {
            for (key, _) in (0..).zip(keys).filter(|(_, holder)| holder.is_some()) {
                emit(EventKind::NoteOff { channel, key });
            }
        }
        for (channel, _) in (0..).zip(&self.pedals).filter(|(_, down)| **down) {
            emit(EventKind::Pedal { channel, down: false });
        }
    }
}

#[cfg(test)]
mod tests;
