//! A random host: notes, wildcards, chokes, parameters, resets, flushes, states and activations, from
//! one seed, for `WAVENET_DRIVER_SECONDS` (10).

use std::time::{Duration, Instant};

use clack_host::prelude::ClapId;
use wavenet_engine::Philox;
use wavenet_tests::host::{Happening, Host};

use crate::{alone, small_file, state_of};
use wavenet_tests::counting::live_bytes;

/// Draws in a row.
struct Draws {
    philox: Philox,
    drawn: u64,
}

impl Draws {
    fn next(&mut self) -> u32 {
        self.drawn += 1;
        self.philox.draw(self.drawn)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn share(&mut self) -> f64 {
        f64::from(self.next()) / f64::from(u32::MAX)
    }

    fn maybe(&mut self, limit: usize) -> Option<u16> {
        (!self.one_in(4)).then(|| self.below(limit) as u16)
    }

    fn id(&mut self) -> Option<u32> {
        self.one_in(2).then(|| self.below(40) as u32)
    }

    /// From 1 kHz to 768 kHz, as often low as high, common or not.
    fn rate_hz(&mut self) -> f64 {
        match self.below(3) {
            0 => [8_000.0, 22_050.0, 44_100.0, 48_000.0, 96_000.0, 192_000.0][self.below(6)],
            1 => self.any_rate_hz(),
            _ => self.any_rate_hz().round(),
        }
    }

    fn any_rate_hz(&mut self) -> f64 {
        let octave = f64::from(1_000 << self.below(10));
        (octave * (1.0 + self.share())).min(768_000.0)
    }

    fn max_block(&mut self) -> usize {
        let octave = 1 << self.below(15);
        (octave + self.below(octave)).min(16_384)
    }

    fn happening(&mut self, parameters: &[(ClapId, String, f64, f64)]) -> Happening {
        match self.below(8) {
            0..3 => Happening::NoteOn {
                channel: self.below(16) as u16,
                key: self.below(128) as u16,
                id: self.id(),
                velocity: self.share(),
            },
            3 | 4 => {
                Happening::NoteOff { channel: self.maybe(16), key: self.maybe(128), id: self.id() }
            }
            5 => Happening::Choke { channel: self.maybe(16), key: self.maybe(128), id: self.id() },
            6 => {
                let status = [0x80, 0x90, 0xa0, 0xb0, 0xd0, 0xe0][self.below(6)];
                let controller = [64, 120, 121, 123, self.below(128)][self.below(5)];
                Happening::Midi([
                    status | self.below(16) as u8,
                    controller as u8,
                    self.below(128) as u8,
                ])
            }
            _ => {
                let (id, _, low, high) = &parameters[self.below(parameters.len())];
                let value = match self.below(10) {
                    0 => f64::NAN,
                    1 => 1e30,
                    2 => *low,
                    3 => *high,
                    _ => low + (high - low) * self.share(),
                };
                Happening::Set { id: *id, value }
            }
        }
    }
}

/// Plays at random until the time is over.
fn drive(draws: &mut Draws, host: &mut Host, states: &[Vec<u8>], until: Instant) {
    let parameters = host.parameters();
    let mut max_block = 256;
    host.activate(48_000.0, max_block);
    while Instant::now() < until {
        match draws.below(60) {
            0 => {
                max_block = draws.max_block();
                host.set_offline(draws.one_in(2));
                host.activate(draws.rate_hz(), max_block);
            }
            1 => assert!(host.load(&states[draws.below(states.len())])),
            2 => host.audio().reset(),
            3 => {
                let changes = [draws.happening(&parameters), draws.happening(&parameters)];
                host.flush(&changes);
            }
            4 => {
                host.audio().stop();
                host.audio().start();
            }
            5 => assert!(!host.save().is_empty()),
            6 => {
                host.deactivate();
                let change = draws.happening(&parameters);
                host.flush(&[change]);
                host.activate(draws.rate_hz(), max_block);
            }
            _ => {
                let frames = draws.below(max_block + 1);
                let mut events: Vec<(u32, Happening)> = (0..draws.below(6))
                    .map(|_| (draws.below(frames.max(1)) as u32, draws.happening(&parameters)))
                    .collect();
                events.sort_by_key(|&(frame, _)| frame);
                let out = host.audio().process(&events, frames);
                let good = out.iter().all(|sample| sample.abs() <= 1.0);
                assert!(good, "draw {}: {events:?}", draws.drawn);
            }
        }
    }
    host.deactivate();
}

#[test]
fn a_random_host_is_survived() {
    let _alone = alone();
    let seconds = std::env::var("WAVENET_DRIVER_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(10.0);
    let files: Vec<_> = (5..7).map(small_file).collect();
    let mut states: Vec<Vec<u8>> = files
        .iter()
        .map(|(_, path)| state_of(Some(path), serde_json::json!({ "voices": 4 })))
        .collect();
    states.push(state_of(Some(std::path::Path::new("/nowhere")), serde_json::json!({})));
    let mut draws = Draws { philox: Philox::new(1, 0), drawn: 0 };
    let began = Instant::now();
    let mut host = Host::default();
    assert!(host.load(&states[0]));
    // What is kept for ever is there after the first tenth.
    drive(&mut draws, &mut host, &states, began + Duration::from_secs_f64(seconds * 0.1));
    drop(host);
    let before = live_bytes();
    let mut host = Host::default();
    assert!(host.load(&states[0]));
    drive(&mut draws, &mut host, &states, began + Duration::from_secs_f64(seconds));
    drop(host);
    let more = live_bytes().saturating_sub(before);
    assert!(more < 200_000, "{more} bytes are left behind");
}
