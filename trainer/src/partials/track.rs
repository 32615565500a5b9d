//! The phase of one partial over time, by demodulation.
//!
//! z(t) = 2 sum_n w(n) x(t + n) exp(-2 pi i f n / rate) / sum_n w(n),  w a Hann window,
//!
//! is the partial's amplitude and phase at t, where nothing else sounds within the window's main
//! lobe. Its angle less 2 pi f t moves slowly: that is the deviation.

use std::f64::consts::{PI, TAU};

/// The least length of the window, in seconds.
const WINDOW_S: f64 = 0.05;
/// The least length of the window, in beats of two neighbouring partials.
const WINDOW_BEATS: f64 = 3.0;
/// This far below its own loudest moment a partial no longer has a phase worth following.
const FLOOR_BELOW_OWN_PEAK_DB: f64 = 50.0;
/// Nor this far below the loudest moment of the loudest partial.
const FLOOR_BELOW_LOUDEST_DB: f64 = 70.0;

/// One partial shifted to 0 Hz, a value a hop.
pub(super) struct Demodulated {
    amplitude: Vec<f32>,
    /// Wrapped, in radians.
    angle: Vec<f32>,
    /// Half the window, in frames.
    half: usize,
    /// Hops whose window ends before the recording does. Where it cuts the window short the
    /// neighbours are heard.
    whole_hops: usize,
}

/// Half the window's length: of the whole numbers of beats 1 / `spacing_hz`, the first that is
/// long enough. A Hann window of such a length is deaf at the neighbouring partials.
fn half_window_frames(rate_hz: f64, spacing_hz: f64) -> usize {
    let beats = (WINDOW_S * spacing_hz).ceil().max(WINDOW_BEATS);
    (rate_hz * beats / spacing_hz / 2.0).round() as usize
}

/// Shifts what sounds at `hz` to 0 Hz. The neighbouring partials are `spacing_hz` away.
pub(super) fn demodulate(
    samples: &[f32],
    rate_hz: f64,
    hz: f64,
    spacing_hz: f64,
    hop_frames: usize,
) -> Demodulated {
    let half = half_window_frames(rate_hz, spacing_hz);
    let (mut re, mut im, mut sum) = (Vec::new(), Vec::new(), 0.0);
    for n in 0..=2 * half {
        let offset = n as f64 - half as f64;
        let weight = 0.5 + 0.5 * libm::cos(PI * offset / half as f64);
        let angle = TAU * hz * offset / rate_hz;
        re.push((weight * libm::cos(angle)) as f32);
        im.push((-weight * libm::sin(angle)) as f32);
        sum += weight;
    }
    let shifted = |centre: usize| {
        // Beyond the recording's ends is silence: that part of the window is left out.
        let first = half.saturating_sub(centre);
        let last = (2 * half + 1).min((samples.len() + half).saturating_sub(centre));
        if first >= last {
            return (0.0, 0.0);
        }
        let heard = &samples[centre + first - half..centre + last - half];
        let real = f64::from(dot(heard, &re[first..last]));
        let imaginary = f64::from(dot(heard, &im[first..last]));
        let carrier_turns = hz * centre as f64 / rate_hz;
        let angle = libm::atan2(imaginary, real) - TAU * (carrier_turns - carrier_turns.floor());
        ((2.0 * libm::hypot(real, imaginary) / sum) as f32, wrap(angle) as f32)
    };
    let hops = samples.len().div_ceil(hop_frames) + 1;
    let (amplitude, angle) = (0..hops).map(|hop| shifted(hop * hop_frames)).unzip();
    let whole_hops = samples.len().saturating_sub(half) / hop_frames;
    Demodulated { amplitude, angle, half, whole_hops }
}

/// Sum of products, in eight chains so that it vectorises.
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let (x8, y8) = (x.chunks_exact(8), y.chunks_exact(8));
    let rest = x8.remainder().iter().zip(y8.remainder());
    let rest: f32 = rest.map(|(a, b)| a * b).sum();
    let mut chains = [0.0f32; 8];
    for (a, b) in x8.zip(y8) {
        for ((chain, a), b) in chains.iter_mut().zip(a).zip(b) {
            *chain += a * b;
        }
    }
    chains.iter().sum::<f32>() + rest
}

/// The same angle within half a turn of 0.
fn wrap(angle: f64) -> f64 {
    angle - TAU * (angle / TAU).round()
}

impl Demodulated {
    /// The largest amplitude.
    pub(super) fn peak(&self) -> f32 {
        self.amplitude.iter().copied().fold(0.0, f32::max)
    }

