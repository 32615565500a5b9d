//! How a model is trained: the `[training]` table of a `--config` file.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use wavenet_engine::Told;

/// How a model is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    /// Segments of a step.
    pub batch: usize,
    /// Samples of a segment whose loss counts; a receptive field of warm-up comes on top.
    pub window: usize,
    /// Highest learning rate.
    pub learning_rate: f32,
    /// How the learning rate comes down.
    pub schedule: Curve,
    /// Steps of the warm-up.
    pub warmup_steps: u64,
    /// Share of the learning rate that is left at the end.
    pub final_share: f32,
    /// AdamW's pull of the weights towards zero.
    pub weight_decay: f32,
    /// Longest gradient.
    pub clip_norm: f32,
    /// Decay of the average of the weights.
    pub average_decay: f32,
    /// Steps between two validations; the best of the averaged weights becomes the model.
    pub validation_steps: u64,
    /// Semitones by which pitched recordings are also heard higher and lower.
    pub shifts: Vec<i32>,
    /// Chance changes to what is heard.
    pub augmentation: Augmentation,
    /// How the played keys of an instrument are tuned.
    pub tuning: Tuning,
}

/// The pitch at which a recorded key is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tuning {
    /// The first partial at the key in equal temperament, A4 = 440 Hz. Stiff strings sound sharp by that.
    Equal,
    /// That of the recording.
    Recorded,
}

/// The way of the learning rate from its peak to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Curve {
    /// Half a cosine.
    Cosine,
    /// The same factor each step.
    Exponential,
}

/// Chance changes to what is heard, drawn for each segment: off unless told (see `past_noise_db`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Lowest and highest change of level.
    pub gain_db: [f32; 2],
    /// Whether half of the segments are turned upside down.
    pub flip_polarity: bool,
    /// Recordings without notes are heard up to so much higher and lower, by resampling.
    pub pitch_cents: f32,
    /// Softest and loudest white noise, in dB of full scale, laid under the past that the model hears but
    /// not under what it shall say next: it learns to mend what it said before. Absent: none, but
    /// [`Augmentation::OF_NOTES_DB`] or [`Augmentation::OF_REMAINDERS_DB`] for models of notes.
    pub past_noise_db: Option<[f32; 2]>,
}

impl Augmentation {
    /// What models of notes are given that say the partials too: they are told enough to do without a clean
    /// past.
    pub const OF_NOTES_DB: [f32; 2] = [-60.0, -22.0];

    /// What those are given that say a remainder, which is some 20 dB softer.
    pub const OF_REMAINDERS_DB: [f32; 2] = [-80.0, -36.0];
}

/// The furthest change of pitch by chance: the interpolation is made for little.
const MAX_PITCH_CENTS: f32 = 200.0;

impl Default for Augmentation {
    fn default() -> Self {
        Self { gain_db: [0.0, 0.0], flip_polarity: false, pitch_cents: 0.0, past_noise_db: None }
    }
}

impl Default for Training {
    fn default() -> Self {
        Self {
            batch: 4,
            window: 2048,
            learning_rate: 3e-3,
            schedule: Curve::Cosine,
            warmup_steps: 100,
            final_share: 0.02,
            weight_decay: 0.01,
            clip_norm: 1.0,
            average_decay: 0.999,
            validation_steps: 200,
            shifts: vec![-2, -1, 0, 1, 2],
            augmentation: Augmentation::default(),
            tuning: Tuning::Recorded,
        }
    }
}

impl Training {
    /// The same, with what was left unsaid as it is for a model that is told so much.
    pub fn completed(mut self, told: Told) -> Self {
        let past_noise_db = match told {
            Told::Nothing | Told::Phases => None,
            Told::Levels => Some(Augmentation::OF_NOTES_DB),
            Told::Partials => Some(Augmentation::OF_REMAINDERS_DB),
        };
        let asked = &mut self.augmentation.past_noise_db;
        *asked = asked.or(past_noise_db);
        self
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// One line naming the setting and what is allowed.
    pub fn validate(&self) -> Result<()> {
        ensure!((1..=4096).contains(&self.batch), "batch must lie between 1 and 4096");
        ensure!((16..=1 << 20).contains(&self.window), "window must lie between 16 and 1048576");
        ensure!(
            self.learning_rate > 0.0 && self.learning_rate <= 1.0,
            "learning_rate must lie above 0 and at most at 1"
        );
        ensure!((0.0..=1.0).contains(&self.final_share), "final_share must lie between 0 and 1");
        ensure!(
            self.schedule == Curve::Cosine || self.final_share > 0.0,
            "an exponential schedule never ends at 0: give a final_share above 0"
        );
        ensure!((0.0..=1.0).contains(&self.weight_decay), "weight_decay must lie between 0 and 1");
        ensure!(
            self.clip_norm > 0.0 && self.clip_norm.is_finite(),
            "clip_norm must be above 0 and finite"
        );
        ensure!((0.0..1.0).contains(&self.average_decay), "average_decay must lie in 0 to below 1");
        ensure!(self.validation_steps > 0, "validation_steps must be at least 1");
        ensure!(
            !self.shifts.is_empty() && self.shifts.iter().all(|s| (-12..=12).contains(s)),
            "shifts must list semitones between -12 and 12"
        );
        let Augmentation { gain_db: [low, high], pitch_cents, .. } = self.augmentation;
        ensure!(
            (-60.0..=24.0).contains(&low) && (low..=24.0).contains(&high),
            "gain_db must list the lowest and the highest gain, between -60 and 24"
        );
        let [softest, loudest] = self.augmentation.past_noise_db.unwrap_or([-60.0, -60.0]);
        ensure!(
            (-120.0..=0.0).contains(&softest) && (softest..=0.0).contains(&loudest),
            "past_noise_db must list the softest and the loudest noise, between -120 and 0"
        );
        ensure!(
            (0.0..=MAX_PITCH_CENTS).contains(&pitch_cents),
            "pitch_cents must lie between 0 and {MAX_PITCH_CENTS}"
        );
        Ok(())
    }
}
