//! What MIDI's sixteen channels remember: pedal, wheel, program.

use super::event::EventKind;

const CHANNELS: usize = 16;

/// How the pedal, wheel and program of a channel stand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Channel {
    /// Whether the sustain pedal is down.
    pub(super) pedal: bool,
    /// The wheel's bend.
    pub(super) bend_semitones: f32,
    /// The class of a channel that has its own.
    pub(super) program: Option<u8>,
}

/// All channels; a number beyond the last counts from the first again.
#[derive(Debug, Clone, Default)]
pub(super) struct Channels([Channel; CHANNELS]);

impl Channels {
    pub(super) fn of(&self, channel: u8) -> &Channel {
        &self.0[usize::from(channel) % CHANNELS]
    }

    pub(super) fn of_mut(&mut self, channel: u8) -> &mut Channel {
        &mut self.0[usize::from(channel) % CHANNELS]
    }

    pub(super) fn lift_pedals(&mut self) {
        self.0.iter_mut().for_each(|channel| channel.pedal = false);
    }

    pub(super) fn forget_programs(&mut self) {
        self.0.iter_mut().for_each(|channel| channel.program = None);
    }

    /// The events that bring channels at rest to where these are.
    pub(super) fn events(&self) -> impl Iterator<Item = EventKind> + '_ {
        (0..).zip(&self.0).flat_map(|(channel, state)| {
            let Channel { pedal, bend_semitones: semitones, program } = *state;
            let pedal = pedal.then_some(EventKind::Pedal { channel, down: true });
            let bend = (semitones != 0.0).then_some(EventKind::Bend { channel, semitones });
            let program = program.map(|program| EventKind::Program { channel, program });
            pedal.into_iter().chain(bend).chain(program)
        })
    }
}
