//! How long a step takes, and its parts: `cargo bench -p wavenet-engine --bench step [FILTER]`.
//!
//! Medians of many short runs on one core, for comparing a change with what was before. What a
//! listener gets out of it, `wavenet bench` tells.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use wavenet_engine::kernels::parts::Part;
use wavenet_engine::resample::Resampler;
use wavenet_engine::synth::{Event, EventKind, Settings, Synth};
use wavenet_engine::{Config, Dtype, Isa, MuLaw, Packed, Philox, Sampling, State, Weights};

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::Bf16, Dtype::Int8];
const ISAS: [Isa; 3] = [Isa::Scalar, Isa::Avx2, Isa::Avx512];
/// Steps made together: past taps are computed for eight samples at once.
const STEPS: usize = 8;
/// Model frames made at a time.
const FRAMES: usize = 256;

/// R, S, A and layers.
fn weights([residual, skip, end, layers]: [usize; 4]) -> Weights {
    let config = Config {
        residual_channels: residual,
        gate_channels: residual,
        skip_channels: skip,
        end_channels: end,
        dilations: Config::cycled_dilations(layers),
        ..Config::default()
    };
    Weights::random(config, 1).expect("a valid shape")
}

fn packed(weights: &Weights, dtype: Dtype) -> Packed {
    Packed::new(weights, dtype, Isa::Auto).expect("every machine has a kernel")
}

/// Whole steps, without the choice of a code.
fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    for shape in [[32, 64, 256, 10], [64, 256, 256, 10], [64, 256, 256, 30]] {
        let weights = weights(shape);
        for dtype in DTYPES {
            for voices in [1, 8] {
                let name = format!("{} {dtype}", shape.map(|width| width.to_string()).join(","));
                group.throughput(Throughput::Elements((STEPS * voices) as u64));
                group.bench_function(BenchmarkId::new(name, voices), |bencher| {
                    let packed = packed(&weights, dtype);
                    let mut state = State::new(&packed, voices);
                    let lanes: Vec<usize> = (0..voices).collect();
                    let mut codes = vec![MuLaw::new(256).silence(); voices];
                    let mut logits = vec![0.0; 256 * voices];
                    bencher.iter(|| {
                        for _ in 0..STEPS {
                            packed.step(&mut state, &lanes, &codes, &[], &mut logits);
                            codes.fill(logits[0].to_bits() as u8);
                        }
                    });
                });
            }
        }
    }
    group.finish();
}

/// Softmax and draw.
fn pick(criterion: &mut Criterion) {
    let packed = packed(&weights([8, 8, 8, 1]), Dtype::F32);
    let draws = Philox::new(1, 1);
    let logits: Vec<f32> = (0..256).map(|index| 8.0 * draws.uniform(index) - 4.0).collect();
    let mut time = 0;
    criterion.bench_function("pick", |bencher| {
        bencher.iter(|| {
            time += 1;
            packed.pick(black_box(&logits), Sampling::default(), draws.draw(time))
        });
    });
}

/// Products of one size on every kernel, and the activations between them.
fn parts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("part");
    for isa in ISAS {
        let name = format!("{isa:?}").to_lowercase();
        for dtype in DTYPES {
            for voices in [1, 8] {
                let Ok(mut part) = Part::product(dtype, isa, 256, 256, voices) else { continue };
                group.bench_function(
                    format!("product 256x256 {dtype} {name}/{voices}"),
                    |bencher| {
                        bencher.iter(|| part.run());
                    },
                );
            }
        }
        // bf16 has the activations of f32.
        for dtype in [Dtype::F32, Dtype::Int8] {
            let Ok(mut part) = Part::gate(dtype, isa, 64) else { continue };
            group.bench_function(format!("gate 64 {dtype} {name}"), |bencher| {
                bencher.iter(|| part.run());
            });
        }
    }
    group.finish();
}

/// Model frames brought to the listener's rate.
fn resampler(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resample 16000 to");
    group.throughput(Throughput::Elements(FRAMES as u64));
    let draws = Philox::new(1, 2);
    let input: Vec<f32> = (0..FRAMES as u64).map(|index| draws.uniform(index) - 0.5).collect();
    for rate_hz in [44_100, 48_000] {
        let mut resampler = Resampler::new(16_000, rate_hz).expect("common rates");
        let mut output = Vec::new();
        group.bench_function(rate_hz.to_string(), |bencher| {
            bencher.iter(|| {
                output.clear();
                resampler.process(black_box(&input), &mut output);
            });
        });
    }
    group.finish();
}

/// Eight notes held: steps, picks, tape, envelopes and mixing.
fn synth(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("synth 32,64,256,10");
    group.throughput(Throughput::Elements(FRAMES as u64));
    let weights = weights([32, 64, 256, 10]);
    for dtype in DTYPES {
        let settings = Settings { voices: 8, sustain: 1.0, ..Settings::default() };
        let mut synth = Synth::new(packed(&weights, dtype), settings).expect("valid settings");
        // The key at which the model sounds at its own speed: one step a frame.
        let key = weights.config().root_key;
        let notes = (0..8).map(|channel| EventKind::NoteOn { channel, key, velocity: 100 });
        let notes: Vec<Event> = notes.map(|kind| Event { frame: 0, kind }).collect();
        let mut out = vec![0.0; FRAMES];
        synth.render(&notes, &mut out);
        assert_eq!(synth.sounding(), 8);
        group.bench_function(format!("8 voices {dtype}"), |bencher| {
            bencher.iter(|| synth.render(&[], &mut out));
        });
        assert_eq!(synth.sounding(), 8, "a note ended while it was measured");
    }
    group.finish();
}

/// A model made ready for this machine.
fn packing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pack 64,256,256,10");
    let weights = weights([64, 256, 256, 10]);
    for dtype in DTYPES {
        group.bench_function(dtype.to_string(), |bencher| {
            bencher.iter(|| packed(&weights, dtype));
        });
    }
    group.finish();
}

/// A minute in all.
fn settings() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(30)
}

criterion_group! {
    name = step;
    config = settings();
    targets = steps, pick, parts, resampler, synth, packing
}
criterion_main!(step);
