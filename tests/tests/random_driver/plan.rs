//! What a round does: a pure function of the seed and the round's number.

use std::ops::Range;

use wavenet_engine::Philox;
use wavenet_engine::stream::StreamOptions;
use wavenet_engine::synth::{Event, EventKind, Parameter};

/// How the audio side calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drive {
    /// By the clock, forbidden to call the system.
    Clock,
    /// Said to play, called as fast as it can.
    Hurry,
    /// Said to render.
    Offline,
    /// Said to render, in order and undisturbed, and compared with the renderer without threads.
    Bounce,
}

/// One round.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) drive: Drive,
    /// Which model begins.
    pub(crate) model: usize,
    pub(crate) rate_hz: u32,
    pub(crate) voices: usize,
    pub(crate) seed: u64,
    pub(crate) options: StreamOptions,
    pub(crate) score: Score,
    /// What the other side does meanwhile.
    pub(crate) actions: Vec<Action>,
    pub(crate) player_goes_first: bool,
}

/// What the audio side does.
#[derive(Debug, Default)]
pub(crate) struct Score {
    pub(crate) calls: Vec<Call>,
    pub(crate) events: Vec<Event>,
}

/// One call of the player.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) frames: usize,
    /// Of the score's events.
    pub(crate) events: Range<usize>,
    /// Calls of reset before it.
    pub(crate) resets: u32,
    /// How much later than due it comes.
    pub(crate) pause_us: u32,
}

/// Something that the control side does.
#[derive(Debug)]
pub(crate) enum Action {
    Rest { us: u32 },
    Send(EventKind),
    Status,
    Load { model: usize, voices: usize, rate_hz: u32 },
    Leave,
}

const RATES_HZ: [u32; 16] = [
    8_000, 11_025, 12_345, 16_000, 22_050, 24_000, 32_000, 37_800, 44_100, 44_100, 48_000, 48_000,
    50_000, 88_200, 96_000, 192_000,
];
const STRANGE: [f32; 12] = [
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    1e-45,
    -1e-45,
    0.0,
    -0.0,
    1e9,
    -1e9,
];

/// Random choices, one after the other.
pub(crate) struct Dice {
    draws: Philox,
    thrown: u64,
}

impl Dice {
    pub(crate) fn new(seed: u64, round: u64) -> Self {
        Self { draws: Philox::new(seed, round), thrown: 0 }
    }

    fn draw(&mut self) -> u32 {
        self.thrown += 1;
        self.draws.draw(self.thrown)
    }

