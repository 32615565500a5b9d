//! The songs of one bird: phrases out of its repertoire, again and again, never quite the same.
//!
//! A phrase repeats a few syllables, a syllable is a whistle whose pitch glides. Through the pitches
//! of a syllable goes a line of half cosines over log-frequency; a warble adds
//! d sin(2 pi r t) octaves. It begins at once and ends slowly, with a tremolo if it buzzes. Some phrases are far away.
//!
//! A wind in the leaves goes through the rests, as in any recording out of doors. What learns from perfect silence
//! learns that nothing ever follows it, and stays silent once its song is over.

use std::f64::consts::TAU;

use super::random::Random;
use super::tones::{fade, raised};
use super::{Clip, RATE_HZ};

/// A whistle, and the silence after it.
struct Syllable {
    seconds: f64,
    rest_s: f64,
    /// The pitches it passes, evenly in time.
    glide_hz: &'static [f64],
    /// (depth in octaves, rate in Hz).
    warble: (f64, f64),
    /// (depth, rate in Hz) of the loudness.
    tremolo: (f64, f64),
}

/// Syllables that are sung one after the other, so many times.
struct Phrase {
    syllables: &'static [Syllable],
    /// Fewest and most.
    times: (usize, usize),
}

const fn whistle(seconds: f64, rest_s: f64, glide_hz: &'static [f64]) -> Syllable {
    Syllable { seconds, rest_s, glide_hz, warble: (0.0, 0.0), tremolo: (0.0, 0.0) }
}

const REPERTOIRE: [Phrase; 9] = [
    // Long whistles.
    Phrase {
        syllables: &[whistle(0.34, 0.11, &[3_150.0, 3_300.0, 3_250.0, 2_950.0])],
        times: (1, 3),
    },
    Phrase { syllables: &[whistle(0.46, 0.14, &[1_650.0, 1_720.0, 1_980.0])], times: (1, 2) },
    // Trills, falling and rising.
    Phrase { syllables: &[whistle(0.055, 0.025, &[4_800.0, 3_900.0, 2_900.0])], times: (8, 16) },
    Phrase { syllables: &[whistle(0.040, 0.022, &[3_000.0, 3_700.0])], times: (10, 20) },
    // Chirps.
    Phrase {
        syllables: &[whistle(0.095, 0.075, &[2_300.0, 3_600.0, 4_500.0, 4_200.0])],
        times: (2, 5),
    },
    Phrase { syllables: &[whistle(0.038, 0.048, &[3_500.0, 5_700.0, 3_900.0])], times: (4, 9) },
    // See-saw.
    Phrase {
        syllables: &[
            whistle(0.105, 0.035, &[5_150.0, 5_250.0, 5_100.0]),
            whistle(0.135, 0.045, &[3_650.0, 3_600.0, 3_500.0]),
        ],
        times: (3, 6),
    },
    // Warble.
    Phrase {
        syllables: &[Syllable {
            warble: (0.11, 27.0),
            ..whistle(0.62, 0.12, &[2_700.0, 3_000.0, 3_700.0, 3_300.0])
        }],
        times: (1, 2),
    },
    // Buzz.
    Phrase {
        syllables: &[Syllable {
            tremolo: (0.45, 92.0),
            ..whistle(0.24, 0.10, &[4_100.0, 4_350.0, 3_800.0])
        }],
        times: (1, 3),
    },
];

/// Echoes off trees and walls: (seconds later, level).
const ECHOES: [(f64, f64); 3] = [(0.031, 0.10), (0.053, 0.07), (0.087, 0.045)];

/// How long a syllable rises.
const ATTACK_S: f64 = 0.005;
/// Root mean square of the wind, 48 dB below the amplitude of the loudest whistle.
const WIND_RMS: f64 = 0.004;
/// Where the wind begins to fall, by 6 dB an octave.
const WIND_HZ: f64 = 600.0;

