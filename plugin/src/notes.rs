//! A host's note events become the engine's.
//!
//! Hosts name notes by channel and key, by an id of their own, or by wildcards that stand for any.
//! What is down is remembered, so that a wildcard lets go of what it means and of nothing else.

use nice_plug::midi::{Channel, Key, VoiceID};
use nice_plug::prelude::*;
use wavenet_engine::synth::EventKind;

/// Controllers (MIDI 1.0) that mean something here.
const SUSTAIN: u8 = 64;
const ALL_SOUND_OFF: u8 = 120;
const RESET_CONTROLLERS: u8 = 121;
const ALL_NOTES_OFF: u8 = 123;

/// Ids of the notes whose keys are down.
#[derive(Debug)]
pub(crate) struct Notes {
    /// Shape: `[channel][key]`.
    down: Box<[[Option<VoiceID>; 128]; 16]>,
}

/// What a note event speaks of.
#[derive(Debug, Clone, Copy)]
struct Whom {
    id: VoiceID,
    channel: Channel,
    key: Key,
}

impl Whom {
    fn means(&self, id: VoiceID, channel: u8, key: u8) -> bool {
        let same_id = match (self.id, id) {
            (VoiceID::ID(this), VoiceID::ID(that)) => this == that,
            _ => true,
        };
        same_id
            && self.channel.number().is_none_or(|number| number & 15 == channel)
            && self.key.number().is_none_or(|number| number & 127 == key)
    }
}

impl Notes {
    pub(crate) fn new() -> Self {
        Self { down: Box::new([[None; 128]; 16]) }
    }

    /// Nothing is down. Real-time safe.
    pub(crate) fn reset(&mut self) {
        self.down.as_flattened_mut().fill(None);
    }