    /// From 0 to `end - 1`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        ((u64::from(self.draw()) * end as u64) >> 32) as usize
    }

    /// Once in so many throws.
    fn once_in(&mut self, throws: usize) -> bool {
        self.below(throws) == 0
    }

    fn one_of<T: Copy>(&mut self, things: &[T]) -> T {
        things[self.below(things.len())]
    }

    /// From 1 to `most`, small ones as likely as large ones.
    fn size(&mut self, most: usize) -> usize {
        let bits = self.below(most.ilog2() as usize + 1);
        ((1 << bits) + self.below(1 << bits)).min(most)
    }

    /// A value between two, or any that a float can be.
    fn value(&mut self, low: f32, high: f32) -> f32 {
        match self.below(8) {
            0 => self.one_of(&STRANGE),
            1 => f32::from_bits(self.draw()),
            _ => low + (high - low) * (self.draw() as f32 / 4_294_967_296.0),
        }
    }

    /// A MIDI key most of the time; one of few, so that they are struck again.
    fn key(&mut self) -> u8 {
        if self.once_in(6) { self.draw() as u8 } else { 36 + 5 * self.below(12) as u8 }
    }

    fn channel(&mut self) -> u8 {
        if self.once_in(6) { self.draw() as u8 } else { self.below(3) as u8 }
    }

    fn parameter(&mut self) -> Parameter {
        match self.below(10) {
            0 => Parameter::Temperature(self.value(0.0, 2.0)),
            1 => Parameter::TopP(self.value(0.0, 1.0)),
            2 => Parameter::Seed(u64::from(self.draw()) << 17),
            3 => Parameter::Class(if self.once_in(3) { usize::MAX } else { self.below(3) }),
            4 => Parameter::AttackMs(self.value(0.0, 50.0)),
            5 => Parameter::DecayMs(self.value(0.0, 50.0)),
            6 => Parameter::Sustain(self.value(0.0, 1.0)),
            7 => Parameter::ReleaseMs(self.value(0.0, 100.0)),
            8 => Parameter::Voices(self.below(70)),
            _ => Parameter::GainDb(self.value(-60.0, 24.0)),
        }
    }

    fn kind(&mut self) -> EventKind {
        let channel = self.channel();
        match self.below(24) {
            0..=9 => EventKind::NoteOn { channel, key: self.key(), velocity: self.draw() as u8 },
            10..=14 => EventKind::NoteOff { channel, key: self.key() },
            15 | 16 => EventKind::Pedal { channel, down: self.once_in(2) },
            17 => EventKind::Program { channel, program: self.value(0.0, 128.0) as u8 },
            18 => EventKind::Bend { channel, semitones: self.value(-3.0, 3.0) },
            19 => EventKind::Drone,
            20 if self.once_in(2) => EventKind::Choke { channel, key: self.key() },
            21 if self.once_in(2) => EventKind::AllNotesOff,
            22 if self.once_in(2) => EventKind::Reset,
            _ => EventKind::Set(self.parameter()),
        }
    }

    /// Events of a block: a few, sometimes thousands.
    fn events(&mut self, frames: usize, tidy: bool) -> Vec<Event> {
        let count = match self.below(2_000) {
            _ if tidy && frames == 0 => 0,
            0 if !tidy => self.below(10_000),
            1..1_000 => 0,
            _ => self.below(3 + frames / 256),
        };
        let mut events: Vec<Event> = (0..count)
            .map(|_| {
                let frame = match self.below(16) {
                    0 if !tidy => u64::from(self.draw()) << self.below(33),
                    1 if !tidy => (frames + self.below(frames + 1)) as u64,
                    _ => self.below(frames) as u64,
                };
                Event { frame, kind: self.kind() }
            })
            .collect();
        if tidy || !self.once_in(4) {
            events.sort_by_key(|event| event.frame);
        }
        events
    }

    fn score(&mut self, drive: Drive, rate_hz: u32, options: StreamOptions) -> Score {
        let kind = EventKind::NoteOn { channel: 0, key: 60, velocity: 100 };
        let events = vec![Event { frame: 0, kind }];
        let first = Call { frames: 1, events: 0..1, resets: 0, pause_us: 0 };
        let mut score = Score { events, calls: vec![first] };
        // Longer than the latency, or nothing would be heard.
        let latency = options.max_block_frames + options.margin_frames;
        let mut left = latency + rate_hz as usize / 20 + self.below(rate_hz as usize / 3);
        // A block longer than the latency cannot come by the clock.
        let longest = match drive {
            Drive::Clock => latency,
            _ => 2 * options.max_block_frames,
        };
        let always_full = self.once_in(3);
        while left > 0 && score.calls.len() < 6_000 {
            let frames = match self.below(16) {
                0 => self.size(longest),
                1 => 0,
                _ if always_full => options.max_block_frames,
                _ => 1 + self.below(options.max_block_frames),
            };
            let frames = frames.min(left).min(longest);
            left -= frames;
            let start = score.events.len();
            let events = self.events(frames, drive == Drive::Bounce);
            score.events.extend(events);
            // Each silences a latency.
            let rarely = 40.max(4 * latency / options.max_block_frames);
            let resets = if self.once_in(rarely) { 1 + self.below(2) as u32 } else { 0 };
            let pause_us = if self.once_in(30) { self.size(8_000) as u32 } else { 0 };
            score.calls.push(Call { frames, events: start..score.events.len(), resets, pause_us });
        }
        score
    }

    fn actions(&mut self, models: usize, rate_hz: u32) -> Vec<Action> {
        let count = self.below(60);
        (0..count)
            .map(|_| match self.below(40) {
                0..=15 => Action::Rest { us: self.size(10_000) as u32 },
                16..=30 => Action::Send(self.kind()),
                31..=36 => Action::Status,
                37 | 38 => Action::Load {
                    model: self.below(models),
                    voices: self.size(4),
                    rate_hz: if self.once_in(8) { self.one_of(&RATES_HZ) } else { rate_hz },
                },
                _ => Action::Leave,
            })
            .collect()
    }
}

/// The plan of a round with one of so many models.
pub(crate) fn plan(seed: u64, round: u64, models: usize) -> Plan {
    let mut dice = Dice::new(seed, round);
    // Each way of driving and each model comes early and often.
    let drives = [Drive::Clock, Drive::Bounce, Drive::Hurry, Drive::Offline];
    let drive = drives[(round % 4) as usize];
    let model = (round / 4) as usize % models;
    let rate_hz = if dice.once_in(8) {
        8_000 + 125 * dice.below(1_472) as u32
    } else {
        dice.one_of(&RATES_HZ)
    };
    let options = StreamOptions {
        max_block_frames: dice.size(4_096),
        margin_frames: if dice.once_in(6) { 0 } else { dice.size(rate_hz as usize / 8) },
    };
    let score = dice.score(drive, rate_hz, options);
    let actions = match drive {
        Drive::Bounce => Vec::new(),
        _ => dice.actions(models, rate_hz),
    };
    Plan {
        drive,
        model,
        rate_hz,
        // The first model is as large as those that people play.
        voices: dice.size(if model == 0 { 3 } else { 16 }),
        seed: u64::from(dice.draw()),
        options,
        score,
        actions,
        player_goes_first: dice.once_in(2),
    }
}
