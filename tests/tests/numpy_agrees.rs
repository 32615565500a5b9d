//! The engine against an implementation that shares no line with it: `peers/numpy_wavenet.py`,
//! written from docs/model-format.md alone.
//!
//! `WAVENET_PYTHON` names a python that has NumPy; without it these tests say so and pass.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use wavenet_engine::conditioning::NoteConditioner;
use wavenet_engine::{
    Config, Dtype, Isa, KeyTable, MuLaw, NoteRecipe, Packed, Philox, Recipe, Sampling, State,
    Weights,
};
use wavenet_tests::{
    heard, lively_weights, noise, pack, random_codes, random_conditioning, step_by_step,
};

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::Bf16, Dtype::Int8];

/// The python to ask, or `None` with the reason said aloud.
fn python() -> Option<String> {
    let Ok(python) = std::env::var("WAVENET_PYTHON") else {
        eprintln!("skipped: WAVENET_PYTHON does not name a python with NumPy");
        return None;
    };
    let has_numpy =
        Command::new(&python).args(["-c", "import numpy"]).stderr(Stdio::null()).status();
    if has_numpy.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    eprintln!("skipped: {python} does not start or has no NumPy");
    None
}

/// Lets the peer work on a list of jobs about one model.
fn ask(python: &str, weights: &Weights, jobs: &[Value]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.safetensors");
    weights.save(&model).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/numpy_wavenet.py");
    let mut child = Command::new(python)
        .args([&script, &model])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let request = serde_json::to_vec(jobs).unwrap();
    // The peer reads everything before it writes anything, so neither waits for the other.
    child.stdin.take().unwrap().write_all(&request).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the peer failed; its message is above");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Rows of numbers out of an answer, flattened.
fn numbers(answer: &Value) -> Vec<f32> {
    match answer {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap() as f32],
    }
}

fn codes(answer: &Value) -> Vec<u8> {
    numbers(answer).into_iter().map(|code| code as u8).collect()
}

fn rows(values: &[f32], width: usize) -> Vec<&[f32]> {
    values.chunks_exact(width.max(1)).collect()
}

fn models() -> Vec<Weights> {
    let keys = |partials: usize| {
        let table = |key, cents, inharmonicity| KeyTable {
            key,
            cents,
            inharmonicity,
            start_turns: noise(u64::from(key), partials),
            ..KeyTable::default()
        };
        vec![table(40, -12.5, 0.0002), table(61, 0.0, 0.0011), table(84, 31.25, 0.003)]
    };
    let note = Recipe::Note(NoteRecipe { partials: 7, keys: keys(7), ..NoteRecipe::default() });
    let base = Config {
        residual_channels: 12,
        gate_channels: 9,
        skip_channels: 17,
        end_channels: 13,
        dilations: vec![1, 2, 5, 3],
        ..Config::default()
    };
    let configs = [
        Config { levels: 40, conditioning: note, ..base.clone() },
        Config {
            kernel_size: 3,
            classes: vec!["a".into(), "b".into()],
            class_channels: 5,
            residual_channels: 5,
            gate_channels: 33,
            ..base
        },
    ];
    configs.into_iter().zip(70..).map(|(config, seed)| lively_weights(config, seed)).collect()
}

#[test]
fn logits_agree_and_under_the_contract_to_the_bit() {
    let Some(python) = python() else { return };
    for weights in models() {
        let config = weights.config();
        let codes = random_codes(config, 3, 150);
        let conditioning = random_conditioning(config, 3, 150);
        let job = |contract: Option<Dtype>| {
            let rows = rows(&conditioning, config.conditioning_channels());
            json!({"job": "logits", "codes": codes, "conditioning": rows, "contract": contract})
        };
        let jobs = [None].into_iter().chain(DTYPES.map(Some)).map(job);
        let answers = ask(&python, &weights, &jobs.collect::<Vec<_>>());
        for (dtype, contract) in DTYPES.into_iter().zip(&answers[1..]) {
            let packed = Packed::new(&weights, dtype, Isa::Auto).unwrap();
            let steps = step_by_step(&packed, &codes, &conditioning);
            let contract = numbers(contract);
            let same = contract.iter().zip(&steps).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same && contract.len() == steps.len(), "{dtype}");

            // The file in this type is the same model to the peer too.
            let mut narrow = weights.clone();
            narrow.store_as(dtype);
            let answer = ask(&python, &narrow, &[job(Some(dtype))]);
            assert!(numbers(&answer[0]) == contract, "{dtype}");
            if dtype == Dtype::F32 {
                let mathematics = numbers(&answers[0]);
                assert_eq!(mathematics.len(), steps.len());
                for (a, b) in mathematics.iter().zip(&steps) {
                    assert!((a - b).abs() < 1e-4, "{a} {b}");
                }
            }
        }
    }
}

