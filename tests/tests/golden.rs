//! The same bytes on every machine: hashes of renders, committed.
//!
//! If one of these fails on one machine only, that machine breaks the numeric contract
//! (docs/model-format.md, section 9). If they fail everywhere, the contract itself was changed: old
//! sessions will sound different, so say so in CHANGELOG.md and bump the format version.

use sha2::{Digest, Sha256};
use wavenet_engine::renderer::Renderer;
use wavenet_engine::resample::Resampler;
use wavenet_engine::synth::{Event, EventKind, Parameter, Settings, Synth};
use wavenet_engine::{Config, Dtype, Isa, NoteRecipe, Packed, Recipe, Sampling};
use wavenet_tests::{lively_weights, pack};

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::Bf16, Dtype::Int8];

/// Of 16 kHz.
const SECOND: usize = 16_000;

/// Renders so many samples at the model's rate and brings them to 44.1 kHz; the hash of both.
fn hash(
    config: Config,
    dtype: Dtype,
    events: &[Event],
    sampling: Sampling,
    frames: usize,
) -> String {
    let settings = Settings { sampling, seed: 11, ..Settings::default() };
    let packed = Packed::new(&lively_weights(config, 5), dtype, Isa::Auto).unwrap();
    let mut synth = Synth::new(packed, settings).unwrap();
    let mut samples = vec![0.0; frames];
    synth.render(events, &mut samples);
    let mut resampled = Vec::new();
    Resampler::new(16_000, 44_100).unwrap().process(&samples, &mut resampled);
    let mut hasher = Sha256::new();
    for sample in samples.iter().chain(&resampled) {
        hasher.update(sample.to_le_bytes());
    }
    hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn shape(kernel_size: usize, conditioning: Recipe) -> Config {
    Config {
        residual_channels: 16,
        gate_channels: 24,
        skip_channels: 32,
        end_channels: 32,
        kernel_size,
        dilations: vec![1, 2, 4, 8, 16],
        conditioning,
        ..Config::default()
    }
}

#[test]
fn a_drone_is_these_bytes() {
    let drone = [Event { frame: 0, kind: EventKind::Drone }];
    let found = DTYPES
        .map(|dtype| hash(shape(2, Recipe::None), dtype, &drone, Sampling::default(), SECOND));
    assert_eq!(found, ["3cd7d2093d1e516c", "b6c2c85e42678dc6", "4155ab732f153c64"]);
}

#[test]
fn a_chord_is_these_bytes() {
    let on =
        |frame, key| Event { frame, kind: EventKind::NoteOn { channel: 0, key, velocity: 80 } };
    let off = |frame, key| Event { frame, kind: EventKind::NoteOff { channel: 0, key } };
    let events = [on(0, 48), on(100, 64), on(2_000, 67), off(5_000, 64), on(6_001, 64)];
    let sampling = Sampling { temperature: 0.8, top_p: 0.95 };
    let notes = Recipe::Note(NoteRecipe::default());
    let found = DTYPES.map(|dtype| hash(shape(3, notes.clone()), dtype, &events, sampling, SECOND));
    assert_eq!(found, ["e4eaafff2edd1204", "11b611103e34ed5c", "e5210be9315e5494"]);
}

#[test]
fn a_tape_with_pedal_and_wheel_is_these_bytes() {
    let config = Config { classes: vec!["bow".into(), "pluck".into()], ..shape(2, Recipe::None) };
    let weights = lively_weights(config, 5);
    // A second of it, in hundredths: struck high and low, let go under the pedal, bent while it lasts.
    let on = |key, velocity| EventKind::NoteOn { channel: 0, key, velocity };
    let off = |key| EventKind::NoteOff { channel: 0, key };
    let pedal = |down| EventKind::Pedal { channel: 0, down };
    let bend = |semitones| EventKind::Bend { channel: 0, semitones };
    let piece = [
        (0, on(43, 127)),
        (5, pedal(true)),
        (10, on(67, 80)),
        (15, EventKind::Set(Parameter::Class(1))),
        (20, off(43)),
        (25, on(91, 100)),
        (30, bend(0.37)),
        (45, off(67)),
        (50, bend(-12.5)),
        (60, pedal(false)),
        (70, EventKind::Drone),
        (80, EventKind::Set(Parameter::GainDb(-4.5))),
        (90, EventKind::AllNotesOff),
    ];
    for (rate_hz, expected) in [(48_000, "854af2391dbc3d23"), (11_025, "3b192e48fba580e0")] {
        let settings = Settings { seed: 11, voices: 3, ..Settings::default() };
        let synth = Synth::new(pack(&weights), settings).unwrap();
        let mut renderer = Renderer::new(synth, rate_hz).unwrap();
        for (hundredths, kind) in piece {
            let frame = hundredths * u64::from(rate_hz) / 100;
            renderer.push(Event { frame, kind });
        }
        let mut samples = vec![0.0; rate_hz as usize];
        renderer.render(&mut samples);
        let mut hasher = Sha256::new();
        samples.iter().for_each(|sample| hasher.update(sample.to_le_bytes()));
        let found: String =
            hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, expected, "at {rate_hz} Hz");
    }
}

/// Short enough for a processor that is emulated.
#[test]
fn a_moment_is_these_bytes() {
    let on =
        |frame, key| Event { frame, kind: EventKind::NoteOn { channel: 0, key, velocity: 80 } };
    let events = [on(0, 48), on(100, 64), on(700, 67)];
    let sampling = Sampling { temperature: 0.8, top_p: 0.95 };
    let notes = Recipe::Note(NoteRecipe::default());
    let found = DTYPES.map(|dtype| hash(shape(2, notes.clone()), dtype, &events, sampling, 1_500));
    assert_eq!(found, ["80594f938338cf1c", "7d5e9657ae81efa4", "e27c26bdb75e6d58"]);
}

/// The moment again on a processor without AVX and fused multiply-add, and on one without AVX-512.
#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn a_moment_is_these_bytes_to_older_processors() {
    use std::process::Command;

    if Command::new("qemu-x86_64").arg("--version").output().is_err() {
        eprintln!("skipped: there is no qemu-x86_64 (Debian's package qemu-user)");
        return;
    }
    for processor in ["Nehalem", "Haswell"] {
        let output = Command::new("qemu-x86_64")
            .args(["-cpu", processor])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "a_moment_is_these_bytes"])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{processor}: {told}");
    }
}
