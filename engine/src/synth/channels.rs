//! What MIDI's sixteen channels remember: pedal, wheel, program.

use super::event::EventKind;

/// How many there are.
pub(super) const COUNT: usize = 16;

/// A channel's own number: one beyond the last counts from the first again.
pub(super) fn own(channel: u8) -> u8 {
    channel % COUNT as u8
}

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

/// All channels, by any number (see [`own`]).
#[derive(Debug, Clone, Default)]
pub(super) struct Channels([Channel; COUNT]);

impl Channels {
    pub(super) fn of(&self, channel: u8) -> &Channel {
        &self.0[usize::from(own(channel))]
    }

    pub(super) fn of_mut(&mut self, channel: u8) -> &mut Channel {
        &mut self.0[usize::from(own(channel))]
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
