//! A breathy pad: a slow tone of harmonics, and the breath that makes it.
//!
//! Harmonic k of the fundamental f has the level k^-0.9 / (1 + (k f / c)^2), even ones half of it
//! (as of a pipe that is closed at one end), where the corner c rises with the velocity. Each
//! swells and fades by an eighth within seconds, in its own time, but keeps its phase: Schroeder's
//! (1970), -pi k (k - 1) / 32, by which no peak stands out. The breath is noise through a loop as
//! long as a period, so that it too favours the harmonics, then through a broad band-pass; its
//! power is 22 dB below the tone's.

use std::f64::consts::TAU;

use super::random::Random;
use super::tones::{BandPass, raised};
use super::{Clip, RATE_HZ};

const BREATH_DB: f64 = -22.0;
/// Share of the breath that goes round the loop once more.
const LOOP_GAIN: f64 = 0.8;
const HIGHEST_HZ: f64 = 16_000.0;
/// A harmonic this weak, the first near 1, is left out.
const INAUDIBLE: f64 = 1e-5;
/// Levels move along straight lines this long.
const SWELL_FRAMES: usize = 64;
const RELEASE_S: f64 = 0.15;

/// `velocity` 1 to 127: a harder pad is brighter and rises faster, in 150 to 80 ms.
pub(super) fn pad(hz: f64, velocity: u8, frames: usize, random: &mut Random) -> Clip {
    let mut clip = tone(hz, velocity, frames, random);
    let attack_s = attack_s(velocity);
    let breath = breath(hz, frames, random);
    let gain = libm::pow(10.0, BREATH_DB / 20.0) * rms(&clip) / rms(&breath).max(1e-9);
    for (n, (x, breath)) in clip.iter_mut().zip(breath).enumerate() {
        let t = n as f64 / f64::from(RATE_HZ);
        let left = (frames - n) as f64 / f64::from(RATE_HZ);
        // One hears the breath first, and most before the tone speaks.
        let blown = raised(2.0 * t / attack_s) * (1.0 + libm::exp(-t / attack_s));
        *x = (*x + gain * blown * breath) * raised(left / RELEASE_S);
    }
    clip
}

fn attack_s(velocity: u8) -> f64 {
    0.15 - 0.07 * f64::from(velocity) / 127.0
}

/// Root mean square.
pub(super) fn rms(clip: &[f64]) -> f64 {
    (clip.iter().map(|x| x * x).sum::<f64>() / clip.len().max(1) as f64).sqrt()
}

/// The harmonics.
pub(super) fn tone(hz: f64, velocity: u8, frames: usize, random: &mut Random) -> Clip {
    let corner_hz = 350.0 * libm::exp2(f64::from(velocity) / 32.0) * (hz / 220.0).sqrt();
    let mut clip = vec![0.0; frames];
    for k in (1..).map(f64::from).take_while(|k| k * hz <= HIGHEST_HZ) {
        let dull = 1.0 + (k * hz / corner_hz) * (k * hz / corner_hz);
        let level = libm::pow(k, -0.9) / dull * if k % 2.0 == 0.0 { 0.5 } else { 1.0 };
        let (swell_hz, swell_turns) = (random.between(0.2, 0.8), random.between(0.0, 1.0));
        if level < INAUDIBLE {
            break;
        }
        // High harmonics speak later.
        let attack_s = attack_s(velocity) * (1.0 + 0.3 * libm::log2(k).min(4.0));
        let level_at = |frame: usize| {
            let t = frame as f64 / f64::from(RATE_HZ);
            let swell = 1.0 + 0.125 * libm::sin(TAU * (swell_hz * t + swell_turns));
            level * swell * raised(t / attack_s)
        };
        let turns = -k * (k - 1.0) / 64.0;
        let (mut re, mut im) = (libm::cos(TAU * turns), libm::sin(TAU * turns));
        let step = TAU * k * hz / f64::from(RATE_HZ);
        let (step_re, step_im) = (libm::cos(step), libm::sin(step));
        for (block, stretch) in clip.chunks_mut(SWELL_FRAMES).enumerate() {
            let from = level_at(block * SWELL_FRAMES);
            let slope = (level_at((block + 1) * SWELL_FRAMES) - from) / SWELL_FRAMES as f64;
            for (n, x) in stretch.iter_mut().enumerate() {
                *x += (from + slope * n as f64) * re;
                (re, im) = (re * step_re - im * step_im, re * step_im + im * step_re);
            }
        }
    }
    clip
}

/// Steady noise that favours the multiples of `hz`.
fn breath(hz: f64, frames: usize, random: &mut Random) -> Clip {
    let period = f64::from(RATE_HZ) / hz;
    let (whole, share) = (period as usize, period - libm::floor(period));
    let mut band = BandPass::new((3.0 * hz).clamp(700.0, 3_000.0), 1.6);
    let mut looped = vec![0.0; frames];
    for n in 0..frames {
        let at = |delay: usize| if n >= delay { looped[n - delay] } else { 0.0 };
        let back = at(whole) + share * (at(whole + 1) - at(whole));
        looped[n] = random.noise() + LOOP_GAIN * back;
    }
    looped.into_iter().map(|x| band.next(x)).collect()
}
