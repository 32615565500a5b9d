//! How loud a note and its partials are at every age, from the tables of the recorded notes.
//!
//! A table tells levels in dB at a few ages; between two ages they lie on a straight line, so a line
//! in dB is an exponential decay. Beyond the last age the whole goes on as steeply as it fell there,
//! and the partials keep their places in it. dB become factors on a grid of [`GRID_FRAMES`] frames;
//! between two points of the grid the factors themselves lie on a straight line. So a level is a pure
//! function of the table and the age, the same for a note that is played and for one that is learned.

use super::SINE_AMPLITUDE;
use super::tables::Blend;
use crate::config::{KeyTable, NoteRecipe};

/// Frames between two points of the grid.
const GRID_FRAMES: u64 = 32;
/// What a partial is that no table tells.
const ABSENT_DB: f32 = -120.0;
/// Softer than this nothing becomes.
const FLOOR_DB: f64 = -160.0;
/// A partial with a factor below this is not worth a look at the sine's table.
const HEARD: f32 = 1e-4;

/// The levels of one note. Real-time safe once it was made.
#[derive(Debug, Clone)]
pub struct Levels {
    /// The whole, then each partial against the whole, in dB. Shape: `[1 + partials, ages]`.
    table_db: Vec<f32>,
    /// `[ages]`; empty where the model is told no levels, and all factors are 1.
    ages_ms: Vec<f32>,
    /// How fast the note ages: 1000 / rate as it was recorded.
    ms_per_frame: f64,
    /// The point of the grid from which the values below hold.
    point: Option<u64>,
    /// How far it is from that point to the next, 0 to below 1.
    share: f32,
    /// Factors at the point, and at the next. Shape: `[1 + partials]`.
    factors: Vec<f32>,
    ends: Vec<f32>,
    /// Partials up to the highest that is heard between the two points.
    heard: usize,
}

impl Levels {
    /// Room for a note of a model at `rate_hz`.
    pub(super) fn new(recipe: &NoteRecipe, rate_hz: f64) -> Self {
        let (rows, ages) = (1 + recipe.tracked_partials(), recipe.ages_ms.len());
        Self {
            table_db: vec![0.0; rows * ages],
            ages_ms: recipe.ages_ms.clone(),
            ms_per_frame: 1000.0 / rate_hz,
            point: None,
            share: 0.0,
            factors: vec![1.0; rows],
            ends: vec![1.0; rows],
            heard: recipe.tracked_partials(),
        }
    }

    /// Those of a recorded note that is played `speed` times as fast at `rate_hz`.
    pub fn of_recording(recipe: &NoteRecipe, table: &KeyTable, rate_hz: f64, speed: f64) -> Self {
        let mut levels = Self::new(recipe, rate_hz);
        levels.ms_per_frame *= speed;
        levels.set(std::slice::from_ref(table), [(0, 1.0), (0, 0.0), (0, 0.0), (0, 0.0)]);
        levels
    }

    /// Takes the levels of a blend of tables; where `tables` is empty, a whole of 0 dB without
    /// partials. Real-time safe.
    pub(super) fn set(&mut self, tables: &[KeyTable], blend: Blend) {
        let ages = self.ages_ms.len();
        self.point = None;
        if ages == 0 {
            return;
        }
        let (whole, partials) = self.table_db.split_at_mut(ages);
        let blended = |db: &dyn Fn(&KeyTable) -> Option<f32>| {
            let (mut sum, mut total) = (0.0, 0.0);
            for (index, weight) in blend {
                if let Some(db) = tables.get(index).and_then(db) {
                    sum += weight * f64::from(db);
                    total += weight;
                }
            }
            // A partial that some of the tables do not tell is as the others tell.
            (total > 0.0).then(|| (sum / total) as f32)
        };
        for (age, out) in whole.iter_mut().enumerate() {
            *out = blended(&|table| Some(table.level_db[age])).unwrap_or(0.0);
        }
        for (partial, row) in partials.chunks_exact_mut(ages).enumerate() {
            for (age, out) in row.iter_mut().enumerate() {
                let against_whole = |table: &KeyTable| {
                    table.partial_db.get(partial).map(|row| row[age] - table.level_db[age])
                };
                *out = blended(&against_whole).unwrap_or(ABSENT_DB);
            }
        }
    }

    /// Goes to an age. Real-time safe.
    pub fn seek(&mut self, age_frames: u64) {
        if self.ages_ms.is_empty() {
            return;
        }
        let point = age_frames / GRID_FRAMES;
        if self.point != Some(point) {
            if self.point.is_none_or(|last| last + 1 != point) {
                self.compute_ends(point);
            }
            // The last line's end is this one's beginning.
            self.factors.copy_from_slice(&self.ends);
            self.compute_ends(point + 1);
            self.point = Some(point);
            let loud = |(from, to): (&f32, &f32)| from.max(*to) >= HEARD;
            let mut partials = self.factors[1..].iter().zip(&self.ends[1..]);
            self.heard = partials.rposition(loud).map_or(0, |last| last + 1);
        }
        self.share = (age_frames % GRID_FRAMES) as f32 / GRID_FRAMES as f32;
    }