/// What the peer picks when it hears a generated clip is the clip: by induction from the first
/// sample on, the two generate the same sound, greedy or drawn.
#[test]
fn free_running_codes_are_the_same() {
    let Some(python) = python() else { return };
    for weights in models() {
        let (config, packed) = (weights.config(), pack(&weights));
        let (h, levels, frames) = (config.conditioning_channels(), config.levels, 300);
        let conditioning = random_conditioning(config, 4, frames);
        for (temperature, top_p) in [(0.0, 1.0), (1.0, 1.0), (0.7, 0.8)] {
            let sampling = Sampling { temperature, top_p };
            let draws = Philox::new(0x0123_4567_89ab_cdef, 3 << 40 | 60);
            let mut state = State::new(&packed, 1);
            let mut logits = vec![0.0; levels];
            let mut code = heard(config, &[0])[0];
            let mut generated = Vec::new();
            for t in 0..frames {
                let row = &conditioning[t * h..(t + 1) * h];
                packed.step(&mut state, &[0], &[code], row, &mut logits);
                code = packed.pick(&logits, sampling, draws.draw(t as u64));
                generated.push(code);
            }
            let clip = json!({"job": "logits", "codes": heard(config, &generated),
                "conditioning": rows(&conditioning, h), "contract": "f32"});
            let numbers = json!({"job": "draws", "seed": 0x0123_4567_89ab_cdef_u64,
                "stream": 3_u64 << 40 | 60, "count": frames});
            let answers = ask(&python, &weights, &[clip, numbers]);
            let choice = json!({"job": "pick", "logits": answers[0], "draws": answers[1],
                "temperature": temperature, "top_p": top_p});
            let picked = codes(&ask(&python, &weights, &[choice])[0]);
            assert_eq!(picked, generated, "temperature {temperature}, top-p {top_p}");
        }
    }
}

#[test]
fn draws_and_picks_are_equal_on_equal_logits() {
    let Some(python) = python() else { return };
    let weights = models().swap_remove(0);
    let draws = Philox::new(u64::MAX - 5, u64::MAX / 3);
    let draws: Vec<u32> = (0..500).map(|index| draws.draw(index)).collect();
    let mut logits: Vec<f32> = noise(11, 500 * 256).into_iter().map(|x| x * 12.0).collect();
    // Ties: between neighbours, and of all codes, where a nucleus of one half is half of them.
    logits[..100 * 256].iter_mut().for_each(|logit| *logit = logit.round());
    logits[..50 * 256].fill(1.5);
    let mut jobs =
        vec![json!({"job": "draws", "seed": u64::MAX - 5, "stream": u64::MAX / 3, "count": 500})];
    let samplings =
        [(1.0, 1.0), (0.35, 1.0), (3.0, 0.9), (1.0, 0.3), (1.0, 0.5), (1.0, 0.0), (0.0, 1.0)]
            .map(|(temperature, top_p)| Sampling { temperature, top_p });
    jobs.extend(samplings.iter().map(|sampling| {
        json!({"job": "pick", "logits": rows(&logits, 256), "draws": draws,
            "temperature": sampling.temperature, "top_p": sampling.top_p})
    }));
    let answers = ask(&python, &weights, &jobs);
    // Whole draws: 32 bits do not fit an f32.
    let theirs = answers[0].as_array().unwrap().iter().map(|draw| draw.as_u64().unwrap() as u32);
    assert_eq!(theirs.collect::<Vec<u32>>(), draws);
    let packed = pack(&weights);
    for (sampling, theirs) in samplings.into_iter().zip(&answers[1..]) {
        let ours: Vec<u8> = logits
            .chunks_exact(256)
            .zip(&draws)
            .map(|(row, &draw)| packed.pick(row, sampling, draw))
            .collect();
        assert_eq!(codes(theirs), ours, "{sampling:?}");
    }
}

