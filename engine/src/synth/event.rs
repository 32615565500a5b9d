//! What can happen to a synth, and when.

use super::Parameter;

/// Something that happens at a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event {
    /// Frame since the start, at the rate of whoever takes the event.
    pub frame: u64,
    /// What happens.
    pub kind: EventKind,
}

/// What can happen. Channels are 0 to 15, keys MIDI keys (69 = A4). Those out of range are brought into
/// it: a channel by its lower four bits, a key above 127 as 127.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EventKind {
    /// A key goes down.
    NoteOn {
        /// Channel of the key.
        channel: u8,
        /// The key.
        key: u8,
        /// 0 to 127.
        velocity: u8,
    },
    /// A key goes up: its notes fade, or wait for the pedal.
    NoteOff {
        /// Channel of the key.
        channel: u8,
        /// The key.
        key: u8,
    },
    /// The notes of a key end at once, whatever pedal or release says.
    Choke {
        /// Channel of the key.
        channel: u8,
        /// The key.
        key: u8,
    },
    /// The sustain pedal goes down or up.
    Pedal {
        /// Channel of the pedal.
        channel: u8,
        /// Whether it is down.
        down: bool,
    },
    /// The pitch wheel moves; sounding and later notes of the channel follow.
    Bend {
        /// Channel of the wheel.
        channel: u8,
        /// Where to, in semitones.
        semitones: f32,
    },
    /// Notes to come on a channel are of the class of this number, if the model has so many; else, and
    /// after the next [`Parameter::Class`], of the one that is set.
    Program {
        /// The channel.
        channel: u8,
        /// From 0.
        program: u8,
    },
    /// A voice begins that sounds without end: the model as it is, or its root key.
    Drone,
    /// Every note fades.
    AllNotesOff,
    /// Everything is silent at once, and ordinals count from 0 again.
    Reset,
    /// A setting changes.
    Set(Parameter),
}
