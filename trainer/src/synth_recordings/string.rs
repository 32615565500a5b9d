//! A plucked string, as the sum of its modes: in tune by construction.
//!
//! Mode k of a stiff string, plucked at the share p of its length, pulls at the bridge with
//!
//! `sin(pi k p) / k  exp(-s_k t) cos(2 pi f_k t)`,  `f_k = k f1 sqrt(1 + B k^2)`
//!
//! (Fletcher and Rossing 1998, chapter 2). Friction in air and wood lets high modes die first:
//! s(f) = 1.0 + 1.4 f + 0.3 f^2, f in kHz, so that 55 Hz dies by 60 dB in 6.4 s and 2 kHz in 1.4 s.
//! A plectrum is no point and takes time to slip: modes above its corner are weaker, by 12 dB an
//! octave, and the corner rises with the velocity. What is heard is the bridge through the body,
//! a few resonances beside a direct way, and through the air, into which a small body sends little
//! bass: their gain and phase at f_k. The pluck also knocks on the body, which rings for a moment.

use std::f64::consts::{PI, TAU};

use super::random::Random;
use super::tones::raised;
use super::{Clip, RATE_HZ};

/// The body's resonances: (frequency in Hz, quality, gain). Between a guitar's and a harp's.
const BODY: [(f64, f64, f64); 8] = [
    (104.0, 14.0, 0.55),
    (208.0, 16.0, 0.60),
    (392.0, 18.0, -0.40),
    (547.0, 20.0, 0.35),
    (731.0, 22.0, -0.30),
    (1_180.0, 16.0, 0.35),
    (1_930.0, 10.0, -0.35),
    (2_950.0, 5.0, 0.90),
];
/// p: where the string is plucked, as a share of its length.
const PLACE: f64 = 0.137;
/// The way past the resonances.
const DIRECT: f64 = 0.6;
/// Below this the body is smaller than the wave.
const BODY_SIZE_HZ: f64 = 130.0;
/// Modes above this are not heard.
const HIGHEST_HZ: f64 = 18_000.0;
/// A mode this weak, the strongest near 1, is left out, and ends there.
const INAUDIBLE: f64 = 1e-6;

/// `velocity` 1 to 127: a harder pluck is brighter, faster, and knocks louder.
pub(super) fn string(hz: f64, velocity: u8, frames: usize, random: &mut Random) -> Clip {
    let hardness = f64::from(velocity) / 127.0;
    let plectrum_hz = 450.0 * libm::exp2(f64::from(velocity) / 30.0) * (hz / 220.0).sqrt();
    let stiffness = inharmonicity(hz);
    let mut clip = vec![0.0; frames];
    let first_hz = hz / (1.0 + stiffness).sqrt();
    for k in (1..).map(f64::from) {
        let mode_hz = k * first_hz * (1.0 + stiffness * k * k).sqrt();
        if mode_hz > HIGHEST_HZ {
            break;
        }
        let (gain, turns) = body(mode_hz);
        let force = libm::sin(PI * k * PLACE) / k;
        let level = gain * force / (1.0 + (mode_hz / plectrum_hz) * (mode_hz / plectrum_hz));
        let khz = mode_hz / 1000.0;
        ring(&mut clip, mode_hz, level, turns, 1.0 + 1.4 * khz + 0.3 * khz * khz);
    }

    // The knock: the body's own modes, and the scrape of the plectrum.
    for (body_hz, quality, gain) in BODY {
        let level = 0.05 * hardness * gain;
        ring(&mut clip, body_hz, level, -0.25, PI * body_hz / quality);
    }
    let mut scrape = 0.0;
    for (n, x) in clip.iter_mut().enumerate().take((0.02 * f64::from(RATE_HZ)) as usize) {
        let t = n as f64 / f64::from(RATE_HZ);
        scrape += 0.4 * (random.noise() - scrape);
        *x += 0.04 * hardness * libm::exp(-t / 0.003) * scrape;
    }
    let slip_s = 0.003 - 0.002 * hardness;
    for (n, x) in clip.iter_mut().enumerate() {
        let slipped = raised(n as f64 / f64::from(RATE_HZ) / slip_s);
        let left = raised((frames - n) as f64 / f64::from(RATE_HZ) / 0.1);
        *x *= slipped * left;
    }
    clip
}

/// B of the string that sounds at `hz`: short strings are the stiffer ones.
pub(super) fn inharmonicity(hz: f64) -> f64 {
    1e-5 * libm::pow(hz / 55.0, 0.8)
}

/// Adds `level cos(2 pi (hz t + turns)) exp(-per_s t)`.
fn ring(clip: &mut [f64], hz: f64, level: f64, turns: f64, per_s: f64) {
    let step = TAU * hz / f64::from(RATE_HZ);
    let decay = libm::exp(-per_s / f64::from(RATE_HZ));
    let (step_re, step_im) = (decay * libm::cos(step), decay * libm::sin(step));
    let (mut re, mut im) = (level * libm::cos(TAU * turns), level * libm::sin(TAU * turns));
    let seconds = libm::log((level.abs() / INAUDIBLE).max(1.0)) / per_s;
    for x in clip.iter_mut().take((seconds * f64::from(RATE_HZ)) as usize) {
        *x += re;
        (re, im) = (re * step_re - im * step_im, re * step_im + im * step_re);
    }
}

/// Gain and phase (in turns) of the way from the bridge to the ear.
fn body(hz: f64) -> (f64, f64) {
    let (mut re, mut im) = (DIRECT, 0.0);
    for (body_hz, quality, gain) in BODY {
        // g j x / (1 - y^2 + j x), y = f / f_i, x = y / Q.
        let y = hz / body_hz;
        let (across, along) = (y / quality, 1.0 - y * y);
        let share = gain * across / (along * along + across * across);
        (re, im) = (re + share * across, im + share * along);
    }
    // j z / (1 + j z), z = f / size.
    let z = hz / BODY_SIZE_HZ;
    let air = z / (1.0 + z * z).sqrt();
    (air * libm::hypot(re, im), (libm::atan2(im, re) + libm::atan2(1.0, z)) / TAU)
}
