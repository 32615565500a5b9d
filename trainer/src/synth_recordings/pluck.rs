//! A plucked string after Karplus and Strong (1983), in tune after Jaffe and Smith (1983).
//!
//! A loop of N samples of delay, a low-pass that makes high partials die first, and an all-pass
//! for the fraction of a sample that is missing:
//!
//! `y[n] = x[n] + g A(L(y))[n - N]`, `L(z) = (1 - s) + s z^-1`, `A(z) = (a + z^-1) / (1 + a z^-1)`
//!
//! The fundamental f needs a loop of rate/f samples. At w = 2 pi f / rate, L delays by
//! atan2(s sin w, (1 - s) + s cos w) / w, and A by exactly D with
//! a = sin((1 - D) w/2) / sin((1 + D) w/2).

use std::f64::consts::TAU;

use super::random::Random;
use super::tones::fade;
use super::{Clip, RATE_HZ};

/// `velocity` 1 to 127: a harder pluck is brighter.
pub(super) fn pluck(hz: f64, velocity: u8, frames: usize, random: &mut Random) -> Clip {
    let w = TAU * hz / f64::from(RATE_HZ);
    let period = f64::from(RATE_HZ) / hz;

    let s = 0.25;
    let (sin, cos) = (libm::sin(w), libm::cos(w));
    let low_pass_delay = libm::atan2(s * sin, (1.0 - s) + s * cos) / w;
    // The all-pass takes what is left after a whole number of samples, between 0.5 and 1.5.
    let left = period - low_pass_delay;
    let whole = libm::floor(left - 0.5);
    let fraction = left - whole;
    let a = libm::sin((1.0 - fraction) * w / 2.0) / libm::sin((1.0 + fraction) * w / 2.0);

    // The fundamental dies by 60 dB in 2 to 8 seconds, low notes slowest.
    let decay_s = (2.0 * 440.0 / hz).clamp(2.0, 8.0);
    let low_pass_gain = libm::hypot((1.0 - s) + s * cos, s * sin);
    let gain = libm::pow(0.001, 1.0 / (decay_s * hz)).min(0.9999 * low_pass_gain) / low_pass_gain;

    // The pluck: a period of noise, darkened by a one-pole low-pass for soft velocities, without
    // its mean (which would sound as a thud).
    let brightness = 0.05 + 0.9 * libm::pow(f64::from(velocity) / 127.0, 2.0);
    let mut smooth = 0.0;
    let mut burst: Vec<f64> = (0..period as usize)
        .map(|_| {
            smooth += brightness * (random.noise() - smooth);
            smooth
        })
        .collect();
    let mean = burst.iter().sum::<f64>() / burst.len().max(1) as f64;
    burst.iter_mut().for_each(|x| *x -= mean);

    let delay = whole as usize;
    let mut string = vec![0.0; frames];
    let (mut last_y, mut last_in, mut last_out) = (0.0, 0.0, 0.0);
    for n in 0..frames {
        let y = if n >= delay { string[n - delay] } else { 0.0 };
        let low = (1.0 - s) * y + s * last_y;
        let all = a * low + last_in - a * last_out;
        (last_y, last_in, last_out) = (y, low, all);
        string[n] = burst.get(n).copied().unwrap_or(0.0) + gain * all;
    }
    string.iter().enumerate().map(|(n, y)| y * fade(n, frames)).collect()
}
