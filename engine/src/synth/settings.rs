//! What a player may set, and what may change while it sounds.

use super::envelope::Shape;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::sampling::Sampling;

/// The most voices of one synth.
pub const MAX_VOICES: usize = 64;

/// Settings of a synth.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How codes are chosen.
    pub sampling: Sampling,
    /// Key of all draws.
    pub seed: u64,
    /// Index of the class of notes to come, for models that have classes.
    pub class: usize,
    /// Notes that can sound at once, 1 to 64; one more takes the place of the oldest.
    pub voices: usize,
    /// Rise after note-on.
    pub attack_ms: f32,
    /// Fall from full level to the sustain level.
    pub decay_ms: f32,
    /// Level while the key is held, 0 to 1.
    pub sustain: f32,
    /// Fade after note-off.
    pub release_ms: f32,
    /// Loudness of the whole.
    pub gain_db: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sampling: Sampling::default(),
            seed: 1,
            class: 0,
            voices: 8,
            attack_ms: 0.0,
            decay_ms: 0.0,
            sustain: 1.0,
            release_ms: 150.0,
            gain_db: 0.0,
        }
    }
}

/// A setting that may change while the synth sounds. Values out of range are brought into it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Parameter {
    /// See [`Sampling::temperature`].
    Temperature(f32),
    /// See [`Sampling::top_p`].
    TopP(f32),
    /// See [`Settings::seed`]; for notes to come.
    Seed(u64),
    /// See [`Settings::class`]; for notes to come.
    Class(usize),
    /// See [`Settings::voices`]; not above those that the synth has room for. For notes to come.
    Voices(usize),
    /// See [`Settings::attack_ms`].
    AttackMs(f32),
    /// See [`Settings::decay_ms`].
    DecayMs(f32),
    /// See [`Settings::sustain`].
    Sustain(f32),
    /// See [`Settings::release_ms`].
    ReleaseMs(f32),
    /// See [`Settings::gain_db`].
    GainDb(f32),
}

/// Longest attack, decay and release.
const MAX_MS: f32 = 60_000.0;
/// Loudest and softest gain.
const MAX_GAIN_DB: f32 = 24.0;
const MIN_GAIN_DB: f32 = -120.0;
/// Hottest sampling.
const MAX_TEMPERATURE: f32 = 10.0;

impl Settings {
    /// Checks every range.
    pub(super) fn validate(&self, config: &Config) -> Result<()> {
        let wrong = |what: String| Err(Error::Unsupported(what));
        if !(1..=MAX_VOICES).contains(&self.voices) {
            return wrong(format!("{} voices; 1 to {MAX_VOICES}", self.voices));
        }
        if !(0.0..=MAX_TEMPERATURE).contains(&self.sampling.temperature) {
            return wrong("a temperature outside 0 to 10".into());
        }
        for (name, share) in [("top-p", self.sampling.top_p), ("sustain", self.sustain)] {
            if !(0.0..=1.0).contains(&share) {
                return wrong(format!("a {name} outside 0 to 1"));
            }
        }
        let times =
            [("attack", self.attack_ms), ("decay", self.decay_ms), ("release", self.release_ms)];
        for (name, ms) in times {
            if !(0.0..=MAX_MS).contains(&ms) {
                return wrong(format!("a {name} outside 0 to 60,000 ms"));
            }
        }
        if !(MIN_GAIN_DB..=MAX_GAIN_DB).contains(&self.gain_db) {
            return wrong("a gain outside -120 to 24 dB".into());
        }
        if self.class >= config.classes.len().max(1) {
            return wrong(format!("class number {}", self.class));
        }
        Ok(())
    }

    /// Changes one setting, brought into its range. Real-time safe.
    pub fn set(&mut self, parameter: Parameter, config: &Config) {
        // A NaN falls to the lower end.
        let within = |value: f32, low: f32, high: f32| value.max(low).min(high);
        match parameter {
            Parameter::Temperature(t) => {
                self.sampling.temperature = within(t, 0.0, MAX_TEMPERATURE)
            }
            Parameter::TopP(p) => self.sampling.top_p = within(p, 0.0, 1.0),
            Parameter::Seed(seed) => self.seed = seed,
            Parameter::Class(class) => {
                self.class = class.min(config.classes.len().saturating_sub(1));
            }
            Parameter::Voices(voices) => self.voices = voices.clamp(1, MAX_VOICES),
            Parameter::AttackMs(ms) => self.attack_ms = within(ms, 0.0, MAX_MS),
            Parameter::DecayMs(ms) => self.decay_ms = within(ms, 0.0, MAX_MS),
            Parameter::Sustain(level) => self.sustain = within(level, 0.0, 1.0),
            Parameter::ReleaseMs(ms) => self.release_ms = within(ms, 0.0, MAX_MS),
            Parameter::GainDb(db) => self.gain_db = within(db, MIN_GAIN_DB, MAX_GAIN_DB),
        }
    }

    pub(super) fn shape(&self, rate_hz: u32) -> Shape {
        // The nearest frame: a host that turns 150 ms into a share of a knob's way and back changes nothing.
        let frames = |ms: f32| libm::round(f64::from(ms) * f64::from(rate_hz) / 1000.0) as u32;
        Shape {
            attack_frames: frames(self.attack_ms),
            decay_frames: frames(self.decay_ms),
            sustain: self.sustain,
            release_frames: frames(self.release_ms),
        }
    }

    /// The gain as a factor.
    pub(super) fn gain(&self) -> f32 {
        if self.gain_db == 0.0 { 1.0 } else { libm::exp10(f64::from(self.gain_db) / 20.0) as f32 }
    }
}
