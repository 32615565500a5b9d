//! Every file here is made by the test itself, byte by byte where no writer exists.

use std::f64::consts::TAU;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn write(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// A WAV of `samples` (`[frames][channels]`) as 32-bit float or 16-bit integer.
fn wav(rate_hz: u32, channels: u16, float: bool, samples: &[f32]) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels,
        sample_rate: rate_hz,
        bits_per_sample: if float { 32 } else { 16 },
        sample_format: if float { hound::SampleFormat::Float } else { hound::SampleFormat::Int },
    };
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    for &sample in samples {
        if float {
            writer.write_sample(sample).unwrap();
        } else {
            writer.write_sample((sample * 32_767.0) as i16).unwrap();
        }
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}

fn sine(rate_hz: u32, frames: usize) -> Vec<f32> {
    let step = TAU * 440.0 / f64::from(rate_hz);
    (0..frames).map(|n| (0.5 * libm::sin(step * n as f64)) as f32).collect()
}

/// The plainest FLAC: mono, 16 bit, verbatim subframes of 1024 samples, no checksum of the whole.
fn flac(rate_hz: u32, samples: &[f32]) -> Vec<u8> {
    fn crc(bits: u32, polynomial: u32, bytes: &[u8]) -> u32 {
        let (top, mask) = (1 << (bits - 1), (1_u32 << bits) - 1);
        bytes.iter().fold(0, |crc, &byte| {
            (0..8).fold(crc ^ (u32::from(byte) << (bits - 8)), |crc, _| {
                ((crc << 1) ^ if crc & top != 0 { polynomial } else { 0 }) & mask
            })
        })
    }
    let mut bytes = b"fLaC\x80\x00\x00\x22\x04\x00\x04\x00\0\0\0\0\0\0".to_vec();
    let packed = (u64::from(rate_hz) << 44) | (15 << 36) | samples.len() as u64;
    bytes.extend(packed.to_be_bytes());
    bytes.extend([0; 16]);
    for (number, block) in samples.chunks(1024).enumerate() {
        let mut frame = vec![0xFF, 0xF8, 0x70, 0x08, number as u8];
        frame.extend((block.len() as u16 - 1).to_be_bytes());
        frame.push(crc(8, 0x07, &frame) as u8);
        frame.push(0x02);
        frame.extend(block.iter().flat_map(|&x| ((x * 32_767.0) as i16).to_be_bytes()));
        let sum = crc(16, 0x8005, &frame) as u16;
        frame.extend(sum.to_be_bytes());
        bytes.extend(frame);
    }
    bytes
}

/// AIFF, mono, 16 bit, 44.1 kHz.
fn aiff(samples: &[f32]) -> Vec<u8> {
    let data: Vec<u8> =
        samples.iter().flat_map(|&x| ((x * 32_767.0) as i16).to_be_bytes()).collect();
    let mut bytes = b"FORM".to_vec();
    bytes.extend((46 + data.len() as u32).to_be_bytes());
    bytes.extend(b"AIFFCOMM\0\0\0\x12\0\x01");
    bytes.extend((samples.len() as u32).to_be_bytes());
    bytes.extend(b"\0\x10\x40\x0E\xAC\x44\0\0\0\0\0\0SSND");
    bytes.extend((8 + data.len() as u32).to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend(data);
    bytes
}

/// MP3 frames of silence (44.1 kHz, mono, 128 kbit/s, 1152 frames each); those in `bad` lean on a
/// bit reservoir that does not exist.
fn mp3(frames: usize, bad: &[usize]) -> Vec<u8> {
    (0..frames)
        .flat_map(|number| {
            let mut frame = vec![0; 417];
            frame[..4].copy_from_slice(&[0xFF, 0xFB, 0x90, 0xC0]);
            if bad.contains(&number) {
                // main_data_begin = 511, part2_3_length of the first granule > 0.
                frame[4..9].copy_from_slice(&[0xFF, 0x80, 0x3F, 0xFF, 0xFF]);
            }
            frame
        })
        .collect()
}

fn error_of(path: &Path) -> String {
    let error = format!("{:#}", read_recording(path, 16_000).unwrap_err());
    assert!(error.starts_with(&path.display().to_string()), "{error} does not name the file");
    assert!(!error.contains('\n'), "{error} has several lines");
    error
}

#[test]
fn wav_flac_and_aiff_give_the_same_samples() {
    let folder = tempfile::tempdir().unwrap();
    let source = sine(44_100, 30_000);
    for (name, bytes) in [
        ("a.WAV", wav(44_100, 1, false, &source)),
        ("a.flac", flac(44_100, &source)),
        ("a.aiff", aiff(&source)),
    ] {
        let recording = read_recording(&write(&folder, name, &bytes), 44_100).unwrap();
        assert_eq!((recording.source_rate_hz, recording.source_channels), (44_100, 1));
        assert_eq!(recording.samples.len(), source.len(), "{name}");
        for (&got, &want) in recording.samples.iter().zip(&source) {
            assert!((got - want).abs() < 1e-4, "{name}: {got} not {want}");
        }
    }
}

#[test]
fn channels_are_averaged_and_clipping_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let frames: Vec<f32> =
        (0..1000).flat_map(|_| [0.9, -0.3, 0.0]).chain([1.0, -1.0, 0.0]).collect();
    let path = write(&folder, "three.wav", &wav(48_000, 3, true, &frames));
    let recording = read_recording(&path, 48_000).unwrap();
    assert_eq!((recording.source_channels, recording.clipped_samples), (3, 2));
    assert_eq!(recording.samples.len(), 1001);
    assert!((recording.samples[500] - 0.2).abs() < 1e-6);
    assert_eq!(recording.samples[1000], 0.0);
}

