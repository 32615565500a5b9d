//! The VST3 bundle in real hosts: what they bounce is, byte for byte, what the engine renders.
//!
//! pedalboard says that it renders offline; dawdreamer says that it plays, and asks for blocks as fast
//! as it gets them. `WAVENET_BUNDLES` names the folder of the bundles and `WAVENET_PYTHON` a python
//! with both hosts, as `./run test` sets them; without these the tests say so and pass.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde_json::{Value, json};
use wavenet_engine::Sampling;
use wavenet_engine::renderer::Renderer;
use wavenet_engine::synth::{Event, EventKind, Settings, Synth};
use wavenet_tests::pack;

const RATES: [u32; 3] = [44_100, 48_000, 96_000];
const BLOCKS: [usize; 4] = [1, 64, 333, 4096];
const SECONDS: f64 = 1.0;
/// A chord: key, velocity, start and length in seconds, on whole frames at every rate.
const CHORD: [(u8, u8, f64, f64); 3] =
    [(60, 100, 0.1, 0.5), (64, 90, 0.1, 0.6), (67, 40, 0.25, 0.25)];

/// What a host needs, or `None` with the reason said aloud.
fn python_and_bundle(host: &str) -> Option<(String, PathBuf)> {
    let Ok(bundles) = std::env::var("WAVENET_BUNDLES") else {
        eprintln!("skipped: WAVENET_BUNDLES does not name a folder with WaveNet.vst3");
        return None;
    };
    let Ok(python) = std::env::var("WAVENET_PYTHON") else {
        eprintln!("skipped: WAVENET_PYTHON does not name a python with {host}");
        return None;
    };
    let import = format!("import {host}");
    let imports = Command::new(&python).args(["-c", &import]).stderr(Stdio::null()).status();
    if imports.is_ok_and(|status| status.success()) {
        return Some((python, Path::new(&bundles).join("WaveNet.vst3")));
    }
    eprintln!("skipped: {python} does not start or has no {host}");
    None
}

/// What a host bounces for each job: the samples, the latency taken off.
fn bounce(host: &str, jobs: &[Value]) -> Option<Vec<Vec<f32>>> {
    let (python, bundle) = python_and_bundle(host)?;
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/vst3_hosts.py");
    let mut child = Command::new(python)
        .args([&script, Path::new(host), &bundle, folder.path()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(jobs).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{host} failed; its message is above");
    let latencies = String::from_utf8(output.stdout).unwrap();
    let bounces = latencies.lines().enumerate().map(|(number, latency)| {
        let bytes = std::fs::read(folder.path().join(format!("{number}.f32"))).unwrap();
        let frames = bytes.chunks_exact(8).skip(latency.parse().unwrap());
        frames
            .map(|frame| {
                let [left, right] = [0, 4].map(|at| {
                    f32::from_le_bytes(frame[at..at + 4].try_into().expect("four bytes"))
                });
                assert_eq!(left.to_bits(), right.to_bits());
                left
            })
            .collect()
    });
    let bounces: Vec<Vec<f32>> = bounces.collect();
    assert_eq!(bounces.len(), jobs.len());
    Some(bounces)
}

/// What the engine renders for the plugin's default settings.
fn render(rate: u32, events: &[Event], frames: usize) -> Vec<f32> {
    let weights = wavenet_models::INSTRUMENTS.weights().unwrap();
    let sampling = Sampling { temperature: 0.6, top_p: 1.0 };
    let settings = Settings { sampling, ..Settings::default() };
    let synth = Synth::new(pack(&weights), settings).unwrap();
    let mut renderer = Renderer::new(synth, rate).unwrap();
    events.iter().for_each(|&event| renderer.push(event));
    let mut out = vec![0.0; frames];
    renderer.render(&mut out);
    out
}

fn at(seconds: f64, rate: u32, kind: EventKind) -> Event {
    Event { frame: (seconds * f64::from(rate)).round() as u64, kind }
}

fn chord(rate: u32) -> Vec<Event> {
    let mut events: Vec<Event> = CHORD
        .iter()
        .flat_map(|&(key, velocity, start, length)| {
            let on = EventKind::NoteOn { channel: 0, key, velocity };
            let off = EventKind::NoteOff { channel: 0, key };
            [at(start, rate, on), at(start + length, rate, off)]
        })
        .collect();
    events.sort_by_key(|event| event.frame);
    events
}

/// A bounce to be made, and what it must be.
struct Case {
    rate: u32,
    block: usize,
    /// How the host is told the notes; see `vst3_hosts.py`.
    notes: (&'static str, Value),
    events: Vec<Event>,
}

/// One host after another: one that says it plays must have the machine to itself.
static MACHINE: Mutex<()> = Mutex::new(());

/// Lets a host bounce every case and compares with the engine.
fn agrees(host: &str, cases: &[Case]) {
    let _alone = MACHINE.lock();
    let jobs: Vec<Value> = cases
        .iter()
        .map(|Case { rate, block, notes: (how, notes), .. }| {
            json!({ "rate": rate, "block": block, "seconds": SECONDS, *how: notes })
        })
        .collect();
    let Some(bounces) = bounce(host, &jobs) else { return };
    for (Case { rate, block, events, .. }, bounced) in cases.iter().zip(bounces) {
        let expected = render(*rate, events, bounced.len());
        assert!(expected.iter().any(|x| x.abs() > 0.1));
        // The bounce is as long as was asked for, less the latency at its beginning.
        assert!(bounced.len() > (0.85 * SECONDS * f64::from(*rate)) as usize);
        let differs = bounced.iter().zip(&expected).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!(differs, None, "{host} at {rate} Hz in blocks of {block}");
    }
}

#[test]
fn pedalboard_bounces_what_the_engine_renders() {
    let messages: Vec<Value> = CHORD
        .into_iter()
        .flat_map(|(key, velocity, start, length)| {
            [json!([[0x90, key, velocity], start]), json!([[0x80, key, 0], start + length])]
        })
        .collect();
    let mut cases = Vec::new();
    for rate in RATES {
        let (messages, events) = (messages.clone(), chord(rate));
        for block in BLOCKS {
            let notes = ("messages", json!(messages));
            cases.push(Case { rate, block, notes, events: events.clone() });
        }
        // This host moves controllers to the beginning of their block, so blocks are one frame.
        let (mut messages, mut events) = (messages, events);
        for (message, seconds, kind) in [
            (json!([0xb0, 64, 127]), 0.2, EventKind::Pedal { channel: 0, down: true }),
            (json!([0xe0, 127, 127]), 0.3, EventKind::Bend { channel: 0, semitones: 2.0 }),
            (json!([0xb0, 64, 0]), 0.8, EventKind::Pedal { channel: 0, down: false }),
        ] {
            messages.push(json!([message, seconds]));
            events.push(at(seconds, rate, kind));
        }
        events.sort_by_key(|event| event.frame);
        cases.push(Case { rate, block: 1, notes: ("messages", json!(messages)), events });
    }
    agrees("pedalboard", &cases);
}

#[test]
fn dawdreamer_bounces_what_the_engine_renders() {
    let mut cases = Vec::new();
    for rate in RATES {
        for block in BLOCKS {
            let notes = ("notes", json!(CHORD));
            cases.push(Case { rate, block, notes, events: chord(rate) });
        }
    }
    agrees("dawdreamer", &cases);
}
