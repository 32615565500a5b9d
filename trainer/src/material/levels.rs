//! How loud a recorded note and its partials are at the ages of a recipe.
//!
//! A level at an age is the root mean square over a stretch around it: 20 ms at the onset, of which the
//! half after it counts, and longer with age, up to a third of a second; how the partials rise before that is
//! measured on all of them together. Ages that the recording does not
//! reach continue its last fall. At last the whole is raised wherever a peak of the sound would not fit between
//! -1 and 1 once the level is divided out; a remainder, which is rarely larger, is cut off there.

use std::f64::consts::TAU;

use wavenet_engine::conditioning::{Levels, SINE_AMPLITUDE};
use wavenet_engine::{KeyTable, NoteRecipe};

use crate::partials::PartialTracks;

/// Half of the shortest and of the longest stretch, and half of one as a share of its age.
const SHORTEST_MS: f64 = 10.0;
const LONGEST_MS: f64 = 160.0;
const SHARE_OF_AGE: f64 = 0.15;
/// The whole is followed so far below its loudest: what is softer is the room, not the note.
const WHOLE_RANGE_DB: f64 = 60.0;
/// A window that tells partials apart is too long to see how they rise: at ages below this it is measured how
/// much of their sum is there, and told to all of them, within these bounds.
const ATTACK_MS: f32 = 40.0;
const LEAST_SHARE: f64 = 1e-3;
const MOST_SHARE: f64 = 1.25;
/// Partials softer than this are not heard.
const SOFTEST_DB: f64 = -120.0;
/// The largest sample that the model shall hear.
const LARGEST: f32 = 0.97;

/// Fills in the levels of a note that begins at `start_frame` of `samples`.
pub(super) fn measure(
    table: &mut KeyTable,
    recipe: &NoteRecipe,
    samples: &[f32],
    start_frame: usize,
    tracks: &PartialTracks,
) {
    let rate = tracks.rate_hz;
    let note = &samples[start_frame.min(samples.len())..];
    let end_ms = note.len() as f64 * 1000.0 / rate;
    let stretch_ms = |age_ms: f32| {
        let age_ms = f64::from(age_ms);
        let half = (age_ms * SHARE_OF_AGE).clamp(SHORTEST_MS, LONGEST_MS);
        ((age_ms - half).max(0.0), age_ms + half)
    };
    let is_reached = |age_ms: &&f32| stretch_ms(**age_ms).1 <= end_ms;
    // At least two, for a fall to continue.
    let reached = recipe.ages_ms.iter().take_while(is_reached).count().max(2);
    let ages = &recipe.ages_ms[..reached.min(recipe.ages_ms.len())];

    let frame = |ms: f64| (ms * rate / 1000.0) as usize;
    let whole = ages.iter().map(|&age_ms| {
        let (from_ms, to_ms) = stretch_ms(age_ms);
        let to = frame(to_ms).min(note.len());
        // A sine of full scale has a mean square of one half.
        power_db(&note[frame(from_ms).min(to)..to]) + 10.0 * libm::log10(2.0)
    });
    let whole: Vec<f64> = whole.collect();
    let floor_db = whole.iter().copied().fold(SOFTEST_DB, f64::max) - WHOLE_RANGE_DB;
    let whole = whole.into_iter().map(|db| db.max(floor_db)).collect();
    table.level_db = continued(whole, &recipe.ages_ms);

    let hop_ms = tracks.hop_frames as f64 * 1000.0 / rate;
    let start_ms = start_frame as f64 * 1000.0 / rate;
    let rows = tracks.amplitude.iter().take_while(|row| !row.is_empty()).map(|row| {
        let at = |age_ms: &f32| {
            let (from_ms, to_ms) = stretch_ms(*age_ms);
            let hop = |ms: f64| ((start_ms + ms) / hop_ms).ceil() as usize;
            let to = (hop(to_ms) + 1).min(row.len());
            let around = &row[hop(from_ms).min(to)..to];
            // Hops before the onset heard nothing yet.
            let deaf = around.iter().take_while(|&&amplitude| amplitude == 0.0).count();
            power_db(&around[deaf..]).max(SOFTEST_DB)
        };
        continued(ages.iter().map(at).collect(), &recipe.ages_ms)
    });
    table.partial_db = rows.collect();
    measure_rise(table, recipe, note, start_frame, tracks);
    make_room(table, recipe, note, rate);
}

/// Tells the partials how much of them is there at each age of the attack.
fn measure_rise(
    table: &mut KeyTable,
    recipe: &NoteRecipe,
    note: &[f32],
    start_frame: usize,
    tracks: &PartialTracks,
) {
    let ages = &recipe.ages_ms;
    let frame = |ms: f32| (f64::from(ms) * tracks.rate_hz / 1000.0) as usize;
    let attack = ages.iter().enumerate().take_while(|(_, age_ms)| **age_ms < ATTACK_MS);
    let fits = attack.map(|(age, &age_ms)| {
        // From half way to the age before to half way to the one after.
        let before = age.checked_sub(1).map_or(0.0, |before| ages[before]);
        let after = ages.get(age + 1).copied().unwrap_or(age_ms);
        let [from, to] = [before, after].map(|other| frame(0.5 * (age_ms + other)));
        Fit::of_partials(table, age, tracks, start_frame, &note[..to.min(note.len())], from)
    });
    for (age, fit) in rising(fits.collect()).into_iter().enumerate() {
        let db = 20.0 * libm::log10(fit.share().clamp(LEAST_SHARE, MOST_SHARE));
        for row in &mut table.partial_db {
            row[age] = in_tenths((f64::from(row[age]) + db).max(SOFTEST_DB));
        }
    }
}

