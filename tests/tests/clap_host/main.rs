//! The plugin's CLAP in a real host: what it sounds like, what it keeps, and what it survives.

mod driver;
mod life;
mod real_time;
mod sound;
mod state;

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use wavenet_engine::renderer::Renderer;
use wavenet_engine::synth::{Event, EventKind, Settings, Synth};
use wavenet_engine::{Config, NoteRecipe, Recipe, Weights};
use wavenet_tests::counting::Counting;
use wavenet_tests::host::Happening;
use wavenet_tests::{lively_weights, pack, tiny_config};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is counted in the whole process is counted alone.
static ALONE: RwLock<()> = RwLock::new(());

/// Held by a test that may run beside others.
fn together() -> RwLockReadGuard<'static, ()> {
    ALONE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Held by a test that may not.
fn alone() -> RwLockWriteGuard<'static, ()> {
    ALONE.write().unwrap_or_else(PoisonError::into_inner)
}

/// The built-in instruments, of which the piano is the first.
fn piano() -> Weights {
    wavenet_models::INSTRUMENTS.weights().expect("the built-in model")
}

/// The plugin's defaults.
fn defaults() -> Settings {
    let mut settings = Settings::default();
    settings.sampling.temperature = 0.6;
    settings
}

/// A small model that knows notes.
fn small(seed: u64) -> Weights {
    let conditioning = Recipe::Note(NoteRecipe::default());
    lively_weights(Config { conditioning, ..tiny_config() }, seed)
}

/// The same in a file, in a folder that lasts as long as the first of the pair.
fn small_file(seed: u64) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("small.safetensors");
    small(seed).save(&path).expect("it can be written");
    (folder, path)
}

/// A state in the plugin's form that names a model and sets what `params` says (JSON).
fn state_of(model: Option<&Path>, params: serde_json::Value) -> Vec<u8> {
    let mut fields = serde_json::Map::new();
    if let Some(path) = model {
        let model = serde_json::json!({ "version": 1, "path": path, "sha256": "" });
        fields.insert("model".into(), model.to_string().into());
    }
    let params: serde_json::Map<_, _> = match params {
        serde_json::Value::Object(params) => {
            params.into_iter().map(|(id, value)| (id, tagged(value))).collect()
        }
        other => panic!("{other}"),
    };
    let state = serde_json::json!({ "version": "0.1.0", "params": params, "fields": fields });
    framed(state.to_string().as_bytes())
}

/// nice-plug names the type of each value.
fn tagged(value: serde_json::Value) -> serde_json::Value {
    let name = if value.is_i64() {
        "i32"
    } else if value.is_f64() {
        "f32"
    } else if value.is_boolean() {
        "bool"
    } else {
        "string"
    };
    serde_json::json!({ name: value })
}

/// Bytes as nice-plug writes them: their number first.
fn framed(json: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json].concat()
}

/// What the engine makes of a phrase by itself.
fn expected(
    weights: &Weights,
    settings: Settings,
    rate_hz: u32,
    phrase: &[(u64, Happening)],
    frames: usize,
) -> Vec<f32> {
    let synth = Synth::new(pack(weights), settings).expect("settings in range");
    let mut renderer = Renderer::new(synth, rate_hz).expect("a rate");
    for &(frame, happening) in phrase {
        let kind = match happening {
            Happening::NoteOn { channel, key, velocity, .. } => EventKind::NoteOn {
                channel: channel as u8,
                key: key as u8,
                velocity: (velocity * 127.0).round() as u8,
            },
            Happening::NoteOff { channel: Some(channel), key: Some(key), .. } => {
                EventKind::NoteOff { channel: channel as u8, key: key as u8 }
            }
            other => panic!("{other:?} has no counterpart"),
        };
        renderer.push(Event { frame, kind });
    }
    let mut out = vec![0.0; frames];
    renderer.render(&mut out);
    out
}

/// A chord and what follows, at frames of a rate.
fn chords(rate_hz: u32) -> Vec<(u64, Happening)> {
    let at = |ms: u64| ms * u64::from(rate_hz) / 1000 + 1;
    vec![
        (at(3), Happening::on(60, 100)),
        (at(3), Happening::on(64, 90)),
        (at(3), Happening::on(67, 80)),
        (at(90), Happening::off(64)),
        (at(120), Happening::on(64, 127)),
        (at(150), Happening::off(60)),
        (at(151), Happening::off(67)),
        (at(200), Happening::off(64)),
    ]
}

/// The largest sample, all being numbers.
fn peak(samples: &[f32]) -> f32 {
    samples.iter().fold(0.0, |peak, sample| {
        assert!(!sample.is_nan());
        peak.max(sample.abs())
    })
}
