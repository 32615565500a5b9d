//! From a played note to the vector that the model hears with every sample.
//!
//! The local channels of [`Recipe::Note`], in order; the two sums, over all partials, only where the
//! recipe has levels (without them every a_k is 1):
//!
//! ```text
//! pitch       (semitones - 60) / 24
//! velocity    velocity / 127
//! decays      exp(-age / tau), one for each of decays_ms
//! sum         1/2 sum over k of a_k cos(2 pi turns_k)
//! its code    compress(SINE_AMPLITUDE times that sum over k), on the scale of the codes, -1 to 1
//! cosines     a_k cos(2 pi turns_k), k = 1 .. partials
//! sines       a_k sin(2 pi turns_k)
//! ```
//!
//! Partial k of a stiff string sounds at `f_k = k f1 sqrt(1 + B k^2)` (Fletcher 1964). Its phase is
//! a 32-bit fraction of a turn that advances by a whole number each sample, so it never drifts and
//! is the same on every machine; partials above 0.46 of the sample rate are silent (both channels
//! zero). The model is told these phases and so need not learn pitch; told the partials' amplitudes
//! a_k against the whole as well ([`Levels`]), it is told most of what is to sound next. The whole is
//! divided out: in the model a lone sine has the amplitude [`SINE_AMPLITUDE`], whatever the note's loudness.
//! A model with [`NoteRecipe::remainder`] hears and says only what remains without the sum of the partials:
//! attack, noise, and what no table tells. [`NoteState::finish`] is how its sample becomes the note's.
//!
//! The trainer fills its windows through the same code ([`NoteConditioner::recorded`]), from phases measured on
//! the recording.

mod levels;
mod tables;

use crate::config::{Config, NoteRecipe, Recipe};
use crate::mulaw::MuLaw;
pub use levels::Levels;

/// The amplitude at which a model of notes with levels hears and speaks a lone sine, whatever its loudness:
/// the rest is room for peaks.
pub const SINE_AMPLITUDE: f32 = 0.25;

/// Partials above this share of the sample rate are left out.
pub const HIGHEST_PARTIAL: f64 = 0.46;

/// Sine table: 4096 intervals over one turn, linear between them (error below 3e-7).
const TABLE_BITS: u32 = 12;

/// What stays the same over all notes of a model.
#[derive(Debug, Clone)]
pub struct NoteConditioner {
    recipe: NoteRecipe,
    sample_rate_hz: f64,
    /// One turn of sine and a quarter more for the cosine. Shape: `[4096 * 5 / 4 + 1]`.
    sine: Vec<f32>,
    /// Factor a sample of each decay.
    decay_factors: Vec<f64>,
    mulaw: MuLaw,
}

/// One sounding note. Real-time safe after [`NoteConditioner::idle_note`].
#[derive(Debug, Clone)]
pub struct NoteState {
    pitch: f32,
    velocity: f32,
    /// Present value of each decay.
    decays: Vec<f64>,
    /// Phase of each partial, 2^32 = one turn.
    turns: Vec<u32>,
    /// Advance of each partial a sample; partials beyond `present` stand still.
    increments: Vec<u32>,
    present: usize,
    class: usize,
    struck: u8,
    age_frames: u64,
    levels: Levels,
    /// What is added to the code's sample.
    partials: f32,
}

/// How a sample of the model becomes one of the note.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finish {
    /// What the told partials add up to, where the model says only what remains without them; else 0.
    pub partials: f32,
    /// What the sum is multiplied with.
    pub level: f32,
}

impl Finish {
    /// As the model says it.
    pub const UNCHANGED: Self = Self { partials: 0.0, level: 1.0 };

    /// The note's sample where the model said `sample`. Real-time safe.
    #[inline]
    pub fn sample(self, sample: f32) -> f32 {
        (self.partials + sample) * self.level
    }
}

impl NoteState {
    /// How the sample that the model says after the last [`NoteConditioner::advance`] becomes the note's.
    /// Real-time safe.
    #[inline]
    pub fn finish(&self) -> Finish {
        Finish { partials: self.partials, level: self.levels.gain() }
    }
}