/// How well the sum s of the partials, as loud as they are told, fits samples x.
#[derive(Debug, Clone, Copy, Default)]
struct Fit {
    /// `<x, s>`
    product: f64,
    /// `<s, s>`
    square: f64,
}

impl Fit {
    /// Of the levels at an age to the samples from a frame on.
    fn of_partials(
        table: &KeyTable,
        age: usize,
        tracks: &PartialTracks,
        start_frame: usize,
        note: &[f32],
        from: usize,
    ) -> Self {
        let mut fit = Self::default();
        for (frame, &sample) in note.iter().enumerate().skip(from) {
            let partial = |(index, row): (usize, &Vec<f32>)| {
                let turns = f64::from(tracks.phase_turns(index + 1, (start_frame + frame) as f64));
                libm::exp10(f64::from(row[age]) / 20.0) * libm::cos(TAU * turns)
            };
            let sum: f64 = table.partial_db.iter().enumerate().map(partial).sum();
            fit.product += f64::from(sample) * sum;
            fit.square += sum * sum;
        }
        fit
    }

    /// How much of the partials is there: the share that fits best; 1 where there is nothing to fit.
    fn share(self) -> f64 {
        if self.square > 0.0 { self.product / self.square } else { 1.0 }
    }
}

/// Fits whose shares never fall from age to age, as near to the given ones as can be: neighbours that fall are
/// fitted together (pool adjacent violators, Ayer et al. 1955). An age between two pulses of a bass string, whose
/// period is longer, tells little by itself.
fn rising(fits: Vec<Fit>) -> Vec<Fit> {
    // Each with how many ages it stands for.
    let mut pools: Vec<(Fit, usize)> = Vec::with_capacity(fits.len());
    for fit in fits {
        let (mut pool, mut ages) = (fit, 1);
        while let Some((before, more)) = pools.pop_if(|(before, _)| before.share() > pool.share()) {
            pool =
                Fit { product: before.product + pool.product, square: before.square + pool.square };
            ages += more;
        }
        pools.push((pool, ages));
    }
    pools.into_iter().flat_map(|(pool, ages)| std::iter::repeat_n(pool, ages)).collect()
}

/// 10 log10 of the mean square.
fn power_db(samples: &[f32]) -> f64 {
    let sum: f64 = samples.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    10.0 * libm::log10((sum / samples.len().max(1) as f64).max(1e-20))
}

/// Levels at the first ages, continued to all of them as they last fell, in tenths of a dB.
fn continued(mut db: Vec<f64>, ages_ms: &[f32]) -> Vec<f32> {
    while db.len() < ages_ms.len() {
        let last = db.len() - 1;
        let ms = |index: usize| f64::from(ages_ms[index]);
        let fall = ((db[last] - db[last - 1]) / (ms(last) - ms(last - 1))).min(0.0);
        db.push((db[last] + fall * (ms(last + 1) - ms(last))).max(SOFTEST_DB));
    }
    db.into_iter().map(in_tenths).collect()
}

/// dB as tables tell them.
fn in_tenths(db: f64) -> f32 {
    (libm::round(db * 10.0) / 10.0) as f32
}

/// Raises the whole where samples would not fit.
fn make_room(table: &mut KeyTable, recipe: &NoteRecipe, note: &[f32], rate_hz: f64) {
    let mut levels = Levels::of_recording(recipe, table, rate_hz, 1.0);
    let ages = recipe.ages_ms.len();
    let mut excess = vec![1.0_f32; ages];
    for (frame, sample) in note.iter().enumerate() {
        levels.seek(frame as u64);
        let share = sample.abs() / levels.gain() / LARGEST;
        if share > 1.0 {
            let age_ms = (frame as f64 * 1000.0 / rate_hz) as f32;
            let after = recipe.ages_ms.partition_point(|&ms| ms <= age_ms).min(ages - 1);
            for place in [after - 1, after] {
                excess[place] = excess[place].max(share);
            }
        }
    }
    for (level_db, share) in table.level_db.iter_mut().zip(excess) {
        *level_db += libm::ceilf(200.0 * libm::log10f(share)) / 10.0;
    }
}

