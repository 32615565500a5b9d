//! What is played, and for how long: one note, a MIDI file, or a sound without notes.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use wavenet_engine::synth::{Event, EventKind};
use wavenet_engine::{Config, Recipe};

use crate::cli::RenderArgs;

/// Length of a note or drone when nobody says.
const DEFAULT_SECONDS: f64 = 5.0;
const DEFAULT_KEY: u8 = 69;
const DEFAULT_VELOCITY: u8 = 100;
/// The longest piece that is played without being cut by `--seconds`.
const MAX_HOURS: u64 = 24;

/// Events with their frames, and when to stop, at the file's rate.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// In order of time.
    pub events: Vec<Event>,
    /// Samples to write.
    pub frames: u64,
}

impl Score {
    /// What the arguments ask of a model with this config, in a file of `rate_hz`.
    ///
    /// # Errors
    /// If the MIDI file is not one, or the sound is shorter than one sample or longer than a day.
    pub fn new(args: &RenderArgs, config: &Config, rate_hz: u32) -> Result<Self> {
        let length = frames_of(args.seconds.unwrap_or(DEFAULT_SECONDS), rate_hz);
        let release = frames_of(f64::from(args.sound.release_ms) / 1000.0, rate_hz);
        let names_a_note = args.note.is_some() || args.velocity.is_some();
        let knows_notes = matches!(config.conditioning, Recipe::Note(_));

        let score = if let Some(path) = &args.midi {
            Self::of_midi_file(path, rate_hz, args.sound.release_ms, args.seconds)?
        } else if knows_notes || names_a_note {
            let key = args.note.unwrap_or_else(|| default_key(config));
            let velocity = args.velocity.unwrap_or(DEFAULT_VELOCITY);
            let on = EventKind::NoteOn { channel: 0, key, velocity };
            let off = EventKind::NoteOff { channel: 0, key };
            let events = vec![
                Event { frame: 0, kind: on },
                Event { frame: length.saturating_sub(release), kind: off },
            ];
            Self { events, frames: length }
        } else {
            Self { events: vec![Event { frame: 0, kind: EventKind::Drone }], frames: length }
        };
        ensure!(score.frames > 0, "that is shorter than one sample; ask for more with --seconds");
        Ok(score)
    }

    /// A whole MIDI file and the release after its last note, or no more than `seconds` of it.
    ///
    /// # Errors
    /// If the file is not one, or lasts longer than a day and is not cut.
    pub fn of_midi_file(
        path: &Path,
        rate_hz: u32,
        release_ms: f32,
        seconds: Option<f64>,
    ) -> Result<Self> {
        let events = wavenet_midi::read(path, rate_hz)?;
        let last = events.last().map_or(0, |event| event.frame);
        let whole = last.saturating_add(frames_of(f64::from(release_ms) / 1000.0, rate_hz));
        if whole > MAX_HOURS * 3600 * u64::from(rate_hz) && seconds.is_none() {
            bail!("the MIDI file lasts longer than {MAX_HOURS} hours; cut it with --seconds");
        }
        let asked = seconds.map_or(whole, |seconds| frames_of(seconds, rate_hz));
        Ok(Self { events, frames: asked.min(whole) })
    }
}

/// A time in frames.
pub(crate) fn frames_of(seconds: f64, rate_hz: u32) -> u64 {
    (seconds * f64::from(rate_hz)).round() as u64
}

/// A4 or the nearest key that was recorded; of a model without notes its own pitch.
fn default_key(config: &Config) -> u8 {
    match &config.conditioning {
        Recipe::None => config.root_key,
        Recipe::Note(recipe) => {
            let keys = || recipe.keys.iter().map(|table| table.key);
            match (keys().min(), keys().max()) {
                (Some(low), Some(high)) => DEFAULT_KEY.clamp(low, high),
                _ => DEFAULT_KEY,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use wavenet_engine::{KeyTable, NoteRecipe};

    fn score(options: &str, conditioning: Recipe, out_hz: u32) -> Result<Score> {
        let line = format!("wavenet render --out x.wav {options}");
        let Command::Render(args) = Cli::try_parse_from(line.split_whitespace())?.command else {
            bail!("not a render");
        };
        Score::new(&args, &Config { conditioning, ..Config::default() }, out_hz)
    }

    fn notes() -> Recipe {
        Recipe::Note(NoteRecipe::default())
    }

    #[test]
    fn a_note_is_held_until_its_release_fits() {
        let score = score("--seconds 2 --release-ms 500 --note 60", notes(), 48_000).unwrap();
        let on = EventKind::NoteOn { channel: 0, key: 60, velocity: 100 };
        let off = EventKind::NoteOff { channel: 0, key: 60 };
        let events = vec![Event { frame: 0, kind: on }, Event { frame: 72_000, kind: off }];
        assert_eq!(score, Score { events, frames: 96_000 });
    }

    #[test]
    fn the_default_key_is_one_that_the_model_has_heard() {
        let table = |key| KeyTable { key, start_turns: vec![0.0; 16], ..KeyTable::default() };
        for (keys, expected) in
            [(vec![], 69), (vec![table(20), table(40)], 40), (vec![table(20), table(90)], 69)]
        {
            let recipe = Recipe::Note(NoteRecipe { keys, ..NoteRecipe::default() });
            let events = score("", recipe, 16_000).unwrap().events;
            assert_eq!(
                events[0].kind,
                EventKind::NoteOn { channel: 0, key: expected, velocity: 100 }
            );
        }
    }

    #[test]
    fn a_model_without_notes_drones_until_it_is_given_one() {
        let drone = score("", Recipe::None, 16_000).unwrap();
        assert_eq!(drone.events, [Event { frame: 0, kind: EventKind::Drone }]);
        assert_eq!(drone.frames, 80_000);
        let note = score("--velocity 60", Recipe::None, 16_000).unwrap();
        let root = Config::default().root_key;
        let on = EventKind::NoteOn { channel: 0, key: root, velocity: 60 };
        assert_eq!(note.events[0].kind, on);
    }

    #[test]
    fn less_than_a_sample_is_refused() {
        assert!(score("--seconds 0.00001", notes(), 16_000).is_err());
        assert_eq!(score("--seconds 0.0001", notes(), 16_000).unwrap().frames, 2);
    }
}
