//! The pitch of a note, whatever its name says: a name that is wrong by an octave or a fifth still finds partials to
//! lie on. By the period, after McLeod and Wyvill (2005), "A smarter way to find pitch".

use pitch_detection::detector::PitchDetector;
use pitch_detection::detector::mcleod::McLeodDetector;

use wavenet_engine::resample::Resampler;

use super::onset;

/// The attack is noise; then at most so much is listened to.
const AFTER_ONSET_MS: usize = 100;
const HEARD_MS: usize = 350;
const SHORTEST_MS: usize = 100;
/// It is heard at so many times its rate.
const FINER: u32 = 4;
/// How like itself the sound must be a period later: of the piano's recordings none is mistaken above it, and most of
/// its lowest and highest octave lie below.
const CLEAR: f64 = 0.85;
/// Longer periods come of the end of what is listened to.
const LOWEST_HZ: f64 = 25.0;
/// Keys of a name and a pitch that lie so near are the same: the search for partials covers that.
const SAME_SEMITONES: f64 = 0.9;

/// The key that a note sounds like (69 = A4), where it is surely another than `key`.
pub fn other_key(samples: &[f32], rate_hz: u32, key: u8) -> Option<u8> {
    let semitones = 69.0 + 12.0 * libm::log2(pitch_hz(samples, rate_hz)? / 440.0);
    let is_other = (semitones - f64::from(key)).abs() > SAME_SEMITONES;
    (is_other && (0.0..=127.0).contains(&semitones)).then(|| semitones.round() as u8)
}

/// In Hz, where it is clear.
fn pitch_hz(samples: &[f32], rate_hz: u32) -> Option<f64> {
    let frames = |ms: usize| ms * rate_hz as usize / 1000;
    let note = samples.get(onset(samples, f64::from(rate_hz))? + frames(AFTER_ONSET_MS)..)?;
    let most = note.len().min(frames(HEARD_MS));
    if most < frames(SHORTEST_MS).max(2) {
        return None;
    }
    // The detector has room for the Fourier transform of a power of two; of other lengths not always.
    let heard = &note[..1 << most.ilog2()];
    // A period of a few samples is like itself only where it is a whole number of them.
    let fine_hz = rate_hz.checked_mul(FINER)?;
    let mut fine = Vec::with_capacity(heard.len() * FINER as usize);
    let mut resampler = Resampler::new(rate_hz, fine_hz).ok()?;
    resampler.process(heard, &mut fine);
    resampler.finish((heard.len() * FINER as usize) as u64, &mut fine);
    let mean = fine.iter().map(|&x| f64::from(x)).sum::<f64>() / fine.len() as f64;
    let fine: Vec<f64> = fine.iter().map(|&x| f64::from(x) - mean).collect();
    let mut detector = McLeodDetector::new(fine.len(), fine.len());
    let pitch = detector.get_pitch(&fine, fine_hz as usize, f64::MIN_POSITIVE, CLEAR)?;
    (pitch.frequency >= LOWEST_HZ && pitch.frequency.is_finite()).then_some(pitch.frequency)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;
    use std::path::Path;

    use wavenet_engine::Philox;

    use super::*;
    use crate::audio::read_recording;
    use crate::corpus::notes::read_notes;

    const RATE_HZ: u32 = 16_000;

    /// A second of a tone with partials that fall by 6 dB an octave; without its first it is no other note.
    fn tone(key: u8, first: u32) -> Vec<f32> {
        let hz = 440.0 * libm::exp2((f64::from(key) - 69.0) / 12.0);
        let sample = |n: u32| {
            let partial = |k: u32| {
                libm::sin(TAU * hz * f64::from(k) * f64::from(n) / 16_000.0) / f64::from(k)
            };
            let present = (first..first + 12).filter(|&k| hz * f64::from(k) < 7_000.0);
            0.2 * present.map(partial).sum::<f64>() as f32
        };
        (0..RATE_HZ).map(sample).collect()
    }

    #[test]
    fn a_wrong_name_is_told_whichever_it_is() {
        for key in (30..=90).step_by(4) {
            for first in if key < 70 { 1..3 } else { 1..2 } {
                let samples = tone(key, first);
                assert_eq!(other_key(&samples, RATE_HZ, key), None, "{key}");
                for wrong in [-24, -12, -7, -1, 1, 5, 12, 19] {
                    let named = (i16::from(key) + wrong) as u8;
                    assert_eq!(
                        other_key(&samples, RATE_HZ, named),
                        Some(key),
                        "{key}, not {named}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_has_no_clear_pitch_has_no_other_name() {
        let draws = Philox::new(1, 1);
        let noise: Vec<f32> = (0..16_000).map(|n| draws.uniform(n) - 0.5).collect();
        let silence = vec![0.0; 16_000];
        for samples in [&noise[..], &silence, &noise[..900], &[], &tone(60, 1)[..3_000]] {
            assert_eq!(other_key(samples, RATE_HZ, 60), None);
        }
    }

    /// No file of the piano is mistaken; most have a pitch that is clear, and would tell a wrong name.
    #[test]
    fn a_real_pianos_names_are_believed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/piano-kw");
        if !folder.exists() {
            eprintln!("skipped: the piano recordings are not at ../shared/data/piano-kw");
            return;
        }
        let (mut files, mut clear) = (0, 0);
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            let Some(Some(name)) = read_notes(&[stem]).pop() else { continue };
            let key = name.key;
            let recording = read_recording(&path, RATE_HZ).unwrap();
            assert_eq!(other_key(&recording.samples, RATE_HZ, key), None, "{}", path.display());
            files += 1;
            for wrong in [key - 12, key - 7, key + 12] {
                let other = other_key(&recording.samples, RATE_HZ, wrong);
                assert!(other.is_none_or(|other| other == key), "{}: {other:?}", path.display());
                clear += usize::from(other.is_some());
            }
        }
        eprintln!("{files} files, {} of them clear", clear / 3);
        assert!(files > 50 && clear > 3 * files * 2 / 3);
    }
}