#[test]
fn an_impulse_in_a_stereo_file_keeps_its_second() {
    let folder = tempfile::tempdir().unwrap();
    let mut frames = vec![0.0; 2 * 44_100];
    frames[44_100..44_102].fill(0.9);
    let path = write(&folder, "impulse.wav", &wav(44_100, 2, false, &frames));
    let samples = read_recording(&path, 16_000).unwrap().samples;
    let loudest = (0..samples.len()).max_by(|&a, &b| samples[a].total_cmp(&samples[b]));
    assert_eq!((samples.len(), loudest), (16_000, Some(8_000)));
}

#[test]
fn what_exceeds_full_scale_is_clamped() {
    let folder = tempfile::tempdir().unwrap();
    let loud: Vec<f32> = sine(44_100, 4_410).iter().map(|x| 4.0 * x).collect();
    let path = write(&folder, "loud.wav", &wav(44_100, 1, true, &loud));
    let recording = read_recording(&path, 16_000).unwrap();
    assert!(recording.samples.iter().all(|x| x.abs() <= 1.0));
    assert!(recording.samples.contains(&1.0) && recording.samples.contains(&-1.0));
    assert_eq!(recording.clipped_samples, loud.iter().filter(|x| x.abs() >= 0.999).count());
}

#[test]
fn a_file_cut_short_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = sine(44_100, 88_200);
    for (name, bytes) in [
        ("a.wav", wav(44_100, 1, false, &source)),
        ("a.flac", flac(44_100, &source)),
        ("a.aiff", aiff(&source)),
    ] {
        let error = error_of(&write(&folder, name, &bytes[..bytes.len() * 3 / 5]));
        // The AIFF reader looks for the end at once.
        let place = if name == "a.aiff" { "" } else { " after 1.2 s" };
        assert!(error.contains(&format!(" is cut short or damaged{place} (")), "{error}");
        assert!(error.ends_with("re-export it or remove it"), "{error}");
        // One byte less than whole, and nothing but the header.
        error_of(&write(&folder, name, &bytes[..bytes.len() - 1]));
        error_of(&write(&folder, name, &bytes[..40]));
    }
    let mut damaged = flac(44_100, &source);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x55;
    let error = error_of(&write(&folder, "b.flac", &damaged));
    assert!(error.contains("damaged after 1.0 s (a part is missing)"), "{error}");
}

#[test]
fn an_mp3_may_lose_a_few_packets() {
    let folder = tempfile::tempdir().unwrap();
    let recording = read_recording(&write(&folder, "a.mp3", &mp3(40, &[])), 44_100).unwrap();
    let whole = recording.samples.len();
    assert_eq!((whole, recording.damaged_packets), (40 * 1152, 0));
    let recording = read_recording(&write(&folder, "b.mp3", &mp3(40, &[7])), 44_100).unwrap();
    assert_eq!((recording.samples.len(), recording.damaged_packets), (whole - 1152, 1));
    let error = error_of(&write(&folder, "c.mp3", &mp3(40, &[5, 9, 13, 17])));
    assert!(error.contains("has 4 damaged packets of 40"), "{error}");
}

#[test]
fn errors_say_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let mut samples = sine(44_100, 44_100);
    samples[22_050] = f32::NAN;
    let opus = b"OggS\0\x02\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x01\x13OpusHead\x01\x01\0\0\x80\xBB\0\0\0\0\0";
    for (name, bytes, want) in [
        ("nan.wav", wav(44_100, 1, true, &samples), "NaN or infinite) at 0.5 s"),
        ("empty.wav", wav(44_100, 1, false, &[]), "holds no samples"),
        ("one.wav", wav(44_100, 1, false, &[0.5]), "holds no samples"),
        ("zero.wav", Vec::new(), "is an empty file"),
        ("text.wav", b"a shopping list, by mistake".repeat(99), "convert it to WAV, FLAC"),
        (
            "voice.opus",
            opus.to_vec(),
            "is an .opus file, which is not read here: convert it to WAV",
        ),
        ("voice.m4a", b"....ftypM4A ".to_vec(), "is an .m4a file"),
        ("slow.wav", wav(10, 1, false, &samples[..99]), "claims a sample rate of 10 Hz"),
    ] {
        let error = error_of(&write(&folder, name, &bytes));
        assert!(error.contains(want), "{error} does not say `{want}`");
    }
    let error = error_of(&folder.path().join("missing.wav"));
    assert!(error.contains("cannot be opened"), "{error}");
    let error = read_recording(&folder.path().join("nan.wav"), 10).unwrap_err().to_string();
    assert_eq!(error, "a rate of 10 Hz is not between 1000 and 192000 Hz");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Damaged bytes give a recording or an error: finite samples, never a panic.
    #[test]
    fn damaged_bytes_never_panic(
        kind in 0_usize..4,
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        header_only in any::<bool>(),
        keep in any::<prop::sample::Index>(),
    ) {
        let source = sine(44_100, 3_000);
        let (name, mut bytes) = match kind {
            0 => ("a.wav", wav(44_100, 1, false, &source)),
            1 => ("a.flac", flac(44_100, &source)),
            2 => ("a.aiff", aiff(&source)),
            _ => ("a.mp3", mp3(6, &[])),
        };
        for (place, value) in places {
            let among = if header_only { 64 } else { bytes.len() };
            bytes[place.index(among)] = value;
        }
        bytes.truncate(keep.index(2 * bytes.len()) + 1);
        let folder = tempfile::tempdir().unwrap();
        if let Ok(recording) = read_recording(&write(&folder, name, &bytes), 16_000) {
            prop_assert!(recording.samples.iter().all(|x| x.abs() <= 1.0));
        }
    }
}
