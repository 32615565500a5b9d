//! One lane's note: what it plays, how far it is, how loud.

use super::envelope::Envelope;
use super::varispeed::Tape;
use crate::conditioning::{Finish, NoteState};
use crate::sampling::Philox;

/// How a voice's key is heard.
#[derive(Debug, Clone)]
pub(super) enum Pitch {
    /// The model is told.
    Told(NoteState),
    /// The model knows no pitch: it is played faster or slower.
    Tape(Tape),
}

/// What a lane plays. A lane at rest keeps its memory.
#[derive(Debug, Clone)]
pub(super) struct Voice {
    pub(super) sounding: bool,
    pub(super) channel: u8,
    pub(super) key: u8,
    /// Number of the note since reset: the order of mixing and of stealing.
    pub(super) number: u64,
    pub(super) class: usize,
    pub(super) draws: Philox,
    /// Samples that the model has made for this note.
    pub(super) made: u64,
    pub(super) envelope: Envelope,
    /// The key is up, but the pedal holds the note.
    pub(super) held_by_pedal: bool,
    pub(super) velocity_gain: f32,
    pub(super) last_code: u8,
    /// What becomes of its sample: unchanged unless the model is told the note.
    pub(super) finish: Finish,
    pub(super) pitch: Pitch,
    /// The last output, for a soft end where the voice is stolen.
    pub(super) last_output: f32,
}

impl Voice {
    pub(super) fn at_rest(pitch: Pitch, silence: u8) -> Self {
        Self {
            sounding: false,
            channel: 0,
            key: 0,
            number: 0,
            class: 0,
            draws: Philox::new(0, 0),
            made: 0,
            envelope: Envelope::new(),
            held_by_pedal: false,
            velocity_gain: 1.0,
            last_code: silence,
            finish: Finish::UNCHANGED,
            pitch,
            last_output: 0.0,
        }
    }

    /// Whether the key is still down.
    pub(super) fn is_held(&self) -> bool {
        self.sounding && !self.envelope.is_released() && !self.held_by_pedal
    }

    /// Rank for making room: the oldest released first, then the oldest.
    pub(super) fn rank(&self) -> (bool, u64) {
        (!self.envelope.is_released(), self.number)
    }
}
