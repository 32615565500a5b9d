//! Made-up recordings to learn with: six folders of short 16-bit mono WAVs, from sines to birds.
//!
//! Every file is a function of the seed and its own name. The arithmetic is +, *, / and libm in
//! f64, so that the files are the same, byte for byte, on every machine.

mod bird;
mod pluck;
mod random;
mod tones;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use random::Random;

/// The rate of the files.
pub const RATE_HZ: u32 = 44_100;

/// The usual length of a file: all files together last three minutes.
pub const DEFAULT_SECONDS_PER_FILE: f64 = 4.0;

/// The loudest sample of a file at velocity 127, full scale = 1.
const LOUDEST: f64 = 0.9;

/// A clip to render: mono samples in [-1, 1].
type Clip = Vec<f64>;

/// What one file holds.
enum Sound {
    Sine { key: u8 },
    Chord { keys: &'static [u8] },
    Sweep { from_hz: f64, to_hz: f64 },
    Noise,
    Pluck { key: u8, velocity: u8 },
    Bird,
}

/// Writes the recordings into the folder `out`, each `seconds_per_file` long (0.5 to 60), and gives
/// their paths in sorted order.
///
/// Pitched files carry note and velocity in their names: `sine/A4_100.wav`, `pluck/C#3_060.wav`.
///
/// # Errors
///
/// One line: `out` exists and is not an empty folder, cannot be written, or the length is outside
/// of its range.
pub fn write_recordings(out: &Path, seed: u64, seconds_per_file: f64) -> Result<Vec<PathBuf>> {
    let shown = out.display();
    ensure!(
        (0.5..=60.0).contains(&seconds_per_file),
        "{seconds_per_file} s a file is not between 0.5 and 60"
    );
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
    let mut recordings = recordings();
    recordings.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, velocity, sound) in &recordings {
        let path = new.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&new)).with_context(failed)?;
        let clip = render(sound, *velocity, &mut Random::new(seed, name), seconds_per_file);
        write_wav(&path, &clip).with_context(failed)?;
    }
    if out.exists() {
        fs::remove_dir(out).with_context(failed)?;
    }
    fs::rename(&new, out).with_context(failed)?;
    Ok(recordings.into_iter().map(|(name, ..)| out.join(name)).collect())
}

/// (Path below the folder, velocity, sound) of every file.
fn recordings() -> Vec<(String, u8, Sound)> {
    let mut files = Vec::new();
    let sines =
        [("C3", 48), ("E3", 52), ("A3", 57), ("C4", 60), ("E4", 64), ("A4", 69), ("C5", 72)];
    for (n, (note, key)) in sines.into_iter().enumerate() {
        let velocity = if n % 2 == 0 { 80 } else { 100 };
        files.push((format!("sine/{note}_{velocity:03}.wav"), velocity, Sound::Sine { key }));
    }
    let chords: [(&str, &[u8]); 6] = [
        ("C-major", &[48, 55, 60, 64]),
        ("A-minor", &[45, 52, 60, 64]),
        ("F-major", &[53, 57, 60, 65]),
        ("G-seventh", &[43, 53, 59, 62]),
        ("D-minor", &[50, 57, 62, 65]),
        ("E-fourths", &[52, 57, 62, 67]),
    ];
    for (name, keys) in chords {
        files.push((format!("chord/{name}.wav"), 100, Sound::Chord { keys }));
    }
    let sweeps = [(55.0, 1_760.0), (110.0, 7_040.0), (220.0, 3_520.0)];
    for (n, (low_hz, high_hz)) in (1..).zip(sweeps) {
        let up = Sound::Sweep { from_hz: low_hz, to_hz: high_hz };
        let down = Sound::Sweep { from_hz: high_hz, to_hz: low_hz };
        files.push((format!("sweep/up-{n}.wav"), 90, up));
        files.push((format!("sweep/down-{n}.wav"), 90, down));
    }
    for n in 1..=6 {
        files.push((format!("noise/pattern-{n}.wav"), 110, Sound::Noise));
        files.push((format!("bird/call-{n}.wav"), 100, Sound::Bird));
    }
    let plucks =
        [("E2", 40), ("A2", 45), ("C#3", 49), ("E3", 52), ("A3", 57), ("C#4", 61), ("A4", 69)];
    for (note, key) in plucks {
        for velocity in [60, 110] {
            let name = format!("pluck/{note}_{velocity:03}.wav");
            files.push((name, velocity, Sound::Pluck { key, velocity }));
        }
    }
    files
}

/// `seconds` of the sound, its loudest sample set by the velocity.
fn render(sound: &Sound, velocity: u8, random: &mut Random, seconds: f64) -> Clip {
    let frames = (seconds * f64::from(RATE_HZ)) as usize;
    let mut clip = match *sound {
        Sound::Sine { key } => tones::sine(key_hz(key), frames),
        Sound::Chord { keys } => tones::chord(keys, frames, random),
        Sound::Sweep { from_hz, to_hz } => tones::sweep(from_hz, to_hz, frames),
        Sound::Noise => tones::noise_pattern(frames, random),
        Sound::Pluck { key, velocity } => pluck::pluck(key_hz(key), velocity, frames, random),
        Sound::Bird => bird::call(frames, random),
    };
    let peak = clip.iter().fold(0.0, |peak: f64, x| peak.max(x.abs()));
    let gain = LOUDEST * f64::from(velocity) / 127.0 / peak.max(1e-9);
    clip.iter_mut().for_each(|x| *x *= gain);
    clip
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
