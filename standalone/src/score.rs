//! What is played, and for how long: one note, a MIDI file, or a sound without notes.

use anyhow::{Result, bail, ensure};
use wavenet_engine::synth::{Event, EventKind};
use wavenet_engine::{Config, Recipe};

use crate::cli::RenderArgs;
use crate::midi_file;

/// Length of a note or drone when nobody says.
const DEFAULT_SECONDS: f64 = 5.0;
const DEFAULT_KEY: u8 = 69;
const DEFAULT_VELOCITY: u8 = 100;
/// The longest piece that is played without being cut by `--seconds`.
const MAX_HOURS: u64 = 24;

/// Events with their frames, and when to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// In order of time, at the model's rate.
    pub events: Vec<Event>,
    /// Samples to make at the model's rate.
    pub model_frames: u64,
    /// Samples to write at the file's rate.
    pub out_frames: u64,
}

impl Score {
    /// What the arguments ask of a model with this config, in a file of `out_hz`.
    ///
    /// # Errors
    /// If notes are asked of a model that has none, the MIDI file is not one, or the sound is
    /// shorter than one sample or longer than a day.
    pub fn new(args: &RenderArgs, config: &Config, out_hz: u32) -> Result<Self> {
        let model_hz = config.sample_rate_hz;
        let asked = args.seconds.map(|seconds| Length::of_seconds(seconds, model_hz, out_hz));
        let default = Length::of_seconds(DEFAULT_SECONDS, model_hz, out_hz);
        let release_frames = (f64::from(args.release_ms) * f64::from(model_hz) / 1000.0) as u64;

        let (events, length) = match (&config.conditioning, &args.midi) {
            (Recipe::None, midi) => {
                let asked_for_notes = [
                    ("--note", args.note.is_some()),
                    ("--velocity", args.velocity.is_some()),
                    ("--midi", midi.is_some()),
                ];
                if let Some((option, _)) = asked_for_notes.iter().find(|(_, asked)| *asked) {
                    bail!("this model knows no notes, it only drones: leave out {option}");
                }
                (vec![Event { frame: 0, kind: EventKind::Drone }], asked.unwrap_or(default))
            }
            (Recipe::Note(_), Some(path)) => {
                let events = midi_file::read(path, model_hz)?;
                let last = events.last().map_or(0, |event| event.frame);
                let whole = last.saturating_add(release_frames);
                let limit = MAX_HOURS * 3600 * u64::from(model_hz);
                if whole > limit && asked.is_none() {
                    bail!(
                        "the MIDI file lasts longer than {MAX_HOURS} hours; cut it with --seconds"
                    );
                }
                let whole = Length::of_frames(whole.min(limit), model_hz, out_hz);
                (events, asked.map_or(whole, |asked| asked.min(whole)))
            }
            (Recipe::Note(recipe), None) => {
                let length = asked.unwrap_or(default);
                let keys = &recipe.keys;
                let key = args.note.unwrap_or(match (keys.first(), keys.last()) {
                    (Some(low), Some(high)) => DEFAULT_KEY.clamp(low.key, high.key),
                    _ => DEFAULT_KEY,
                });
                let velocity = args.velocity.unwrap_or(DEFAULT_VELOCITY);
                let off = length.model_frames.saturating_sub(release_frames);
                let events = vec![
                    Event { frame: 0, kind: EventKind::NoteOn { channel: 0, key, velocity } },
                    Event { frame: off, kind: EventKind::NoteOff { channel: 0, key } },
                ];
                (events, length)
            }
        };
        let Length { out_frames, model_frames } = length;
        ensure!(out_frames > 0, "that is shorter than one sample; ask for more with --seconds");
        Ok(Self { events, model_frames, out_frames })
    }
}

/// One duration at both rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Length {
    out_frames: u64,
    model_frames: u64,
}

impl Length {
    /// To the nearest sample of the file, and as many of the model as those need.
    fn of_seconds(seconds: f64, model_hz: u32, out_hz: u32) -> Self {
        let out_frames = (seconds * f64::from(out_hz)).round() as u64;
        Self { out_frames, model_frames: scale(out_frames, model_hz, out_hz) }
    }

    /// All of these samples of the model.
    fn of_frames(model_frames: u64, model_hz: u32, out_hz: u32) -> Self {
        Self { out_frames: scale(model_frames, out_hz, model_hz), model_frames }
    }
}

/// `frames * to / from`, rounded up. Times up to a day at 768 kHz stay below 2^56.
fn scale(frames: u64, to: u32, from: u32) -> u64 {
    (frames * u64::from(to)).div_ceil(u64::from(from))
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
        let kinds = [
            EventKind::NoteOn { channel: 0, key: 60, velocity: 100 },
            EventKind::NoteOff { channel: 0, key: 60 },
        ];
        let events: Vec<_> =
            [0, 24_000].into_iter().zip(kinds).map(|(frame, kind)| Event { frame, kind }).collect();
        assert_eq!(score, Score { events, model_frames: 32_000, out_frames: 96_000 });
    }

    #[test]
    fn the_default_key_is_one_that_the_model_has_heard() {
        let table =
            |key| KeyTable { key, cents: 0.0, inharmonicity: 0.0, start_turns: vec![0.0; 16] };
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
    fn drones_take_no_notes() {
        let drone = score("", Recipe::None, 16_000).unwrap();
        assert_eq!(drone.events, [Event { frame: 0, kind: EventKind::Drone }]);
        assert_eq!(drone.model_frames, 80_000);
        for option in ["--note 60", "--velocity 60", "--midi x.mid"] {
            let error = score(option, Recipe::None, 16_000).unwrap_err().to_string();
            assert!(error.contains(option.split(' ').next().unwrap()), "{error}");
        }
    }

    #[test]
    fn less_than_a_sample_is_refused() {
        assert!(score("--seconds 0.00001", notes(), 16_000).is_err());
        assert_eq!(score("--seconds 0.0001", notes(), 16_000).unwrap().out_frames, 2);
    }
}
