use std::f64::consts::TAU;

use realfft::RealFftPlanner;
use wavenet_engine::conditioning::partial_ratio;

use super::*;
use crate::corpus;
use crate::partials::analyse;

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

/// Root mean square of the differences of neighbours, against that of the clip: it rises with the
/// frequencies that the clip holds.
fn brightness(clip: &[f64]) -> f64 {
    let differences: Vec<f64> = clip.windows(2).map(|pair| pair[1] - pair[0]).collect();
    pad::rms(&differences) / pad::rms(clip)
}

#[test]
fn the_files_are_the_same_twice_and_differ_by_seed() {
    let parent = tempfile::tempdir().unwrap();
    let bytes = |folder: &str, seed: u64| -> Vec<Vec<u8>> {
        let out = parent.path().join(folder);
        let paths = write_recordings(&out, &[], seed, Some(0.5)).unwrap();
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
    for path in write_recordings(&parent.path().join("a"), &[], 1, Some(0.5)).unwrap() {
        sha2::Digest::update(&mut hash, fs::read(path).unwrap());
    }
    let hash = sha2::Digest::finalize(hash);
    let hex: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "2b1f88257e613fd6");
}

#[test]
fn every_file_sounds_below_full_scale_and_is_read_as_it_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("made");
    let paths = write_recordings(&out, &[], 1, Some(1.0)).unwrap();
    for path in &paths {
        let samples = read(path);
        let peak = samples.iter().fold(0.0, |peak: f64, x| peak.max(x.abs()));
        let (peak_db, rms) = (20.0 * libm::log10(peak), pad::rms(&samples));
        assert!((peak_db + 3.0).abs() < 0.01 && rms > 0.01, "{}: {peak_db} {rms}", path.display());
        assert_eq!(samples.len(), 44_100);
    }
    let found = corpus::find(&[&out], None).unwrap().remove(0);
    assert_eq!(
        found.items.iter().map(|item| &item.path).collect::<Vec<_>>(),
        paths.iter().collect::<Vec<_>>()
    );
    let mut labels: Vec<_> = found.items.iter().filter_map(|item| item.label.clone()).collect();
    labels.dedup();
    assert_eq!(labels, ["bird", "chord", "noise", "pad", "sine", "string", "sweep"]);
    for item in &found.items {
        let struck = item.name.starts_with("string/") || item.name.starts_with("pad/");
        let (note, velocity) = (item.note, item.note.and_then(|note| note.velocity));
        assert_eq!(note.is_some(), struck || item.name.starts_with("sine/"), "{}", item.name);
        assert_eq!(velocity.is_some(), struck, "{}", item.name);
    }
}

#[test]
fn one_timbre_alone_is_as_long_as_suits_it() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("made");
    let paths = write_recordings(&out, &[Timbre::String], 1, None).unwrap();
    assert_eq!(paths.len(), 44);
    let name = |path: &Path| path.strip_prefix(&out).unwrap().to_owned();
    assert_eq!(name(&paths[2]), Path::new("string/A2_048.wav"));
    let seconds = |name: &str| read(&out.join(name)).len() / RATE_HZ as usize;
    assert_eq!((seconds("string/A1_048.wav"), seconds("string/C7_104.wav")), (6, 3));
}

#[test]
fn notes_are_in_tune_with_their_names() {
    for (name, sound) in recordings(&[Timbre::Sine, Timbre::String, Timbre::Pad]) {
        let (key, tolerance_cents) = match sound {
            Sound::Sine { key } => (key, 0.1),
            Sound::String { key, .. } | Sound::Pad { key, .. } => (key, 0.3),
            _ => continue,
        };
        let clip = sound.render(&mut Random::new(1, &name), 1.0);
        let off = cents(peak_hz(&clip, key_hz(key)), key_hz(key));
        assert!(off.abs() < tolerance_cents, "{name} is off by {off} cents");
    }
    assert!((key_hz(69) - 440.0).abs() < 1e-9);
}

