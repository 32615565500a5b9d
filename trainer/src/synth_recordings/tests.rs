use std::f64::consts::TAU;

use super::*;
use crate::corpus;

/// The frequency of the strongest partial within three semitones of `near_hz`: the maximum of a
/// Hann-windowed Fourier transform of `clip`, narrowed down to a tenth of a cent.
fn peak_hz(clip: &[f64], near_hz: f64) -> f64 {
    let turn = TAU / clip.len() as f64;
    let windowed: Vec<f64> =
        clip.iter().enumerate().map(|(n, x)| x * (1.0 - libm::cos(turn * n as f64))).collect();
    let hz = |cents: f64| near_hz * libm::exp2(cents / 1200.0);
    let power = |hz: f64| {
        // A rotation instead of a sine for every sample.
        let step = TAU * hz / f64::from(RATE_HZ);
        let (step_re, step_im) = (libm::cos(step), libm::sin(step));
        let (mut re, mut im, mut sum_re, mut sum_im) = (1.0, 0.0, 0.0, 0.0);
        for x in &windowed {
            (sum_re, sum_im) = (sum_re + x * re, sum_im + x * im);
            (re, im) = (re * step_re - im * step_im, re * step_im + im * step_re);
        }
        sum_re * sum_re + sum_im * sum_im
    };
    let (mut centre_cents, mut reach_cents) = (0.0, 300.0);
    while reach_cents > 0.1 {
        let around = (-5..=5).map(|n| centre_cents + reach_cents * f64::from(n) / 5.0);
        let powers = around.map(|cents| (power(hz(cents)), cents));
        centre_cents = powers.max_by(|a, b| a.0.total_cmp(&b.0)).map_or(0.0, |best| best.1);
        reach_cents /= 4.0;
    }
    hz(centre_cents)
}

fn cents(hz: f64, of_hz: f64) -> f64 {
    1200.0 * libm::log2(hz / of_hz)
}

fn read(path: &Path) -> Vec<f64> {
    let mut reader = hound::WavReader::open(path).unwrap();
    reader.samples::<i16>().map(|x| f64::from(x.unwrap()) / 32_768.0).collect()
}

#[test]
fn the_files_are_the_same_twice_and_differ_by_seed() {
    let parent = tempfile::tempdir().unwrap();
    let bytes = |folder: &str, seed: u64| -> Vec<Vec<u8>> {
        let paths = write_recordings(&parent.path().join(folder), seed, 0.5).unwrap();
        paths.iter().map(|path| fs::read(path).unwrap()).collect()
    };
    let first = bytes("a", 1);
    assert!(first == bytes("b", 1));
    let other = bytes("c", 2);
    // Sines and sweeps draw nothing.
    assert_eq!(first.iter().zip(&other).filter(|(a, b)| a == b).count(), 7 + 6);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 3);
}

/// The bytes of all files, so that another machine that makes others is noticed.
#[test]
fn the_files_are_the_same_on_every_machine() {
    let parent = tempfile::tempdir().unwrap();
    let mut hash = sha2::Sha256::default();
    for path in write_recordings(&parent.path().join("a"), 1, 0.5).unwrap() {
        sha2::Digest::update(&mut hash, fs::read(path).unwrap());
    }
    let hash = sha2::Digest::finalize(hash);
    let hex: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "3d0901ede96ae36f");
}

#[test]
fn every_file_sounds_below_full_scale_and_is_read_as_it_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("made");
    let paths = write_recordings(&out, 1, 1.0).unwrap();
    for path in &paths {
        let samples = read(path);
        let peak = samples.iter().fold(0.0, |peak: f64, x| peak.max(x.abs()));
        let rms = libm::sqrt(samples.iter().map(|x| x * x).sum::<f64>() / samples.len() as f64);
        assert!((0.3..0.95).contains(&peak) && rms > 0.01, "{}: {peak} {rms}", path.display());
        assert_eq!(samples.len(), 44_100);
    }
    let found = corpus::find(&[&out]).unwrap().remove(0);
    assert_eq!(
        found.items.iter().map(|item| &item.path).collect::<Vec<_>>(),
        paths.iter().collect::<Vec<_>>()
    );
    let mut labels: Vec<_> = found.items.iter().filter_map(|item| item.label.clone()).collect();
    labels.dedup();
    assert_eq!(labels, ["bird", "chord", "noise", "pluck", "sine", "sweep"]);
    for item in &found.items {
        let pitched = item.name.starts_with("sine/") || item.name.starts_with("pluck/");
        assert_eq!(item.note.is_some_and(|note| note.velocity.is_some()), pitched, "{}", item.name);
    }
    let seconds = paths.len() as f64 * DEFAULT_SECONDS_PER_FILE;
    assert!((120.0..240.0).contains(&seconds), "{seconds} s in all");
}

#[test]
fn sines_and_plucks_are_in_tune_with_their_names() {
    for (name, velocity, sound) in recordings() {
        let (key, tolerance_cents) = match sound {
            Sound::Sine { key } => (key, 0.1),
            Sound::Pluck { key, .. } => (key, 3.0),
            _ => continue,
        };
        let clip = render(&sound, velocity, &mut Random::new(1, &name), 0.6);
        let off = cents(peak_hz(&clip, key_hz(key)), key_hz(key));
        assert!(off.abs() < tolerance_cents, "{name} is off by {off} cents");
    }
    assert!((key_hz(69) - 440.0).abs() < 1e-9);
}

/// The share of the energy that lies in the differences of neighbouring samples.
#[test]
fn harder_plucks_are_brighter() {
    let brightness = |velocity: u8| {
        let clip = pluck::pluck(220.0, velocity, 22_050, &mut Random::new(1, "a"));
        let high: f64 = clip.windows(2).map(|pair| (pair[1] - pair[0]) * (pair[1] - pair[0])).sum();
        high / clip.iter().map(|x| x * x).sum::<f64>()
    };
    assert!(brightness(110) > 1.5 * brightness(60), "{} {}", brightness(110), brightness(60));
}

#[test]
fn a_sweep_passes_its_middle_at_half_time() {
    let clip = tones::sweep(110.0, 7_040.0, 44_100);
    // Half of six octaves above 110 Hz; over 20 ms the sweep moves 0.12 octaves.
    let off = cents(peak_hz(&clip[21_609..22_491], 880.0), 880.0);
    assert!(off.abs() < 30.0, "{off} cents");
}

#[test]
fn a_folder_in_use_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    fs::write(parent.path().join("diary.txt"), "dear diary").unwrap();
    let error = write_recordings(parent.path(), 1, 1.0).unwrap_err().to_string();
    assert!(error.ends_with("exists and is not an empty folder: choose another"), "{error}");
    let file = parent.path().join("diary.txt");
    assert!(write_recordings(&file, 1, 1.0).is_err());
    for wrong in [0.0, 1e9, f64::NAN] {
        assert!(write_recordings(&parent.path().join("x"), 1, wrong).is_err());
    }
    fs::create_dir(parent.path().join("empty")).unwrap();
    assert!(write_recordings(&parent.path().join("empty"), 1, 0.5).is_ok());
}