impl NoteConditioner {
    /// The conditioner of a model, or `None` where it has no notes.
    pub fn new(config: &Config) -> Option<Self> {
        let Recipe::Note(recipe) = &config.conditioning else {
            return None;
        };
        let steps = 1_usize << TABLE_BITS;
        let rate = f64::from(config.sample_rate_hz);
        let turn = |index: usize| core::f64::consts::TAU * index as f64 / steps as f64;
        let factor = |&ms: &f32| libm::exp(-1000.0 / (f64::from(ms) * rate));
        Some(Self {
            sample_rate_hz: rate,
            sine: (0..=steps + steps / 4).map(|index| libm::sin(turn(index)) as f32).collect(),
            decay_factors: recipe.decays_ms.iter().map(factor).collect(),
            mulaw: MuLaw::new(config.levels),
            recipe: recipe.clone(),
        })
    }

    /// Memory for one note.
    pub fn idle_note(&self) -> NoteState {
        NoteState {
            pitch: 0.0,
            velocity: 0.0,
            decays: vec![0.0; self.decay_factors.len()],
            turns: vec![0; self.recipe.tracked_partials()],
            increments: vec![0; self.recipe.tracked_partials()],
            present: 0,
            class: 0,
            struck: 0,
            age_frames: 0,
            partials: 0.0,
            levels: Levels::new(&self.recipe, self.sample_rate_hz),
        }
    }

    /// Starts a note at its onset. Real-time safe.
    pub fn start(&self, note: &mut NoteState, class: usize, key: u8, velocity: u8) {
        let tables = &self.recipe.keys;
        note.class = class;
        note.struck = velocity.min(127);
        note.age_frames = 0;
        note.velocity = f32::from(self.within_recorded(class, note.struck)) / 127.0;
        note.decays.fill(1.0);
        note.turns.fill(0);
        if let Some(nearest) = tables::nearest(tables, class, key, note.struck) {
            for (turns, &start) in note.turns.iter_mut().zip(&nearest.start_turns) {
                *turns = turns_from(f64::from(start));
            }
        }
        match tables::blend(tables, class, f64::from(key), note.struck) {
            Some(blend) => note.levels.set(tables, blend),
            None => note.levels.set(&[], [(0, 0.0); 4]),
        }
        self.tune(note, f64::from(key));
    }

    /// Sets the pitch in semitones (69 = 440 Hz; fractions are bend, glide, detune). Phases go on
    /// from where they are. Real-time safe.
    pub fn tune(&self, note: &mut NoteState, semitones: f64) {
        note.pitch = pitch_channel(semitones);
        let tables = &self.recipe.keys;
        let (mut cents, mut inharmonicity) = (0.0, 0.0);
        let blend = tables::blend(tables, note.class, semitones, note.struck);
        for (index, weight) in blend.into_iter().flatten() {
            cents += weight * tables[index].cents;
            inharmonicity += weight * tables[index].inharmonicity;
        }
        let f1 = 440.0 * libm::exp2((semitones - 69.0 + cents / 100.0) / 12.0);
        note.present = 0;
        for (index, increment) in note.increments.iter_mut().enumerate() {
            let share = f1 * partial_ratio(index + 1, inharmonicity) / self.sample_rate_hz;
            if share > HIGHEST_PARTIAL {
                *increment = 0;
            } else {
                *increment = turns_from(share);
                note.present = index + 1;
            }
        }
    }

    /// Writes the channels of this sample and goes on to the next. `out` has the length of
    /// [`Config::local_channels`]. Real-time safe.
    pub fn advance(&self, note: &mut NoteState, out: &mut [f32]) {
        note.levels.seek(note.age_frames);
        note.age_frames += 1;
        let decays = &note.decays;
        let turns = &note.turns[..note.present];
        note.partials =
            self.write(note.pitch, note.velocity, |i| decays[i], turns, &note.levels, out);
        for (decay, factor) in note.decays.iter_mut().zip(&self.decay_factors) {
            // Below this nothing is heard; stopping there keeps denormals out.
            *decay = if *decay > 1e-9 { *decay * factor } else { 0.0 };
        }
        for (turns, &increment) in note.turns.iter_mut().zip(&note.increments) {
            *turns = turns.wrapping_add(increment);
        }
    }

