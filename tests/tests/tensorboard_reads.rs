//! A run's log, read by TensorBoard itself: `peers/tensorboard_reads.py`.
//!
//! `WAVENET_PYTHON` names a python that has TensorBoard; without it this test says so and passes.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};
use wavenet_engine::Config;
use wavenet_trainer::log::LogOptions;
use wavenet_trainer::material::Material;
use wavenet_trainer::network::{Device, Precision};
use wavenet_trainer::prepare::{PrepareOptions, prepare};
use wavenet_trainer::settings::{Training, default_model};
use wavenet_trainer::training::{Budget, TrainOptions, train};

/// The python to ask, or `None` with the reason said aloud.
fn python() -> Option<String> {
    let Ok(python) = std::env::var("WAVENET_PYTHON") else {
        eprintln!("skipped: WAVENET_PYTHON does not name a python with TensorBoard");
        return None;
    };
    let imports = "import tensorboard.backend.event_processing.event_accumulator, PIL";
    let has_it = Command::new(&python).args(["-c", imports]).stderr(Stdio::null()).status();
    if has_it.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    eprintln!("skipped: {python} does not start or has no TensorBoard");
    None
}

fn read(python: &str, folder: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/tensorboard_reads.py");
    let output = Command::new(python).arg(script).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Two recordings of a sine.
fn recordings(folder: &Path) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    std::fs::create_dir(folder).unwrap();
    for name in ["a.wav", "b.wav"] {
        let mut writer = hound::WavWriter::create(folder.join(name), spec).unwrap();
        for at in 0..8_000 {
            writer.write_sample((libm::sin(0.1 * f64::from(at)) * 16_000.0) as i16).unwrap();
        }
        writer.finalize().unwrap();
    }
}

fn steps(values: &Value) -> Vec<u64> {
    let step = |value: &Value| value.get("step").unwrap_or(&value[0]).as_u64().unwrap();
    values.as_array().unwrap().iter().map(step).collect()
}

#[test]
fn tensorboard_finds_scalars_sounds_and_pictures_once_each() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    recordings(&at("data"));
    let sources = PrepareOptions {
        data: at("data"),
        valid: None,
        labels: None,
        out: at("prepared"),
        rate_hz: 16_000,
        trim: true,
        cut_takes: true,
        valid_fraction: 0.5,
        seed: 1,
        threads: 1,
    };
    let prepared = prepare(&sources, &mut |_| Ok(())).unwrap();
    let config = Config { dilations: vec![1, 2, 4, 8], ..default_model() };
    let material = Material::new(prepared, &config, None, &[0]).unwrap();
    let run = |steps, resume| {
        let options = TrainOptions {
            out: at("x.safetensors"),
            budget: Budget::Steps(steps),
            seed: 1,
            threads: 1,
            device: Device::Cpu,
            precision: Precision::F32,
            patience: None,
            finetune: None,
            checkpoint_steps: 10,
            resume,
            training: Training {
                batch: 1,
                window: 256,
                validation_steps: 10,
                ..Training::default()
            },
            findings: Vec::new(),
            log: Some(LogOptions { folder: at("log"), steps: 5 }),
        };
        train(&material, &config, &options, &AtomicBool::new(false)).unwrap()
    };
    run(10, false);
    let state = std::fs::read(at("x.state")).unwrap();
    run(20, true);
    // As though it had been killed before its last checkpoint.
    std::fs::write(at("x.state"), state).unwrap();
    let outcome = run(30, true);

    let found = read(&python, &at("log"));
    let scalars = &found["scalars"];
    for tag in ["bits/train", "learning_rate", "gradient_norm", "samples_per_s"] {
        assert_eq!(steps(&scalars[tag]), [5, 10, 15, 20, 25, 30], "{tag}");
    }
    assert_eq!(steps(&scalars["bits/valid"]), [10, 20, 30]);
    let last = scalars["bits/valid"][2][1].as_f64().unwrap();
    let known = outcome.history.validated.last().unwrap().bits;
    assert!((last - known).abs() < 1e-6, "{last}, not {known}");

    assert_eq!(steps(&found["audio"]["sound/recording"]), [0]);
    let sounds = &found["audio"]["sound/generated"];
    assert_eq!(steps(sounds).last(), Some(&30));
    assert!(steps(sounds).is_sorted_by(|a, b| a < b), "{sounds}");
    for sound in sounds.as_array().unwrap() {
        assert_eq!(sound["type"], "audio/wav");
        assert_eq!(sound["rate_hz"], json!([16_000.0, 16_000]));
        assert_eq!(sound["frames"][0], sound["frames"][1]);
        assert!(sound["loudest"].as_u64().unwrap() > 1_000, "{sound}");
    }
    for (tag, sounds) in [("generated", steps(sounds)), ("recording", vec![0])] {
        let pictures = &found["images"][format!("spectrogram/{tag}")];
        assert_eq!(steps(pictures), sounds);
        for picture in pictures.as_array().unwrap() {
            assert_eq!(picture["size"], picture["decoded"]);
            assert!(picture["brightest"].as_u64().unwrap() > 200, "{picture}");
        }
    }
}
