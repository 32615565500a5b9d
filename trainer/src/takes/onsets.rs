//! Where notes begin in a recording: the rise of its spectrum.
//!
//! Onset strength at hop h is the spectral flux
//!
//! `sum_k max(0, L_h[k] - max(L_(h-lag)[k-1], L_(h-lag)[k], L_(h-lag)[k+1]))`,
//! `L_h[k] = log(1 + c |X_h[k]|)`, where c |X| = 100 for a sine as loud as the largest sample,
//!
//! (after Boeck and Widmer 2013, without their filter bank; the maximum over neighbours keeps breath
//! and vibrato from being onsets). A frame of X begins at its hop, and the
//! lag is as long as a frame. So strength is greatest at the onset: there all of one frame lies after
//! it, and all of the other before.

use std::collections::VecDeque;
use std::f64::consts::TAU;

use anyhow::Result;
use realfft::RealFftPlanner;

const HOP_MS: f64 = 2.5;
const FRAME_MS: f64 = 20.0;
/// Levels more than 40 dB below the loudest sample hardly count.
const COMPRESSION: f64 = 100.0;

/// Onset strength over time.
pub(super) struct Onsets {
    pub(super) hop_frames: usize,
    /// `[hops]`: that something begins `hop_frames` * index into the recording.
    strength: Vec<f64>,
}

impl Onsets {
    pub(super) fn find(samples: &[f32], rate_hz: u32) -> Result<Self> {
        let frames = |ms: f64| (ms * f64::from(rate_hz) / 1000.0).round() as usize;
        let (hop_frames, length) = (frames(HOP_MS).max(1), frames(FRAME_MS).max(8));
        let fft = RealFftPlanner::<f32>::new().plan_fft_forward(length);
        let mut input = fft.make_input_vec();
        let mut bins = fft.make_output_vec();
        let hann: Vec<f32> = (0..length)
            .map(|n| (0.5 - 0.5 * libm::cos(TAU * (n as f64 + 0.5) / length as f64)) as f32)
            .collect();
        let peak = samples.iter().fold(f32::MIN_POSITIVE, |peak, x| peak.max(x.abs()));
        let scale = COMPRESSION as f32 / (peak * hann.iter().sum::<f32>() / 2.0);
        // The levels of the frames before, the earliest first: a lag of them.
        let silence = vec![0.0; bins.len()];
        let mut earlier = VecDeque::from(vec![silence; length.div_ceil(hop_frames)]);
        let mut strength = Vec::with_capacity(samples.len().div_ceil(hop_frames));
        for start in (0..samples.len()).step_by(hop_frames) {
            let heard = &samples[start..];
            for (n, (x, weight)) in input.iter_mut().zip(&hann).enumerate() {
                *x = heard.get(n).map_or(0.0, |sample| sample * weight);
            }
            fft.process(&mut input, &mut bins)?;
            let levels: Vec<f32> =
                bins.iter().map(|bin| libm::log1pf(scale * bin.norm_sqr().sqrt())).collect();
            let before = earlier.pop_front().unwrap_or_default();
            let rise = |(bin, now): (usize, &f32)| {
                let near = &before[bin.saturating_sub(1)..(bin + 2).min(before.len())];
                f64::from((now - near.iter().copied().fold(0.0, f32::max)).max(0.0))
            };
            strength.push(levels.iter().enumerate().map(rise).sum());
            earlier.push_back(levels);
        }
        Ok(Self { hop_frames, strength })
    }

    /// The strength at a frame, 0 outside of the recording.
    pub(super) fn at(&self, frame: i64) -> f64 {
        let hop = frame.div_euclid(self.hop_frames as i64);
        usize::try_from(hop).ok().and_then(|hop| self.strength.get(hop)).copied().unwrap_or(0.0)
    }

    /// Over the whole recording.
    pub(super) fn mean(&self) -> f64 {
        self.strength.iter().sum::<f64>() / self.strength.len().max(1) as f64
    }

    /// The frame of the greatest strength within `reach` frames of `near`.
    pub(super) fn strongest(&self, near: i64, reach: i64) -> i64 {
        let frames = (near - reach..=near + reach).step_by(self.hop_frames);
        // Of equals the nearest.
        let order = |a: &i64, b: &i64| {
            let distance = |frame: &i64| (frame - near).abs();
            self.at(*a).total_cmp(&self.at(*b)).then(distance(b).cmp(&distance(a)))
        };
        frames.max_by(order).unwrap_or(near)
    }
}
