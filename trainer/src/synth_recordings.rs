//! Made-up recordings to learn with: a folder of 16-bit mono WAVs a timbre, from sines to birds.
//!
//! Every file is a function of the seed and its own name. The arithmetic is +, *, /, square roots
//! and libm in f64, so that the files are the same, byte for byte, on every machine.

mod bird;
mod pad;
mod random;
mod string;
mod tones;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::corpus::notes::key_name;
use random::Random;

/// The rate of the files.
pub const RATE_HZ: u32 = 44_100;

/// The loudest sample of each file: -3 dB, full scale = 1.
const PEAK: f64 = 0.707_945_784_384_138;

/// The keys of `string` and `pad`: A1 to C7.
const LOWEST_KEY: u8 = 33;
const HIGHEST_KEY: u8 = 96;
const MINOR_THIRD: usize = 3;
const VELOCITIES: [u8; 2] = [48, 104];

/// A clip to render: mono samples.
type Clip = Vec<f64>;

/// A kind of sound, and the folder that it is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Timbre {
    /// Steady tones, in tune
    Sine,
    /// Strummed chords
    Chord,
    /// Glides over octaves
    Sweep,
    /// Rhythms of filtered noise
    Noise,
    /// A plucked string: notes at two velocities
    String,
    /// A breathy pad: notes at two velocities
    Pad,
    /// The songs of a bird
    Bird,
}

/// What one file holds.
enum Sound {
    Sine { key: u8 },
    Chord { keys: &'static [u8] },
    Sweep { from_hz: f64, to_hz: f64 },
    Noise,
    String { key: u8, velocity: u8 },
    Pad { key: u8, velocity: u8 },
    Bird,
}

/// Writes recordings of `timbres` (all, if empty) into the folder `out`, each file as long as suits
/// it or `seconds` long (0.5 to 60), and gives their paths in sorted order.
///
/// Notes carry their keys in their names, and velocities where there are several:
/// `sine/A4.wav`, `string/D#2_048.wav`.
///
/// # Errors
///
/// One line: `out` exists and is not an empty folder, cannot be written, or the length is outside
/// of its range.
pub fn write_recordings(
    out: &Path,
    timbres: &[Timbre],
    seed: u64,
    seconds: Option<f64>,
) -> Result<Vec<PathBuf>> {
    let shown = out.display();
    if let Some(seconds) = seconds {
        ensure!((0.5..=60.0).contains(&seconds), "{seconds} s a file is not between 0.5 and 60");
    }
    let is_empty = || fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    ensure!(
        !out.exists() || is_empty(),
        "{shown} exists and is not an empty folder: choose another"
    );
    let failed = || format!("cannot write {shown}");

    // Beside it, then renamed: a half-written folder is never seen.
    let parent = match out.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).with_context(failed)?;
    let beside =
        tempfile::Builder::new().prefix(".synth-").tempdir_in(parent).with_context(failed)?;
    let new = beside.path().join("new");
    let mut recordings = recordings(timbres);
    recordings.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, sound) in &recordings {
        let path = new.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&new)).with_context(failed)?;
        let seconds = seconds.unwrap_or_else(|| sound.usual_seconds());
        let clip = sound.render(&mut Random::new(seed, name), seconds);
        write_wav(&path, &clip).with_context(failed)?;
    }
    if out.exists() {
        fs::remove_dir(out).with_context(failed)?;
    }
    fs::rename(&new, out).with_context(failed)?;
    Ok(recordings.into_iter().map(|(name, _)| out.join(name)).collect())
}