    /// The unwrapped angle, a value a hop. Where the partial is too weak the angle is noise: there
    /// it is bridged by a straight line, and held before the onset and after the partial's end.
    pub(super) fn deviation(&self, onset_hop: usize, loudest: f32) -> Vec<f32> {
        let below = |db: f64| libm::pow(10.0, -db / 20.0) as f32;
        let floor = (self.peak() * below(FLOOR_BELOW_OWN_PEAK_DB))
            .max(loudest * below(FLOOR_BELOW_LOUDEST_DB))
            .max(f32::MIN_POSITIVE);
        let mut deviation = Vec::with_capacity(self.angle.len());
        let mut unwrapped = None;
        let hops = self.amplitude.iter().zip(&self.angle).enumerate();
        // Of a recording shorter than the window at least the onset is used.
        let hops = hops.take(self.whole_hops.max(onset_hop + 1)).skip(onset_hop);
        for (hop, (&amplitude, &angle)) in hops {
            if amplitude >= floor {
                let angle = f64::from(angle);
                let next = unwrapped.map_or(angle, |last| last + wrap(angle - last));
                bridge(&mut deviation, hop, unwrapped.unwrap_or(next), next);
                unwrapped = Some(next);
            }
        }
        deviation.resize(self.angle.len(), unwrapped.unwrap_or(0.0) as f32);
        deviation
    }

    /// The amplitude, a value a hop. Near the onset a part of the window hears nothing: there the amplitude
    /// is that of the part which hears. Where the recording's end cuts the window short it is held.
    pub(super) fn amplitude_from(&self, onset_frame: usize, hop_frames: usize) -> Vec<f32> {
        // The share of the Hann window's sum after `x` half windows from its middle.
        let after = |x: f64| {
            let x = x.clamp(-1.0, 1.0);
            0.5 - 0.5 * (x + libm::sin(PI * x) / PI)
        };
        let half = self.half as f64;
        let whole = |(hop, &amplitude): (usize, &f32)| {
            let from_onset = onset_frame as f64 - (hop * hop_frames) as f64;
            let heard = after(from_onset / half);
            // Less than half a window says little.
            if heard < 0.5 { 0.0 } else { (f64::from(amplitude) / heard) as f32 }
        };
        let last = (self.whole_hops.max(1) - 1).min(self.amplitude.len() - 1);
        let held = self.amplitude[last];
        let hops = self.amplitude.iter().enumerate().take(last + 1);
        let mut amplitude: Vec<f32> = hops.map(whole).collect();
        amplitude.resize(self.amplitude.len(), held);
        amplitude
    }

    /// Root mean square of the amplitude over `hops` from the onset, in dB below 1.
    pub(super) fn level_db(&self, onset_hop: usize, hops: usize) -> f32 {
        let after = self.amplitude.iter().skip(onset_hop).take(hops);
        let count = after.len().max(1) as f64;
        let power: f64 = after.map(|&a| f64::from(a) * f64::from(a)).sum();
        (10.0 * libm::log10(power / count)) as f32
    }
}

/// Appends a straight line from `start`, the last value, to `end`, which is to be at index `hop`.
fn bridge(line: &mut Vec<f32>, hop: usize, start: f64, end: f64) {
    let length = hop + 1 - line.len();
    line.extend((1..=length).map(|i| (start + (end - start) * i as f64 / length as f64) as f32));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The neighbours are 60 dB louder, the partial 3 Hz beside its place, and yet it is followed.
    #[test]
    fn neighbours_are_not_heard() {
        let (rate_hz, hop_frames) = (16_000.0, 80);
        let wave = |hz: f64, t: f64| libm::cos(TAU * hz * t + 1.0);
        let samples: Vec<f32> = (0..16_000)
            .map(|n| f64::from(n) / rate_hz)
            .map(|t| 0.5 * wave(100.0, t) + 0.0005 * wave(203.0, t) + 0.5 * wave(300.0, t))
            .map(|x| x as f32)
            .collect();
        let shifted = demodulate(&samples, rate_hz, 200.0, 100.0, hop_frames);
        let deviation = shifted.deviation(20, 0.0);
        for (hop, found) in deviation.iter().enumerate().take(180).skip(20) {
            let expected = 1.0 + TAU * 3.0 * hop as f64 * 0.005;
            let error = f64::from(*found) - expected;
            assert!(error.abs() < 0.05, "hop {hop}: {error} radians off");
        }
    }

    #[test]
    fn the_angle_is_unwrapped_bridged_and_held() {
        let shifted = Demodulated {
            amplitude: vec![1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0],
            angle: vec![9.0, 9.0, 2.5, -3.0, 9.0, 9.0, -2.4, 9.0, 9.0],
            half: 1,
            whole_hops: 8,
        };
        let turn = TAU as f32;
        let end = turn - 2.4;
        let expected = [2.5, 2.5, 2.5, turn - 3.0, turn - 2.8, turn - 2.6, end, end, end];
        let found = shifted.deviation(1, 1.0);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} for {expected}");
        }
        assert_eq!(shifted.deviation(99, 1.0), vec![0.0; 9]);
    }
}