    /// Calls `emit` for what an event means to the engine. Real-time safe.
    pub(crate) fn translate<S>(
        &mut self,
        event: &NoteEvent<S>,
        bend_range_semitones: i32,
        mut emit: impl FnMut(EventKind),
    ) {
        match *event {
            NoteEvent::NoteOn { voice_id, channel, key, velocity, .. } => {
                let (Some(channel), Some(key)) = (channel.number(), key.number()) else {
                    // A note of no key cannot be played.
                    return;
                };
                let (channel, key) = (channel & 15, key & 127);
                self.down[usize::from(channel)][usize::from(key)] = Some(voice_id);
                // A CLAP note of velocity 0 is a very soft note, and not the end of one.
                let velocity = ((velocity * 127.0).round() as u8).clamp(1, 127);
                emit(EventKind::NoteOn { channel, key, velocity });
            }
            NoteEvent::NoteOff { voice_id, channel, key, .. } => {
                let whom = Whom { id: voice_id, channel, key };
                self.let_go(whom, |channel, key| emit(EventKind::NoteOff { channel, key }));
            }
            NoteEvent::Choke { voice_id, channel, key, .. } => {
                let whom = Whom { id: voice_id, channel, key };
                self.let_go(whom, |channel, key| emit(EventKind::Choke { channel, key }));
                // Also what the pedal holds, or what fades: no key is down for it.
                match (voice_id, channel.number(), key.number()) {
                    (_, Some(channel), Some(key)) => {
                        let (channel, key) = (channel & 15, key & 127);
                        if self.down[usize::from(channel)][usize::from(key)].is_none() {
                            emit(EventKind::Choke { channel, key });
                        }
                    }
                    (VoiceID::ID(_), ..) => {}
                    _ => emit(EventKind::AllNotesOff),
                }
            }
            NoteEvent::MidiPitchBend { channel, value, .. } => {
                let semitones = (value * 2.0 - 1.0) * bend_range_semitones as f32;
                emit(EventKind::Bend { channel: channel & 15, semitones });
            }
            NoteEvent::MidiProgramChange { channel, program, .. } => {
                emit(EventKind::Program { channel: channel & 15, program });
            }
            NoteEvent::MidiCC { channel, cc, value, .. } => match cc {
                SUSTAIN => emit(EventKind::Pedal { channel: channel & 15, down: value >= 0.5 }),
                RESET_CONTROLLERS => {
                    emit(EventKind::Pedal { channel: channel & 15, down: false });
                    emit(EventKind::Bend { channel: channel & 15, semitones: 0.0 });
                }
                ALL_SOUND_OFF | ALL_NOTES_OFF => {
                    self.reset();
                    emit(EventKind::AllNotesOff);
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// Calls `emit` with channel and key of every note that is meant and down.
    fn let_go(&mut self, whom: Whom, mut emit: impl FnMut(u8, u8)) {
        for (channel, keys) in (0..).zip(self.down.iter_mut()) {
            for (key, id) in (0..).zip(keys.iter_mut()) {
                if id.is_some_and(|id| whom.means(id, channel, key)) {
                    *id = None;
                    emit(channel, key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(id: i32, channel: u8, key: u8, velocity: f32) -> NoteEvent<()> {
        let (channel, key) = (Channel::Number(channel), Key::Number(key));
        NoteEvent::NoteOn { timing: 0, voice_id: VoiceID::ID(id), channel, key, velocity }
    }

    fn off(voice_id: VoiceID, channel: Channel, key: Key) -> NoteEvent<()> {
        NoteEvent::NoteOff { timing: 0, voice_id, channel, key, velocity: 0.0 }
    }

    fn translated(notes: &mut Notes, event: NoteEvent<()>) -> Vec<EventKind> {
        let mut kinds = Vec::new();
        notes.translate(&event, 2, |kind| kinds.push(kind));
        kinds
    }

    fn keys_let_go(notes: &mut Notes, event: NoteEvent<()>) -> Vec<(u8, u8)> {
        translated(notes, event)
            .into_iter()
            .map(|kind| match kind {
                EventKind::NoteOff { channel, key } => (channel, key),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_wildcard_lets_go_of_what_it_means() {
        let chord = || {
            let mut notes = Notes::new();
            for (id, channel, key) in [(1, 0, 60), (2, 0, 64), (3, 1, 60)] {
                translated(&mut notes, on(id, channel, key, 0.5));
            }
            notes
        };
        let any = VoiceID::Wildcard;
        let all = off(any, Channel::Wildcard, Key::Wildcard);
        assert_eq!(keys_let_go(&mut chord(), all), [(0, 60), (0, 64), (1, 60)]);
        let channel = off(any, Channel::Number(0), Key::Wildcard);
        assert_eq!(keys_let_go(&mut chord(), channel), [(0, 60), (0, 64)]);
        let id = off(VoiceID::ID(2), Channel::Wildcard, Key::Wildcard);
        assert_eq!(keys_let_go(&mut chord(), id), [(0, 64)]);
        let other = off(VoiceID::ID(9), Channel::Number(0), Key::Number(60));
        assert_eq!(keys_let_go(&mut chord(), other), []);
        let mut notes = chord();
        assert_eq!(keys_let_go(&mut notes, all).len(), 3);
        assert_eq!(keys_let_go(&mut notes, all), []);
    }

    #[test]
    fn a_choke_ends_what_it_means_and_nothing_else() {
        let choke = |voice_id, channel, key| NoteEvent::Choke { timing: 0, voice_id, channel, key };
        let (any, any_channel, any_key) = (VoiceID::Wildcard, Channel::Wildcard, Key::Wildcard);
        let mut notes = Notes::new();
        for (id, channel, key) in [(1, 0, 60), (2, 0, 64)] {
            translated(&mut notes, on(id, channel, key, 0.5));
        }
        let cut = |channel, key| EventKind::Choke { channel, key };
        let by_id = choke(VoiceID::ID(2), any_channel, any_key);
        assert_eq!(translated(&mut notes, by_id), [cut(0, 64)]);
        // Once more, or the pedal holds it.
        let by_key = choke(any, Channel::Number(0), Key::Number(64));
        assert_eq!(translated(&mut notes, by_key), [cut(0, 64)]);
        // Another note has taken its key.
        let stale = choke(VoiceID::ID(7), Channel::Number(0), Key::Number(60));
        assert_eq!(translated(&mut notes, stale), []);
        let all = choke(any, any_channel, any_key);
        assert_eq!(translated(&mut notes, all), [cut(0, 60), EventKind::AllNotesOff]);
    }

    #[test]
    fn velocity_0_is_a_note_and_not_its_end() {
        let kinds = translated(&mut Notes::new(), on(1, 0, 60, 0.0));
        assert_eq!(kinds, [EventKind::NoteOn { channel: 0, key: 60, velocity: 1 }]);
        let kinds = translated(&mut Notes::new(), on(1, 0, 60, f32::NAN));
        assert_eq!(kinds, [EventKind::NoteOn { channel: 0, key: 60, velocity: 1 }]);
    }

    #[test]
    fn wheel_and_pedal() {
        let mut notes = Notes::new();
        let bend = NoteEvent::MidiPitchBend { timing: 0, channel: 3, value: 1.0 };
        assert_eq!(translated(&mut notes, bend), [EventKind::Bend { channel: 3, semitones: 2.0 }]);
        let pedal = NoteEvent::MidiCC { timing: 0, channel: 0, cc: 64, value: 1.0 };
        assert_eq!(translated(&mut notes, pedal), [EventKind::Pedal { channel: 0, down: true }]);
    }
}