// A lone sine always fits.
const _: () = assert!(SINE_AMPLITUDE < LARGEST);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partials::analyse;

    /// Two partials that decay at 20 and at 60 dB a second, silence before.
    #[test]
    fn the_levels_of_decaying_partials_are_read() {
        let rate = 16_000.0;
        let lead = 3_000;
        let samples: Vec<f32> = (0..40_000)
            .map(|n| {
                let t = (f64::from(n) - f64::from(lead)) / rate;
                let partial = |k: f64, db: f64, fall: f64| {
                    libm::exp10((db - fall * t) / 20.0) * libm::cos(TAU * 220.0 * k * t)
                };
                if t < 0.0 {
                    0.0
                } else {
                    (partial(1.0, -12.0, 20.0) + partial(2.0, -20.0, 60.0)) as f32
                }
            })
            .collect();
        let recipe = NoteRecipe { partials: 8, ..NoteRecipe::with_levels() };
        let tracks = analyse(&samples, 16_000, 57, 8).unwrap();
        let mut table = KeyTable { key: 57, start_turns: vec![0.0; 96], ..KeyTable::default() };
        measure(&mut table, &recipe, &samples, tracks.onset_frame, &tracks);
        // The step is found a little before it is there.
        assert!((-40.0..-15.0).contains(&table.partial_db[0][0]), "{}", table.partial_db[0][0]);
        for (index, &age_ms) in recipe.ages_ms.iter().enumerate().skip(1) {
            let t = f64::from(age_ms) / 1000.0;
            for (partial, db, fall) in [(0, -12.0, 20.0), (1, -20.0, 60.0)] {
                // Beyond the recording's 2.3 s it falls on.
                let expected = (db - fall * t).max(SOFTEST_DB);
                let found = f64::from(table.partial_db[partial][index]);
                // A stretch is louder than its middle where it falls steeply.
                let allowed = 1.0 + fall * (t * 0.1 + 0.02);
                assert!(
                    (found - expected).abs() < allowed,
                    "{age_ms} ms, {partial}: {found} {expected}"
                );
            }
            let expected = (-12.0 - 20.0 * t).max(SOFTEST_DB);
            let found = f64::from(table.level_db[index]);
            assert!((found - expected).abs() < 2.0 + 2.0 * t, "{age_ms} ms: {found} {expected}");
        }
    }

    #[test]
    fn a_slow_rise_is_told_to_the_partials() {
        let rate = 16_000.0;
        let samples: Vec<f32> = (0..16_000)
            .map(|n| {
                let t = f64::from(n) / rate;
                // Twice as loud every 6 ms, up to 30 ms.
                let rise = libm::exp2((t.min(0.03) - 0.03) / 0.006);
                (0.2 * rise * libm::cos(TAU * 440.0 * t)) as f32
            })
            .collect();
        let tracks = analyse(&samples, 16_000, 69, 4).unwrap();
        let told = |ages_ms: &[f32]| {
            let ages_ms = ages_ms.to_vec();
            let recipe = NoteRecipe { partials: 4, ages_ms, ..NoteRecipe::with_levels() };
            let mut table = KeyTable { key: 69, start_turns: vec![0.0; 96], ..KeyTable::default() };
            measure(&mut table, &recipe, &samples, 0, &tracks);
            table.partial_db[0].clone()
        };
        let ages_ms = NoteRecipe::with_levels().ages_ms;
        let of_whole = 20.0 * libm::log10(0.2);
        for (&age_ms, &found) in ages_ms.iter().zip(&told(&ages_ms)) {
            let expected = of_whole + f64::from(age_ms.min(30.0) - 30.0);
            assert!((f64::from(found) - expected).abs() < 3.0, "{age_ms} ms: {found} {expected}");
        }
        // Ages that end within the attack are measured too.
        assert!(told(&[0.0, 20.0])[0] < told(&[0.0, 20.0])[1]);
    }

    #[test]
    fn shares_never_fall() {
        let fit = |product, square| Fit { product, square };
        let shares = |fits: Vec<Fit>| rising(fits).into_iter().map(Fit::share).collect::<Vec<_>>();
        let fits = vec![fit(0.1, 1.0), fit(2.0, 4.0), fit(-0.1, 1.0), fit(0.4, 1.0), fit(0.9, 1.0)];
        assert_eq!(shares(fits), [0.1, 0.38, 0.38, 0.4, 0.9]);
        // One that falls below all before takes them all.
        let fits = vec![fit(0.2, 1.0), fit(0.3, 1.0), fit(-0.2, 1.0)];
        assert!(shares(fits).iter().all(|share| (share - 0.1).abs() < 1e-12));
    }

    #[test]
    fn a_peak_makes_room_for_itself() {
        let mut samples: Vec<f32> =
            (0..16_000).map(|n| 0.02 * libm::sinf(n as f32 * 0.17)).collect();
        samples[5_000] = 0.9;
        let recipe = NoteRecipe { partials: 4, ..NoteRecipe::with_levels() };
        let tracks = analyse(&samples, 16_000, 69, 4).unwrap();
        let mut table = KeyTable { key: 69, start_turns: vec![0.0; 96], ..KeyTable::default() };
        measure(&mut table, &recipe, &samples, 0, &tracks);
        let mut levels = Levels::of_recording(&recipe, &table, 16_000.0, 1.0);
        for (frame, sample) in samples.iter().enumerate() {
            levels.seek(frame as u64);
            assert!(sample.abs() / levels.gain() < 1.0, "{frame}");
        }
    }
}