/// The trainer's analysis finds what the notes were made of.
#[test]
fn notes_are_analysed_as_they_were_made() {
    for (name, sound) in recordings(&[Timbre::String, Timbre::Pad]) {
        let (key, inharmonicity) = match sound {
            Sound::String { key, velocity: 104 } => (key, string::inharmonicity(key_hz(key))),
            Sound::Pad { key, velocity: 104 } => (key, 0.0),
            _ => continue,
        };
        // Every ninth key: they take their time.
        if key % 9 != LOWEST_KEY % 9 {
            continue;
        }
        let clip = sound.render(&mut Random::new(1, &name), 1.5);
        let samples: Vec<f32> = clip.iter().map(|&x| x as f32).collect();
        let tracks = analyse(&samples, RATE_HZ, key, 16).unwrap();
        for k in [1, 4] {
            let stretched = partial_ratio(k, inharmonicity) / partial_ratio(1, inharmonicity);
            let off = cents(tracks.partial_hz(k), key_hz(key) * stretched);
            assert!(off.abs() < 1.0, "{name}: partial {k} is off by {off} cents");
        }
    }
}

#[test]
fn harder_notes_are_brighter() {
    for key in [33, 57, 81, 96] {
        let bright = |sound: Sound| brightness(&sound.render(&mut Random::new(1, "a"), 1.0));
        let string = VELOCITIES.map(|velocity| bright(Sound::String { key, velocity }));
        let pad = VELOCITIES.map(|velocity| bright(Sound::Pad { key, velocity }));
        assert!(string[1] > 1.1 * string[0] && pad[1] > 1.1 * pad[0], "{key} {string:?} {pad:?}");
    }
}

/// What is left without the tone.
#[test]
fn breath_is_22_db_below_the_pad() {
    for key in [33, 57, 81, 96] {
        let clip = pad::pad(key_hz(key), 104, 88_200, &mut Random::new(1, "a"));
        let tone = pad::tone(key_hz(key), 104, 88_200, &mut Random::new(1, "a"));
        let middle = 22_050..66_150;
        let breath: Vec<f64> = clip[middle.clone()]
            .iter()
            .zip(&tone[middle.clone()])
            .map(|(all, tone)| all - tone)
            .collect();
        let db = 20.0 * libm::log10(pad::rms(&breath) / pad::rms(&tone[middle]));
        assert!((db + 22.0).abs() < 1.5, "{key}: {db} dB");
    }
}

/// No more than a hundredth of the power lies outside of 1.5 to 6 kHz; for a tenth to half of the time only the
/// wind is heard, and it never stops.
#[test]
fn birds_sing_high_and_with_rests() {
    let clip = Sound::Bird.render(&mut Random::new(1, "a"), 20.0);
    let spectrum = RealFftPlanner::<f64>::new().plan_fft_forward(clip.len());
    let mut bins = spectrum.make_output_vec();
    spectrum.process(&mut clip.clone(), &mut bins).unwrap();
    let power = |from_hz: usize, to_hz: usize| -> f64 {
        bins[20 * from_hz..20 * to_hz].iter().map(|bin| bin.norm_sqr()).sum()
    };
    assert!(power(1_500, 6_000) > 0.99 * power(0, 22_050));
    let steps = clip.chunks(RATE_HZ as usize / 10);
    let db: Vec<f64> = steps.map(|step| 20.0 * libm::log10(pad::rms(step))).collect();
    let resting = db.iter().filter(|&&db| db < -45.0).count();
    let share = resting as f64 / db.len() as f64;
    assert!((0.1..0.5).contains(&share), "{share} of the time is rest");
    assert!(db[1..db.len() - 1].iter().all(|&db| db > -55.0), "{db:?}");
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
    let error = write_recordings(parent.path(), &[], 1, None).unwrap_err().to_string();
    assert!(error.ends_with("exists and is not an empty folder: choose another"), "{error}");
    let file = parent.path().join("diary.txt");
    assert!(write_recordings(&file, &[], 1, None).is_err());
    for wrong in [0.0, 1e9, f64::NAN] {
        assert!(write_recordings(&parent.path().join("x"), &[], 1, Some(wrong)).is_err());
    }
    fs::create_dir(parent.path().join("empty")).unwrap();
    assert!(write_recordings(&parent.path().join("empty"), &[Timbre::Sine], 1, Some(0.5)).is_ok());
}