    /// Computes the factors at a point of the grid.
    fn compute_ends(&mut self, point: u64) {
        let age_ms = (point * GRID_FRAMES) as f64 * self.ms_per_frame;
        let ages = &self.ages_ms;
        let last = ages.len() - 2;
        let before = ages.partition_point(|&ms| f64::from(ms) <= age_ms).clamp(1, last + 1) - 1;
        let (from, to) = (f64::from(ages[before]), f64::from(ages[before + 1]));
        let share = (age_ms - from) / (to - from);
        for (row, end) in self.ends.iter_mut().enumerate() {
            let row_db = &self.table_db[row * ages.len()..][..ages.len()];
            let (from_db, to_db) = (f64::from(row_db[before]), f64::from(row_db[before + 1]));
            let db = if share <= 1.0 {
                from_db + (to_db - from_db) * share
            } else if row == 0 {
                to_db + (to_db - from_db).min(0.0) * (share - 1.0)
            } else {
                to_db
            };
            *end = libm::exp10(db.max(FLOOR_DB) / 20.0) as f32;
        }
    }

    /// What a model's samples are to be multiplied with at the age sought last, and a recording's to be
    /// divided by.
    #[inline]
    pub fn gain(&self) -> f32 {
        if self.ages_ms.is_empty() { 1.0 } else { self.at(0) / SINE_AMPLITUDE }
    }

    /// The factor of a partial against the whole, counted from 0.
    #[inline]
    pub(super) fn partial(&self, index: usize) -> f32 {
        self.at(1 + index)
    }

    /// Partials beyond this many are not heard at the age sought last.
    #[inline]
    pub(super) fn heard(&self) -> usize {
        self.heard
    }

    #[inline]
    fn at(&self, row: usize) -> f32 {
        self.factors[row] + (self.ends[row] - self.factors[row]) * self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> NoteRecipe {
        NoteRecipe { partials: 2, ages_ms: vec![0.0, 10.0, 100.0], ..NoteRecipe::default() }
    }

    fn table(whole: [f32; 3], partials: &[[f32; 3]]) -> KeyTable {
        let partial_db = partials.iter().map(|row| row.to_vec()).collect();
        KeyTable { level_db: whole.to_vec(), partial_db, ..KeyTable::default() }
    }

    fn db(factor: f32) -> f32 {
        20.0 * libm::log10f(factor)
    }

    #[test]
    fn levels_are_straight_in_db_and_go_on_falling() {
        let table = table([0.0, -10.0, -20.0], &[[-6.0, -10.0, -40.0]]);
        let mut levels = Levels::of_recording(&recipe(), &table, 16_000.0, 2.0);
        // Twice as fast: 80 frames are 10 ms of the recording.
        for (frame, whole, partial) in [
            (0, 0.0, -6.0),
            (32, -4.0, -3.6),
            (160, -11.11, -2.22),
            (800, -20.0, -20.0),
            (1600, -31.11, -20.0),
        ] {
            levels.seek(frame);
            assert!((db(levels.at(0)) - whole).abs() < 0.05, "{frame}: {}", db(levels.at(0)));
            assert!((db(levels.partial(0)) - partial).abs() < 0.1, "{frame}");
            assert!(db(levels.partial(1)) < -119.0);
        }
    }

    #[test]
    fn an_age_has_one_level_however_it_is_reached() {
        let table = table([0.0, -3.0, -60.0], &[[-6.0, -30.0, -70.0], [-20.0, -20.0, -60.0]]);
        let mut steps = Levels::of_recording(&recipe(), &table, 16_000.0, 1.0);
        let mut jumps = steps.clone();
        for frame in 0..3000 {
            steps.seek(frame);
            jumps.seek((frame * 7919) % 3000);
            jumps.seek(frame);
            assert_eq!(steps.gain(), jumps.gain());
            assert_eq!(steps.partial(1), jumps.partial(1));
        }
    }

    #[test]
    fn a_partial_known_to_one_of_two_tables_is_as_that_one_tells() {
        let tables = [table([0.0; 3], &[[-6.0; 3], [-12.0; 3]]), table([-10.0; 3], &[[-26.0; 3]])];
        let mut levels = Levels::new(&recipe(), 16_000.0);
        levels.set(&tables, [(0, 0.5), (1, 0.5), (0, 0.0), (1, 0.0)]);
        levels.seek(0);
        assert!((db(levels.at(0)) + 5.0).abs() < 1e-3);
        assert!((db(levels.partial(0)) + 11.0).abs() < 1e-3);
        assert!((db(levels.partial(1)) + 12.0).abs() < 1e-3);
    }
}