    /// The channels of the sample `age_frames` after a recorded note's onset, for the trainer.
    /// `turns` holds the measured phases of the partials that are present, `levels` those of the note. The
    /// result is what the player adds to what the model says: 0 without a remainder.
    pub fn recorded(
        &self,
        semitones: f64,
        velocity: u8,
        age_frames: u64,
        turns: &[u32],
        levels: &mut Levels,
        out: &mut [f32],
    ) -> f32 {
        levels.seek(age_frames);
        let velocity = f32::from(velocity.min(127)) / 127.0;
        let decay = |i: usize| libm::pow(self.decay_factors[i], age_frames as f64);
        self.write(pitch_channel(semitones), velocity, decay, turns, levels, out)
    }

    /// Writes the channels; the result is what the player adds to what the model says.
    fn write(
        &self,
        pitch: f32,
        velocity: f32,
        decay: impl Fn(usize) -> f64,
        turns: &[u32],
        levels: &Levels,
        out: &mut [f32],
    ) -> f32 {
        let (head, rest) = out.split_at_mut(2);
        head.copy_from_slice(&[pitch, velocity]);
        let (decays, rest) = rest.split_at_mut(self.decay_factors.len());
        for (index, out) in decays.iter_mut().enumerate() {
            *out = decay(index) as f32;
        }
        let (sums, phases) = rest.split_at_mut(if self.recipe.has_levels() { 2 } else { 0 });
        let (cosines, sines) = phases.split_at_mut(self.recipe.partials);
        cosines.fill(0.0);
        sines.fill(0.0);
        let mut sum = 0.0;
        for (index, &turns) in turns.iter().take(levels.heard()).enumerate() {
            let amplitude = levels.partial(index);
            let in_phase = amplitude * self.table(turns, 1 << (TABLE_BITS - 2));
            sum += in_phase;
            if let (Some(cosine), Some(sine)) = (cosines.get_mut(index), sines.get_mut(index)) {
                *cosine = in_phase;
                *sine = amplitude * self.table(turns, 0);
            }
        }
        if let [half_sum, code] = sums {
            *half_sum = 0.5 * sum;
            *code = self.mulaw.compress(SINE_AMPLITUDE * sum);
        }
        if self.recipe.remainder { SINE_AMPLITUDE * sum } else { 0.0 }
    }

    /// Sine of a phase, `shift` table steps ahead.
    fn table(&self, turns: u32, shift: usize) -> f32 {
        let index = (turns >> (32 - TABLE_BITS)) as usize + shift;
        let fraction = (turns << TABLE_BITS >> 8) as f32 / (1 << 24) as f32;
        let (low, high) = (self.sine[index], self.sine[index + 1]);
        low + (high - low) * fraction
    }

    /// How much softer a velocity sounds than 127, as a factor. Real-time safe.
    pub fn velocity_gain(&self, velocity: u8) -> f32 {
        let softer = 1.0 - f64::from(velocity.min(127)) / 127.0;
        libm::exp10(-f64::from(self.recipe.velocity_range_db) * softer / 20.0) as f32
    }

    /// The velocity that the model is told: with levels none that is beyond what it has heard.
    fn within_recorded(&self, class: usize, velocity: u8) -> u8 {
        let own = self.recipe.keys.iter().filter(|table| table.class == class);
        let (low, high) = own.fold((127, 0), |(low, high), table| {
            (table.velocity.min(low), table.velocity.max(high))
        });
        if self.recipe.has_levels() && low <= high { velocity.clamp(low, high) } else { velocity }
    }
}

/// Frequency of partial k (from 1) of a stiff string over f1: `k sqrt(1 + B k^2)`.
pub fn partial_ratio(partial: usize, inharmonicity: f64) -> f64 {
    let k = partial as f64;
    k * (1.0 + inharmonicity * k * k).sqrt()
}

/// A phase in turns as the 32-bit fraction of one.
pub fn turns_from(turns: f64) -> u32 {
    ((turns - turns.floor()) * 4_294_967_296.0) as u64 as u32
}