impl Syllable {
    /// Octaves above 1 Hz at `done` of its time, 0 to 1.
    fn octaves(&self, done: f64) -> f64 {
        let place = done * (self.glide_hz.len() - 1) as f64;
        let before = (place as usize).min(self.glide_hz.len() - 2);
        let [from, to] = [before, before + 1].map(|pitch| libm::log2(self.glide_hz[pitch]));
        from + (to - from) * raised(place - before as f64)
    }

    /// Adds it at the beginning of `clip`, as far as there is room.
    fn sing(&self, clip: &mut [f64], level: f64, transposed_octaves: f64, tempo: f64) {
        let frames = self.seconds / tempo * f64::from(RATE_HZ);
        let mut turns = 0.0;
        for (n, x) in clip.iter_mut().enumerate().take(frames as usize) {
            let (done, t) = (n as f64 / frames, n as f64 / f64::from(RATE_HZ));
            let warble = self.warble.0 * libm::sin(TAU * self.warble.1 * t);
            let octaves = self.octaves(done) + transposed_octaves + warble;
            turns += libm::exp2(octaves) / f64::from(RATE_HZ);
            let tremolo = 1.0 - self.tremolo.0 * (1.0 - libm::cos(TAU * self.tremolo.1 * t));
            let swell = raised(t / ATTACK_S) * libm::cos(0.25 * TAU * done * done);
            // A whistle is nearly a sine: a little second harmonic.
            let tone = libm::sin(TAU * turns) + 0.06 * libm::sin(2.0 * TAU * turns);
            *x += level * swell * tremolo * tone;
        }
    }
}

/// Songs of three to six phrases, with rests between.
pub(super) fn songs(frames: usize, random: &mut Random) -> Clip {
    let in_frames = |seconds: f64| (seconds * f64::from(RATE_HZ)) as usize;
    let mut clip = vec![0.0; frames];
    let mut at = in_frames(0.05);
    let mut last = REPERTOIRE.len();
    while at < frames {
        for _ in 0..3 + random.below(4) {
            // Any but the one before.
            let next = random.below(REPERTOIRE.len() - 1);
            last = if next >= last { next + 1 } else { next };
            let Phrase { syllables, times: (fewest, most) } = &REPERTOIRE[last];
            let times = fewest + random.below(most - fewest + 1);
            let transposed_octaves = random.between(-0.03, 0.03);
            let (tempo, loudest) = (random.between(0.92, 1.08), random.between(0.15, 1.0));
            for turn in 0..times {
                // Phrases begin softly.
                let level = loudest * (0.5 + 0.5 * (turn + 1) as f64 / times as f64);
                for syllable in *syllables {
                    let room = &mut clip[at.min(frames)..];
                    syllable.sing(room, level, transposed_octaves, tempo);
                    let rest_s = syllable.rest_s * random.between(0.9, 1.1);
                    at += in_frames((syllable.seconds + rest_s) / tempo);
                }
            }
            at += in_frames(random.between(0.05, 0.20));
        }
        at += in_frames(random.between(0.2, 0.8));
    }
    let dry = clip.clone();
    for (later_s, level) in ECHOES {
        let later = in_frames(later_s).min(frames);
        for (x, echo) in clip[later..].iter_mut().zip(&dry) {
            *x += level * echo;
        }
    }
    add_wind(&mut clip, random);
    clip.iter().enumerate().map(|(n, x)| x * fade(n, frames)).collect()
}

/// White noise through a filter of one pole, y += a (x - y) with a = 1 - exp(-2 pi f / rate).
fn add_wind(clip: &mut [f64], random: &mut Random) {
    let a = 1.0 - libm::exp(-TAU * WIND_HZ / f64::from(RATE_HZ));
    // Even draws between -1 and 1 have a mean square of 1/3, of which the filter leaves a / (2 - a).
    let scale = WIND_RMS / libm::sqrt(a / (2.0 - a) / 3.0);
    let mut y = 0.0;
    for x in clip {
        y += a * (random.noise() - y);
        *x += scale * y;
    }
}
