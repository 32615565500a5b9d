//! What a MIDI file says was played: notes, and which of them sound alone.

use wavenet_engine::synth::{Event, EventKind};

use super::Reason;

/// Players let go of a key a little after they strike the next one: so long it still counts as one
/// after the other, and ends where the next begins.
const LEGATO_MS: u64 = 50;
/// Nothing is played later; sums of such frames do not overflow.
const LAST_FRAME: u64 = 1 << 60;
/// A wheel this far from its middle bends.
const BENT_SEMITONES: f32 = 0.02;

/// A note as it was played, in frames of the MIDI file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Played {
    pub(super) start_frame: u64,
    /// Where its key, or the pedal that holds it, is let go.
    pub(super) end_frame: u64,
    pub(super) key: u8,
    pub(super) velocity: u8,
    /// Why it cannot be learned from.
    pub(super) flaw: Option<Reason>,
}

/// A note that has not ended.
struct Sounding {
    place: usize,
    channel: u8,
    key: u8,
    /// Its key is up, a pedal holds it.
    held: bool,
}

/// The notes of a MIDI file whose frames are at `rate_hz`, in order of their beginnings.
pub(super) fn notes(events: &[Event], rate_hz: u32) -> Vec<Played> {
    let mut notes: Vec<Played> = Vec::new();
    let mut sounding: Vec<Sounding> = Vec::new();
    let (mut pedals, mut bends) = ([false; 16], [0.0_f32; 16]);
    for Event { frame, kind } in events {
        let frame = (*frame).min(LAST_FRAME);
        match *kind {
            EventKind::NoteOn { channel, key, velocity } => {
                // A string that is struck again sounds no longer as it did.
                sounding.retain(|other| {
                    let again = other.channel == channel && other.key == key;
                    if again {
                        notes[other.place].end_frame = frame;
                    }
                    !again
                });
                let bent = bends[usize::from(channel)].abs() > BENT_SEMITONES;
                sounding.push(Sounding { place: notes.len(), channel, key, held: false });
                notes.push(Played {
                    start_frame: frame,
                    end_frame: LAST_FRAME,
                    key,
                    velocity,
                    flaw: bent.then_some(Reason::Bent),
                });
            }
            EventKind::NoteOff { channel, key } => {
                for note in &mut sounding {
                    note.held |= note.channel == channel && note.key == key;
                }
            }
            EventKind::Pedal { channel, down } => pedals[usize::from(channel)] = down,
            EventKind::Bend { channel, semitones } => {
                bends[usize::from(channel)] = semitones;
                let bent = semitones.abs() > BENT_SEMITONES;
                for note in sounding.iter().filter(|note| bent && note.channel == channel) {
                    notes[note.place].flaw = Some(Reason::Bent);
                }
            }
            _ => {}
        }
        sounding.retain(|note| {
            let ends = note.held && !pedals[usize::from(note.channel)];
            if ends {
                notes[note.place].end_frame = frame;
            }
            !ends
        });
    }
    mark_chords(&mut notes, LEGATO_MS * u64::from(rate_hz) / 1000);
    notes
}

/// Marks notes that sound at the same time as another one for longer than `legato_frames`, and ends
/// the others where the next begins.
fn mark_chords(notes: &mut [Played], legato_frames: u64) {
    // Of those before: where the last of them ends, and which one it is.
    let mut last: Option<usize> = None;
    for place in 0..notes.len() {
        let start = notes[place].start_frame;
        if let Some(before) = last
            && notes[before].end_frame > start
        {
            let is_chord = notes[before].end_frame - start > legato_frames
                || start - notes[before].start_frame <= legato_frames;
            if is_chord {
                notes[place].flaw.get_or_insert(Reason::Chord);
                notes[before].flaw.get_or_insert(Reason::Chord);
            } else {
                notes[before].end_frame = start;
            }
        }
        if last.is_none_or(|before| notes[before].end_frame <= notes[place].end_frame) {
            last = Some(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_HZ: u32 = 1000;

    fn on(frame: u64, key: u8) -> Event {
        Event { frame, kind: EventKind::NoteOn { channel: 0, key, velocity: 90 } }
    }

    fn off(frame: u64, key: u8) -> Event {
        Event { frame, kind: EventKind::NoteOff { channel: 0, key } }
    }

    fn pedal(frame: u64, down: bool) -> Event {
        Event { frame, kind: EventKind::Pedal { channel: 0, down } }
    }

    fn bend(frame: u64, semitones: f32) -> Event {
        Event { frame, kind: EventKind::Bend { channel: 0, semitones } }
    }

    /// (start, end, key, flaw)
    fn read(events: &[Event]) -> Vec<(u64, u64, u8, Option<Reason>)> {
        let notes = notes(events, RATE_HZ);
        notes.iter().map(|n| (n.start_frame, n.end_frame, n.key, n.flaw)).collect()
    }

    #[test]
    fn notes_end_where_key_and_pedal_are_let_go() {
        let events = [
            on(0, 60),
            off(300, 60),
            pedal(400, true),
            on(500, 62),
            off(600, 62),
            pedal(900, false),
        ];
        assert_eq!(read(&events), [(0, 300, 60, None), (500, 900, 62, None)]);
        // Struck again while the pedal holds it.
        let events = [pedal(0, true), on(0, 60), off(100, 60), on(500, 60), off(700, 60)];
        let events = [&events[..], &[pedal(900, false)]].concat();
        assert_eq!(read(&events), [(0, 500, 60, None), (500, 900, 60, None)]);
    }

    #[test]
    fn legato_is_no_chord() {
        let events =
            [on(0, 60), on(300, 62), off(330, 60), on(600, 64), off(651, 62), off(900, 64)];
        let chord = Some(Reason::Chord);
        assert_eq!(
            read(&events),
            [(0, 300, 60, None), (300, 651, 62, chord), (600, 900, 64, chord)]
        );
        // Struck together, however short; and a bass note under all of it.
        assert!(
            read(&[on(0, 60), on(9, 64), off(40, 60), off(500, 64)]).iter().all(|n| n.3 == chord)
        );
        let events =
            [on(0, 36), on(100, 60), off(200, 60), on(800, 62), off(900, 62), off(950, 36)];
        assert!(read(&events).iter().all(|note| note.3 == chord));
    }

    #[test]
    fn bent_notes_are_marked() {
        let events =
            [on(0, 60), bend(50, 0.5), off(90, 60), on(200, 62), bend(210, 0.0), off(300, 62)];
        let events = [&events[..], &[on(400, 64), off(500, 64)]].concat();
        let flaws: Vec<_> = read(&events).iter().map(|note| note.3).collect();
        assert_eq!(flaws, [Some(Reason::Bent), Some(Reason::Bent), None]);
    }
}
