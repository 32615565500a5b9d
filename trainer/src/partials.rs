//! The partials of one recorded note: where they lie, and the phase of each at every frame.
//!
//! A network that is told the phases of the partials need not learn pitch, only amplitudes, attack
//! and noise. They are found once a file, in three steps:
//!
//! 1. Onset (here): the note begins where its energy first comes within 30 dB of its peak.
//! 2. Frequencies (`stretch`): a stiff string sounds f_k = k f1 sqrt(1 + B k^2) in place of k f1;
//!    f1 and the inharmonicity B are sought in the `spectrum` of the note's first second.
//! 3. Phases (`track`): partial k, shifted to 0 Hz by exp(-2 pi i f_k t) and low-passed, leaves an
//!    angle that turns slowly, as no real partial keeps quite to the formula. So
//!
//! phase of partial k at frame n  =  2 pi f_k n / rate + deviation_k(n),
//!
//! with the deviation on a grid of 5 ms and a straight line between.
//!
//! Beside it, `pitch` says of a note whether it sounds like another than it is named.

mod pitch;
mod spectrum;
mod stretch;
#[cfg(test)]
mod tests;
mod track;

use std::f64::consts::TAU;

use anyhow::{Context, Result, ensure};

pub use pitch::other_key;
use wavenet_engine::conditioning::{HIGHEST_PARTIAL, partial_ratio};

/// More partials than this are not asked for in earnest.
const MOST_PARTIALS: usize = 1000;
/// The grid of the deviations.
const HOP_S: f64 = 0.005;
/// The note begins where its energy first comes this near to its peak.
const ONSET_BELOW_PEAK_DB: f64 = 30.0;
/// The energy is measured over stretches of this length.
const ONSET_STEP_S: f64 = 0.002;
/// The energy (sum of squares) of a stretch that counts as silence.
const SILENT_ENERGY: f64 = 1e-12;
/// A recording must go on this long after its onset.
const SHORTEST_NOTE_MS: usize = 100;
/// Samples beyond this are not sound.
const LARGEST_SAMPLE: f32 = 1e6;

/// The phases of the partials of one recorded note. Partials are counted from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct PartialTracks {
    /// The recording's sample rate.
    pub rate_hz: f64,
    /// f1 in f_k = k f1 sqrt(1 + B k^2).
    pub fundamental_hz: f64,
    /// B in f_k = k f1 sqrt(1 + B k^2); 0 for a harmonic sound.
    pub inharmonicity: f64,
    /// Where the note begins, in frames of the recording.
    pub onset_frame: usize,
    /// The distance between two values of `deviation`, in frames.
    pub hop_frames: usize,
    /// `[partials][hops]`: the phase less 2 pi f_k t, in radians, unwrapped, at the frames 0,
    /// `hop_frames`, 2 `hop_frames`, ... to the recording's end. Empty for an absent partial.
    pub deviation: Vec<Vec<f32>>,
    /// `[partials][hops]`: the amplitude at the same frames. Empty for an absent partial.
    pub amplitude: Vec<Vec<f32>>,
    /// `[partials]`: mean level over the note's first second, in dB below a sine of full scale.
    /// Minus infinity for an absent partial.
    pub level_db: Vec<f32>,
}

impl PartialTracks {
    /// f_k: where `partial` should lie, present or not, in Hz.
    pub fn partial_hz(&self, partial: usize) -> f64 {
        self.fundamental_hz * partial_ratio(partial, self.inharmonicity)
    }

    /// Whether `partial` was asked for and lies low enough for the recording's rate.
    pub fn present(&self, partial: usize) -> bool {
        self.track(partial).is_some()
    }

    /// The phase of `partial` at `frame` of the recording, in turns, 0 to below 1. 0 if absent.
    ///
    /// The frame may be fractional, for a resampled copy of the recording. Before the onset and
    /// after the recording's end the partial turns steadily at its frequency.
    pub fn phase_turns(&self, partial: usize, frame: f64) -> f32 {
        let Some(track) = self.track(partial) else {
            return 0.0;
        };
        let last = track.len() - 1;
        let hop = (frame / self.hop_frames as f64).clamp(0.0, last as f64);
        let before = hop as usize;
        let left = f64::from(track[before]);
        let right = f64::from(track[(before + 1).min(last)]);
        let deviation = left + (right - left) * (hop - before as f64);
        let turns = self.partial_hz(partial) * frame / self.rate_hz + deviation / TAU;
        let turns = (turns - turns.floor()) as f32;
        // The narrower type may round up to a whole turn.
        if turns < 1.0 { turns } else { 0.0 }
    }