fn pitch_channel(semitones: f64) -> f32 {
    ((semitones - 60.0) / 24.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyTable;

    fn config(keys: Vec<KeyTable>, partials: usize) -> Config {
        let recipe = NoteRecipe { keys, partials, ..NoteRecipe::default() };
        Config { conditioning: Recipe::Note(recipe), ..Config::default() }
    }

    #[test]
    fn channels_are_where_the_docs_say() {
        let config = config(vec![], 4);
        let conditioner = NoteConditioner::new(&config).unwrap();
        let mut note = conditioner.idle_note();
        conditioner.start(&mut note, 0, 72, 127);
        let mut h = vec![9.0; config.local_channels()];
        conditioner.advance(&mut note, &mut h);
        assert_eq!(h, [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        conditioner.advance(&mut note, &mut h);
        assert!((h[2] - libm::expf(-1.0 / 320.0)).abs() < 1e-6);
    }

    #[test]
    fn phases_turn_at_the_stiff_string_frequencies() {
        let table = |key, cents, inharmonicity| KeyTable {
            key,
            cents,
            inharmonicity,
            start_turns: vec![0.25; 20],
            ..KeyTable::default()
        };
        let config = config(vec![table(60, -8.0, 0.001), table(80, 4.0, 0.003)], 20);
        let conditioner = NoteConditioner::new(&config).unwrap();
        let mut note = conditioner.idle_note();
        conditioner.start(&mut note, 0, 70, 64);
        let f1 = 440.0 * libm::exp2((1.0 - 0.02) / 12.0);
        let mut h = vec![0.0; config.local_channels()];
        for frame in 0..20_000_u32 {
            conditioner.advance(&mut note, &mut h);
            for k in 1..=20 {
                let hz = f1 * partial_ratio(k, 0.002);
                let (cosine, sine) = (h[4 + k], h[24 + k]);
                if hz > HIGHEST_PARTIAL * 16_000.0 {
                    assert_eq!((cosine, sine), (0.0, 0.0));
                } else if frame % 1000 == 0 {
                    let angle = core::f64::consts::TAU * (0.25 + hz * f64::from(frame) / 16_000.0);
                    assert!((f64::from(cosine) - libm::cos(angle)).abs() < 1e-4, "{frame} {k}");
                    assert!((f64::from(sine) - libm::sin(angle)).abs() < 1e-4, "{frame} {k}");
                }
            }
        }
    }

    #[test]
    fn recorded_and_played_notes_agree() {
        let table = KeyTable {
            key: 57,
            velocity: 90,
            start_turns: vec![0.1; 96],
            level_db: (0..22).map(|age| -3.0 * age as f32).collect(),
            partial_db: vec![(0..22).map(|age| -4.0 * age as f32).collect(); 8],
            ..KeyTable::default()
        };
        let recipe =
            NoteRecipe { keys: vec![table.clone()], partials: 8, ..NoteRecipe::with_levels() };
        let config = Config { conditioning: Recipe::Note(recipe.clone()), ..Config::default() };
        config.validate().unwrap();
        let conditioner = NoteConditioner::new(&config).unwrap();
        let mut note = conditioner.idle_note();
        conditioner.start(&mut note, 0, 57, 90);
        let mut levels = Levels::of_recording(&recipe, &table, 16_000.0, 1.0);
        let (mut played, mut recorded) = (vec![0.0; 23], vec![0.0; 23]);
        for age in 0..3_000_u64 {
            let turns = note.turns[..note.present].to_vec();
            conditioner.advance(&mut note, &mut played);
            let partials = conditioner.recorded(57.0, 90, age, &turns, &mut levels, &mut recorded);
            for (played, recorded) in played.iter().zip(&recorded) {
                assert!((played - recorded).abs() < 1e-6);
            }
            assert_eq!(note.finish(), Finish { partials, level: levels.gain() });
            assert_eq!(partials, 2.0 * SINE_AMPLITUDE * played[5]);
            let sum: f32 = played[7..15].iter().sum();
            // Partials that no table tells are as good as silent.
            assert!((played[5] - 0.5 * sum).abs() < 1e-4);
        }
    }

    #[test]
    fn velocity_range_is_in_decibels() {
        let conditioner = NoteConditioner::new(&config(vec![], 1)).unwrap();
        assert_eq!(conditioner.velocity_gain(127), 1.0);
        let quiet = conditioner.velocity_gain(0);
        assert!((20.0 * libm::log10f(quiet) + 30.0).abs() < 1e-3);
    }
}
