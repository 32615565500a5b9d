//! MIDI keyboards: every input there is, or those that were named.
//!
//! Each input has a thread of its own (midir's), which parses a message and puts the events in the
//! callback's queue. Inputs that come later are found by looking again now and then; those that went
//! are let go, and their notes with them.

use anyhow::{Result, bail};
use midir::{Ignore, MidiInput, MidiInputConnection};
use midly::MidiMessage;
use midly::live::LiveEvent;
use wavenet_engine::synth::EventKind;
use wavenet_midi::{BEND_RANGE_SEMITONES, SUSTAIN};

use super::callback::Live;

/// Controllers that silence: all sound off, all notes off.
const SILENCES: [u8; 2] = [120, 123];
const CLIENT: &str = "wavenet";

/// What a MIDI message asks for, if it asks for anything that a synth here can do. Any bytes may come.
pub fn event(bytes: &[u8]) -> Option<EventKind> {
    let LiveEvent::Midi { channel, message } = LiveEvent::parse(bytes).ok()? else {
        return None;
    };
    let channel = channel.as_int();
    Some(match message {
        MidiMessage::NoteOn { key, vel } if vel.as_int() > 0 => {
            EventKind::NoteOn { channel, key: key.as_int(), velocity: vel.as_int() }
        }
        MidiMessage::NoteOn { key, .. } | MidiMessage::NoteOff { key, .. } => {
            EventKind::NoteOff { channel, key: key.as_int() }
        }
        MidiMessage::Controller { controller, value } if controller.as_int() == SUSTAIN => {
            EventKind::Pedal { channel, down: value.as_int() >= 64 }
        }
        MidiMessage::Controller { controller, .. } if SILENCES.contains(&controller.as_int()) => {
            EventKind::AllNotesOff
        }
        MidiMessage::PitchBend { bend } => {
            EventKind::Bend { channel, semitones: BEND_RANGE_SEMITONES * bend.as_f32() }
        }
        MidiMessage::ProgramChange { program } => {
            EventKind::Program { channel, program: program.as_int() }
        }
        _ => return None,
    })
}

/// Which inputs are listened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All, and those that come.
    All,
    /// None.
    None,
    /// Those with this in their names.
    Named(String),
}

/// The inputs that are connected.
pub struct MidiInputs {
    wanted: Wanted,
    live: Live,
    /// Identifier, name, and what keeps it connected.
    connected: Vec<(String, String, MidiInputConnection<()>)>,
}

impl MidiInputs {
    /// Connects what is wanted.
    ///
    /// # Errors
    /// If an input was named and there is none of that name.
    pub fn new(wanted: Wanted, live: Live) -> Result<Self> {
        let mut inputs = Self { wanted, live, connected: Vec::new() };
        inputs.look();
        if let Wanted::Named(name) = &inputs.wanted
            && inputs.connected.is_empty()
        {
            let there = match names() {
                names if names.is_empty() => "there is none".into(),
                names => format!("there is {}", names.join(", ")),
            };
            bail!("no MIDI input is called {name:?}; {there}");
        }
        Ok(inputs)
    }

    /// Connects inputs that are new, and lets go of those that went.
    pub fn look(&mut self) {
        if self.wanted == Wanted::None {
            return;
        }
        let Ok(input) = MidiInput::new(CLIENT) else {
            return;
        };
        let ports = input.ports();
        let before = self.connected.len();
        self.connected.retain(|(id, ..)| ports.iter().any(|port| port.id() == *id));
        if self.connected.len() < before {
            self.live.send(EventKind::AllNotesOff);
        }
        for port in ports {
            let (id, Ok(name)) = (port.id(), input.port_name(&port)) else {
                continue;
            };
            let wanted = match &self.wanted {
                Wanted::Named(wanted) => contains(&name, wanted),
                _ => is_an_instrument(&name),
            };
            if !wanted || self.connected.iter().any(|(other, ..)| *other == id) {
                continue;
            }
            // Each connection needs a client of its own.
            let Ok(mut client) = MidiInput::new(CLIENT) else {
                continue;
            };
            client.ignore(Ignore::All);
            let live = self.live.clone();
            let take = move |_, bytes: &[u8], _: &mut ()| event(bytes).map_or((), |e| live.send(e));
            if let Ok(connection) = client.connect(&port, "in", take, ()) {
                self.connected.push((id, name, connection));
            }
        }
    }

    /// Names of the inputs that are connected.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.connected.iter().map(|(_, name, _)| name.as_str())
    }
}

/// Names of all MIDI inputs of this machine.
pub fn names() -> Vec<String> {
    let Ok(input) = MidiInput::new(CLIENT) else {
        return Vec::new();
    };
    let ports = input.ports();
    ports.iter().filter_map(|port| input.port_name(port).ok()).collect()
}

/// ALSA's loopback port would play what other programs send to nobody.
fn is_an_instrument(name: &str) -> bool {
    !name.starts_with("Midi Through")
}

/// Whether a name has a part in it, in whatever case.
pub fn contains(name: &str, part: &str) -> bool {
    name.to_lowercase().contains(&part.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_become_events() {
        let on = |channel, key, velocity| EventKind::NoteOn { channel, key, velocity };
        for (bytes, expected) in [
            (&[0x90, 60, 100][..], Some(on(0, 60, 100))),
            (&[0x9F, 127, 1], Some(on(15, 127, 1))),
            (&[0x90, 60, 0], Some(EventKind::NoteOff { channel: 0, key: 60 })),
            (&[0x83, 60, 64], Some(EventKind::NoteOff { channel: 3, key: 60 })),
            (&[0xB0, 64, 63], Some(EventKind::Pedal { channel: 0, down: false })),
            (&[0xB0, 64, 64], Some(EventKind::Pedal { channel: 0, down: true })),
            (&[0xB2, 120, 0], Some(EventKind::AllNotesOff)),
            (&[0xB2, 123, 0], Some(EventKind::AllNotesOff)),
            (&[0xE1, 0, 64], Some(EventKind::Bend { channel: 1, semitones: 0.0 })),
            (&[0xE1, 0, 0], Some(EventKind::Bend { channel: 1, semitones: -2.0 })),
            (&[0xB0, 1, 5], None),
            (&[0xF8], None),
            (&[0xF0, 1, 2, 0xF7], None),
            (&[60, 100], None),
            (&[], None),
        ] {
            assert_eq!(event(bytes), expected, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_event_in_range_or_nothing(bytes: Vec<u8>, status in 0x80..=0xFF_u8) {
            let with_status: Vec<u8> = [status].into_iter().chain(bytes.iter().copied()).collect();
            for bytes in [&bytes, &with_status] {
                match event(bytes) {
                    Some(EventKind::NoteOn { channel, key, velocity }) => {
                        prop_assert!(channel < 16 && key < 128 && (1..128).contains(&velocity));
                    }
                    Some(EventKind::Bend { channel, semitones }) => {
                        prop_assert!(channel < 16 && semitones.abs() <= BEND_RANGE_SEMITONES);
                    }
                    _ => {}
                }
            }
        }
    }
}