    /// `[partials]`: the phases at the onset, in turns, with which a note is to start.
    pub fn start_phases(&self) -> Vec<f32> {
        (1..=self.deviation.len())
            .map(|partial| self.phase_turns(partial, self.onset_frame as f64))
            .collect()
    }

    fn track(&self, partial: usize) -> Option<&[f32]> {
        let track = self.deviation.get(partial.checked_sub(1)?)?;
        (!track.is_empty()).then_some(track)
    }
}

/// Finds the first `partials` partials of the one note in `samples`, mono at `rate_hz`.
///
/// `key` is the MIDI key the recording is named after (69 = A4 = 440 Hz): the pitch is sought
/// within 90 cents of it.
///
/// # Errors
///
/// The recording is silent, ends within 100 ms of its onset, holds values that are not sound,
/// or no partial stands out near the key; or the key is too high for the rate.
pub fn analyse(samples: &[f32], rate_hz: u32, key: u8, partials: usize) -> Result<PartialTracks> {
    ensure!(
        (1..=MOST_PARTIALS).contains(&partials),
        "{partials} partials were asked for: ask for 1 to {MOST_PARTIALS}"
    );
    ensure!(rate_hz >= 1000, "a sample rate of {rate_hz} Hz is too low to find partials");
    ensure!(
        samples.iter().all(|sample| sample.abs() <= LARGEST_SAMPLE),
        "the recording holds values that are not sound"
    );
    let rate = f64::from(rate_hz);
    let onset_frame = onset(samples, rate).context("the recording is silent")?;
    let note = &samples[onset_frame..];
    ensure!(
        note.len() * 1000 >= SHORTEST_NOTE_MS * rate_hz as usize,
        "the recording ends within {SHORTEST_NOTE_MS} ms of its onset"
    );
    let nominal_hz = 440.0 * libm::exp2((f64::from(key) - 69.0) / 12.0);
    let stretch = stretch::find(note, rate, nominal_hz)?;

    let hop_frames = (HOP_S * rate).round() as usize;
    let demodulated: Vec<_> = (1..=partials)
        .take_while(|&partial| stretch.partial_hz(partial) <= HIGHEST_PARTIAL * rate)
        .map(|partial| {
            let hz = stretch.partial_hz(partial);
            let spacing_hz =
                (stretch.partial_hz(partial + 1) - stretch.partial_hz(partial - 1)) / 2.0;
            track::demodulate(samples, rate, hz, spacing_hz, hop_frames)
        })
        .collect();
    let loudest = demodulated.iter().map(track::Demodulated::peak).fold(0.0, f32::max);

    let onset_hop = onset_frame.div_ceil(hop_frames);
    let second_hops = rate_hz as usize / hop_frames;
    let mut deviation = vec![Vec::new(); partials];
    let mut amplitude = vec![Vec::new(); partials];
    let mut level_db = vec![f32::NEG_INFINITY; partials];
    for (index, shifted) in demodulated.into_iter().enumerate() {
        deviation[index] = shifted.deviation(onset_hop, loudest);
        level_db[index] = shifted.level_db(onset_hop, second_hops);
        amplitude[index] = shifted.amplitude_from(onset_frame, hop_frames);
    }
    Ok(PartialTracks {
        rate_hz: rate,
        fundamental_hz: stretch.fundamental_hz,
        inharmonicity: stretch.inharmonicity,
        onset_frame,
        hop_frames,
        deviation,
        amplitude,
        level_db,
    })
}

/// The first frame of the first stretch whose energy is within 30 dB of the loudest. None for
/// silence.
fn onset(samples: &[f32], rate_hz: f64) -> Option<usize> {
    let step = (ONSET_STEP_S * rate_hz).round() as usize;
    let energies: Vec<f64> = samples
        .chunks(step)
        .map(|stretch| stretch.iter().map(|&x| f64::from(x) * f64::from(x)).sum())
        .collect();
    let peak = energies.iter().copied().fold(SILENT_ENERGY, f64::max);
    let enough = peak * libm::pow(10.0, -ONSET_BELOW_PEAK_DB / 10.0);
    let first = energies.iter().position(|&energy| energy > enough)?;
    (peak > SILENT_ENERGY).then_some(first * step)
}