/// A recipe with levels: two velocities of one key, one of the others, of unlike numbers of partials.
fn leveled() -> Config {
    let partials = [9, 9, 6, 4];
    let places = [(40, 30), (40, 100), (61, 80), (84, 80)];
    let table = |(index, (key, velocity)): (usize, (u8, u8))| {
        let row = |seed: usize| {
            let noise = noise(seed as u64, 5);
            noise.into_iter().map(|x| 30.0 * x - 30.0).collect::<Vec<f32>>()
        };
        KeyTable {
            key,
            velocity,
            cents: 3.0 * index as f64,
            inharmonicity: 0.0004 * index as f64,
            start_turns: noise(u64::from(key), 9),
            level_db: row(100 + index),
            partial_db: (0..partials[index]).map(|partial| row(10 * index + partial)).collect(),
            ..KeyTable::default()
        }
    };
    let recipe = NoteRecipe {
        partials: 7,
        summed_partials: 9,
        ages_ms: vec![0.0, 3.0, 20.0, 60.0, 90.0],
        remainder: true,
        keys: places.into_iter().enumerate().map(table).collect(),
        ..NoteRecipe::default()
    };
    Config { conditioning: Recipe::Note(recipe), ..Config::default() }
}

#[test]
fn mu_law_and_note_conditioning_agree() {
    let Some(python) = python() else { return };
    let weights = models().swap_remove(0);
    let samples = noise(12, 2000);
    let levels = [2, 3, 16, 255, 256];
    let keys = [21_u8, 40, 50, 69, 84, 108];
    let mut jobs: Vec<Value> = levels
        .iter()
        .map(|levels| json!({"job": "mulaw", "levels": levels, "samples": samples}))
        .collect();
    jobs.extend(
        keys.iter().map(|key| json!({"job": "note", "key": key, "velocity": 77, "frames": 2000})),
    );
    let answers = ask(&python, &weights, &jobs);
    for (&levels, theirs) in levels.iter().zip(&answers) {
        let mulaw = MuLaw::new(levels);
        let ours: Vec<u8> = samples.iter().map(|&sample| mulaw.encode(sample)).collect();
        assert_eq!(codes(&theirs["codes"]), ours, "{levels} levels");
        for (code, value) in numbers(&theirs["values"]).into_iter().enumerate() {
            let ours = mulaw.decode(code as u8);
            assert!((value - ours).abs() <= ours.abs() * f32::EPSILON, "{levels} levels, {code}");
        }
    }
    notes_agree(&weights, &keys, &answers[levels.len()..]);
    let weights = Weights::zeros(leveled()).unwrap();
    let answers = ask(&python, &weights, &jobs[levels.len()..]);
    notes_agree(&weights, &keys, &answers);
}

/// Conditioning vectors of played notes, and what becomes of their samples.
fn notes_agree(weights: &Weights, keys: &[u8], answers: &[Value]) {
    let conditioner = NoteConditioner::new(weights.config()).unwrap();
    let width = weights.config().local_channels();
    for (&key, theirs) in keys.iter().zip(answers) {
        let mut note = conditioner.idle_note();
        conditioner.start(&mut note, 0, key, 77);
        let theirs = numbers(theirs);
        let mut ours = vec![0.0; width];
        assert_eq!(theirs.len(), 2000 * (width + 2));
        for (t, theirs) in theirs.chunks_exact(width + 2).enumerate() {
            conditioner.advance(&mut note, &mut ours);
            let finish = note.finish();
            let ours = ours.iter().chain([&finish.partials, &finish.level]);
            for (channel, (a, b)) in theirs.iter().zip(ours).enumerate() {
                assert!((a - b).abs() < 1e-5, "key {key}, sample {t}, channel {channel}: {a} {b}");
            }
        }
    }
}