/// (Path below the folder, sound) of every file.
fn recordings(timbres: &[Timbre]) -> Vec<(String, Sound)> {
    let timbres = if timbres.is_empty() { Timbre::value_variants() } else { timbres };
    let mut files = Vec::new();
    if timbres.contains(&Timbre::Sine) {
        for key in [48, 52, 57, 60, 64, 69, 72] {
            files.push((format!("sine/{}.wav", key_name(key)), Sound::Sine { key }));
        }
    }
    if timbres.contains(&Timbre::Chord) {
        let chords: [(&str, &[u8]); 6] = [
            ("C-major", &[48, 55, 60, 64]),
            ("A-minor", &[45, 52, 60, 64]),
            ("F-major", &[53, 57, 60, 65]),
            ("G-seventh", &[43, 53, 59, 62]),
            ("D-minor", &[50, 57, 62, 65]),
            ("E-fourths", &[52, 57, 62, 67]),
        ];
        for (name, keys) in chords {
            files.push((format!("chord/{name}.wav"), Sound::Chord { keys }));
        }
    }
    if timbres.contains(&Timbre::Sweep) {
        let sweeps = [(55.0, 1_760.0), (110.0, 7_040.0), (220.0, 3_520.0)];
        for (n, (low_hz, high_hz)) in (1..).zip(sweeps) {
            let up = Sound::Sweep { from_hz: low_hz, to_hz: high_hz };
            let down = Sound::Sweep { from_hz: high_hz, to_hz: low_hz };
            files.push((format!("sweep/up-{n}.wav"), up));
            files.push((format!("sweep/down-{n}.wav"), down));
        }
    }
    if timbres.contains(&Timbre::Noise) {
        files.extend((1..=6).map(|n| (format!("noise/pattern-{n}.wav"), Sound::Noise)));
    }
    if timbres.contains(&Timbre::Bird) {
        files.extend((1..=8).map(|n| (format!("bird/song-{n}.wav"), Sound::Bird)));
    }
    for key in (LOWEST_KEY..=HIGHEST_KEY).step_by(MINOR_THIRD) {
        for velocity in VELOCITIES {
            let note = format!("{}_{velocity:03}.wav", key_name(key));
            if timbres.contains(&Timbre::String) {
                files.push((format!("string/{note}"), Sound::String { key, velocity }));
            }
            if timbres.contains(&Timbre::Pad) {
                files.push((format!("pad/{note}"), Sound::Pad { key, velocity }));
            }
        }
    }
    files
}

impl Sound {
    /// Low strings ring longest; a bird needs time for its repertoire.
    fn usual_seconds(&self) -> f64 {
        match self {
            Self::String { key, .. } => 6.0 - f64::from(key - LOWEST_KEY) / 21.0,
            Self::Pad { .. } => 4.5,
            Self::Bird => 30.0,
            _ => 4.0,
        }
    }

    fn render(&self, random: &mut Random, seconds: f64) -> Clip {
        let frames = (seconds * f64::from(RATE_HZ)) as usize;
        let mut clip = match *self {
            Self::Sine { key } => tones::sine(key_hz(key), frames),
            Self::Chord { keys } => tones::chord(keys, frames, random),
            Self::Sweep { from_hz, to_hz } => tones::sweep(from_hz, to_hz, frames),
            Self::Noise => tones::noise_pattern(frames, random),
            Self::String { key, velocity } => string::string(key_hz(key), velocity, frames, random),
            Self::Pad { key, velocity } => pad::pad(key_hz(key), velocity, frames, random),
            Self::Bird => bird::songs(frames, random),
        };
        let peak = clip.iter().fold(0.0, |peak: f64, x| peak.max(x.abs()));
        clip.iter_mut().for_each(|x| *x *= PEAK / peak.max(1e-9));
        clip
    }
}

/// Equal temperament, A4 = 69 = 440 Hz.
fn key_hz(key: u8) -> f64 {
    440.0 * libm::exp2((f64::from(key) - 69.0) / 12.0)
}

fn write_wav(path: &Path, clip: &[f64]) -> Result<()> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE_HZ,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec)?;
    for &x in clip {
        writer.write_sample(libm::round(x * 32_767.0) as i16)?;
    }
    Ok(writer.finalize()?)
}

#[cfg(test)]
mod tests;
