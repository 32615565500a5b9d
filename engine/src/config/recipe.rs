//! How a played note becomes the local conditioning vector: what the model was told about its notes,
//! and what was measured on them.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The most partials of a note.
pub const MAX_PARTIALS: usize = 128;

/// How the local conditioning vector is made (see `conditioning.rs` for the channels in order).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Recipe {
    /// No local conditioning: the model babbles, or is told a class only.
    #[default]
    None,
    /// A pitched note: key, velocity, age and its partials.
    Note(NoteRecipe),
}

/// How much a model knows of the sound before it speaks, from little to much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nothing, or a class.
    Nothing,
    /// Where the phases of a note's partials are.
    Phases,
    /// Their levels too, and that of the whole.
    Levels,
    /// The same, and it says only what remains beside them: the player adds them.
    Partials,
}

impl Recipe {
    /// How much a model of this recipe knows.
    pub fn told(&self) -> Told {
        match self {
            Self::None => Told::Nothing,
            Self::Note(note) if note.remainder => Told::Partials,
            Self::Note(note) if note.has_levels() => Told::Levels,
            Self::Note(_) => Told::Phases,
        }
    }
}

/// What a note-conditioned model was told about its notes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoteRecipe {
    /// How many partials' phases the model hears.
    pub partials: usize,
    /// How many partials, if more than those, are in the sum that a model with levels hears.
    #[serde(skip_serializing_if = "is_zero")]
    pub summed_partials: usize,
    /// Time constants of the exponentials that tell the age of the note.
    pub decays_ms: Vec<f32>,
    /// How much softer velocity 1 is than 127. Sample libraries are often normalised, so loudness
    /// is applied after the model.
    pub velocity_range_db: f32,
    /// The ages at which the tables of the keys tell levels, rising from 0. Empty: the model is told
    /// phases only, and speaks at the level of the recordings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ages_ms: Vec<f32>,
    /// Whether the model says only what remains of the sound without its told partials, which are added
    /// to what it says. Only with levels.
    #[serde(skip_serializing_if = "is_zero")]
    pub remainder: bool,
    /// Measured on the recordings, rising in class, key and velocity.
    pub keys: Vec<KeyTable>,
}

/// What was measured on one recorded note.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyTable {
    /// Index of the class it belongs to, 0 where there are no classes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub class: usize,
    /// MIDI key, 69 = A4 = 440 Hz.
    pub key: u8,
    /// How hard it was struck, 0 to 127.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub velocity: u8,
    /// How far f1 lies from equal temperament, in cents. Pianos are tuned by ear: where stiffness
    /// pulls the partials up, f1 lies below.
    pub cents: f64,
    /// B of the stiff string: partial k sounds at `k f1 sqrt(1 + B k^2)`.
    pub inharmonicity: f64,
    /// Phase of each partial at the onset, in turns. Shape: `[tracked partials]`.
    pub start_turns: Vec<f32>,
    /// Level of the whole at each age, in dB of a sine of full scale. Shape: `[ages]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub level_db: Vec<f32>,
    /// Amplitude of each partial at each age, in dB of full scale; partials too high for the
    /// recording's rate are left out. Shape: `[up to tracked partials, ages]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partial_db: Vec<Vec<f32>>,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for NoteRecipe {
    fn default() -> Self {
        Self {
            partials: 32,
            summed_partials: 0,
            decays_ms: vec![20.0, 200.0, 1500.0],
            velocity_range_db: 30.0,
            ages_ms: Vec::new(),
            remainder: false,
            keys: Vec::new(),
        }
    }
}

impl NoteRecipe {
    /// The recipe that the trainer gives to new models: with levels, at two ages an octave from 16 ms
    /// on.
    pub fn with_levels() -> Self {
        let ages_ms = vec![
            0.0, 4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0, 384.0, 512.0,
            768.0, 1024.0, 1536.0, 2048.0, 3072.0, 4096.0, 6144.0, 8192.0,
        ];
        Self { ages_ms, partials: 16, summed_partials: 96, remainder: true, ..Self::default() }
    }

    /// How many partials of a note have phases, and levels in the tables.
    pub fn tracked_partials(&self) -> usize {
        self.partials.max(self.summed_partials)
    }

    /// Whether the tables tell levels.
    pub fn has_levels(&self) -> bool {
        !self.ages_ms.is_empty()
    }

    /// Width of the local conditioning vector.
    pub fn channels(&self) -> usize {
        let sums = if self.has_levels() { 2 } else { 0 };
        2 + self.decays_ms.len() + sums + 2 * self.partials
    }

    /// Checks every bound, for a model of so many classes.
    pub(super) fn validate(&self, classes: usize) -> Result<()> {
        let wrong = |what: String| Err(Error::Unsupported(format!("conditioning: {what}")));
        if self.tracked_partials() > MAX_PARTIALS {
            let partials = self.tracked_partials();
            return wrong(format!("{partials} partials; at most {MAX_PARTIALS}"));
        }
        if self.decays_ms.len() > 16 || self.decays_ms.iter().any(|ms| !(0.1..=1e6).contains(ms)) {
            return wrong("decays_ms takes up to 16 values between 0.1 and 1,000,000".into());
        }
        if !(0.0..=96.0).contains(&self.velocity_range_db) {
            return wrong("velocity_range_db must lie between 0 and 96".into());
        }
        let rise = |pair: &[f32]| pair[1] - pair[0] >= 0.1 && pair[1] <= 1e6;
        let ages = &self.ages_ms;
        let begins_at_0 = ages.first() == Some(&0.0) && (2..=64).contains(&ages.len());
        if self.has_levels() && !(begins_at_0 && ages.windows(2).all(rise)) {
            return wrong(
                "ages_ms takes 2 to 64 values that rise from 0 to at most 1,000,000".into(),
            );
        }
        if self.remainder && !self.has_levels() {
            return wrong("a remainder is one of partials with levels: ages_ms is missing".into());
        }
        let place = |table: &KeyTable| (table.class, table.key, table.velocity);
        if self.keys.windows(2).any(|pair| place(&pair[0]) >= place(&pair[1])) {
            return wrong("the table of keys must rise in class, `key` and velocity".into());
        }
        match self.keys.iter().find(|table| !table.is_sound(self, classes)) {
            Some(table) => wrong(format!("the table of key {} is damaged", table.key)),
            None => Ok(()),
        }
    }
}

impl KeyTable {
    fn is_sound(&self, recipe: &NoteRecipe, classes: usize) -> bool {
        let are_levels = |levels: &Vec<f32>| {
            levels.len() == recipe.ages_ms.len()
                && levels.iter().all(|db| (-200.0..=40.0).contains(db))
        };
        self.class < classes.max(1)
            && self.key <= 127
            && self.velocity <= 127
            && (-200.0..=200.0).contains(&self.cents)
            && (0.0..=0.1).contains(&self.inharmonicity)
            && self.start_turns.len() == recipe.tracked_partials()
            && self.start_turns.iter().all(|turn| turn.is_finite())
            && are_levels(&self.level_db)
            && self.partial_db.len() <= recipe.tracked_partials()
            && self.partial_db.iter().all(are_levels)
    }
}
