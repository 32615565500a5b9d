//! `wavenet bench`: how many samples a second a model makes here.
//!
//! Voices step together as they do in a synth: conditioning, one step, the choice of a code, which
//! is fed back. Envelopes, mixing and resampling are left out. Beside each figure stands how near it
//! comes to what this core can do (`roofline.rs`).

mod gpu;
mod roofline;
mod sweep;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use wavenet_engine::conditioning::{NoteConditioner, NoteState};
use wavenet_engine::kernels::roof::LOOK;
use wavenet_engine::weights::Layout;
use wavenet_engine::{Config, Dtype, MuLaw, Packed, Philox, Sampling, State, Weights};

use crate::cli::{BenchArgs, Isa, Place, RunArgs, Shape};
use crate::model::{Model, check_place, slowness};
use roofline::{Roofline, Roofs};

/// A model file may hold 1 GiB; more random weights than that are not made either.
const MAX_PARAMETERS: usize = 1 << 28;
/// Caches fill and the clock rises before anything is counted.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long to measure, unless told otherwise.
const SECONDS: f64 = 3.0;
/// Voices of one synth.
const MOST_VOICES: u32 = 64;
/// Steps between two looks at the clock.
const CHUNK: u64 = 16;

/// What was measured; the JSON has these names in this order.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    /// In the notation of `--shape`.
    shape: String,
    parameters: usize,
    sample_rate_hz: u32,
    voices: usize,
    threads: usize,
    dtype: Dtype,
    isa: Isa,
    seconds: f64,
    samples_per_second: f64,
    samples_per_second_per_voice: f64,
    realtime_factor: f64,
    #[serde(flatten)]
    roofline: Roofline,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

/// Measures what `args` ask.
///
/// # Errors
/// If the model cannot be loaded or built, or what is asked has no kernel.
pub fn bench(args: &BenchArgs) -> Result<String> {
    check_place(args.place, &args.run)?;
    if args.place.device == Place::Cuda {
        return gpu::bench(args);
    }
    ensure!(!args.micro, "--micro measures the GPU; add --device cuda");
    ensure!(
        args.voices <= MOST_VOICES,
        "the processor steps {MOST_VOICES} voices together at most"
    );
    if args.sweep {
        return sweep::sweep(args);
    }
    let model = match args.shape {
        Some(shape) => random_model(shape)?,
        None => Model::load(args.model.as_deref())?,
    };
    let seconds = args.seconds.unwrap_or(SECONDS);
    let report = measure(&model, &args.run, args.voices as usize, seconds)?;
    Ok(if args.json { serde_json::to_string_pretty(&report)? } else { report.sentence() })
}

/// A model's shape, as `--shape` takes it.
fn shape_of(config: &Config) -> String {
    let Config { residual_channels, skip_channels, end_channels, .. } = config;
    format!("{residual_channels},{skip_channels},{end_channels},{}", config.layers())
}

/// Measures one model, run in one way.
fn measure(model: &Model, run: &RunArgs, voices: usize, seconds: f64) -> Result<Report> {
    let packed = model.pack(run)?;
    let mut band = Band::new(&packed, voices);
    if run.threads == 2 {
        band.state.start_helper(&packed)?;
    }
    let mut roofs = Roofs::new(&packed, model.dtype(run));
    band.play_for(WARM_UP.min(Duration::from_secs_f64(seconds)));
    // Before and after, as the clock swings.
    roofs.look(seconds);
    band.play_for(WARM_UP.min(Duration::from_secs_f64(seconds)) / 10);
    let played = band.play_for(Duration::from_secs_f64(seconds));
    roofs.look(seconds);

    let config = packed.config();
    let each = played.steps_per_second;
    Ok(Report {
        model: model.name.clone(),
        shape: shape_of(config),
        parameters: model.weights.layout().len,
        sample_rate_hz: config.sample_rate_hz,
        voices,
        threads: run.threads.into(),
        dtype: model.dtype(run),
        isa: run.isa,
        seconds: played.seconds,
        samples_per_second: each * voices as f64,
        samples_per_second_per_voice: each,
        realtime_factor: each / f64::from(config.sample_rate_hz),
        roofline: Roofline::new(packed.work(), voices, roofs.rates(), played.best_steps_per_second),
        note: slowness(&packed),
    })
}

impl Report {
    fn sentence(&self) -> String {
        let voices = match self.voices {
            1 => "1 voice".into(),
            voices => format!("{voices} voices"),
        };
        let note = self.note.map(|note| format!("\nnote: {note}")).unwrap_or_default();
        format!(
            "{} ({}), {voices}: {:.0} samples a second in all, {:.2} times real time at {} Hz\n{}{note}",
            self.model,
            self.shape,
            self.samples_per_second,
            self.realtime_factor,
            self.sample_rate_hz,
            self.roofline.sentence()
        )
    }
}

fn random_model(shape: Shape) -> Result<Model> {
    let Shape { residual_channels, skip_channels, end_channels, layers } = shape;
    let config = Config {
        residual_channels,
        gate_channels: residual_channels,
        skip_channels,
        end_channels,
        dilations: Config::cycled_dilations(layers),
        ..Config::default()
    };
    config.validate().context("--shape")?;
    let parameters = Layout::new(&config).len;
    ensure!(parameters <= MAX_PARAMETERS, "--shape has {parameters} parameters; 2^28 at most");
    let weights = Weights::random(config, 1)?;
    Ok(Model { weights, name: "random weights".into(), file_bytes: 0 })
}

/// How fast the steps went.
struct Played {
    seconds: f64,
    steps_per_second: f64,
    /// Of the best [`LOOK`].
    best_steps_per_second: f64,
}

/// Voices that play without end, and what they need for it.
struct Band<'a> {
    packed: &'a Packed,
    state: State,
    conditioner: Option<NoteConditioner>,
    notes: Vec<NoteState>,
    draws: Vec<Philox>,
    lanes: Vec<usize>,
    codes: Vec<u8>,
    conditioning: Vec<f32>,
    logits: Vec<f32>,
    age: u64,
}

impl<'a> Band<'a> {
    fn new(packed: &'a Packed, voices: usize) -> Self {
        let config = packed.config();
        let conditioner = NoteConditioner::new(config);
        let note = |voice: usize| {
            let conditioner = conditioner.as_ref()?;
            let mut note = conditioner.idle_note();
            conditioner.start(&mut note, 0, 48 + (voice % 36) as u8, 100);
            Some(note)
        };
        let mut conditioning = vec![0.0; voices * config.conditioning_channels()];
        if config.conditioning_channels() > 0 {
            for vector in conditioning.chunks_mut(config.conditioning_channels()) {
                vector[..config.class_width()].copy_from_slice(packed.class_embedding(0));
            }
        }
        Self {
            packed,
            state: State::new(packed, voices),
            notes: (0..voices).filter_map(note).collect(),
            conditioner,
            draws: (0..voices as u64).map(|voice| Philox::new(1, voice)).collect(),
            lanes: (0..voices).collect(),
            codes: vec![MuLaw::new(config.levels).silence(); voices],
            conditioning,
            logits: vec![0.0; voices * config.levels],
            age: 0,
        }
    }

    /// Steps until the time is over.
    fn play_for(&mut self, time: Duration) -> Played {
        let (began, first) = (Instant::now(), self.age);
        let (mut look, mut look_first, mut best) = (began, first, 0.0_f64);
        loop {
            for _ in 0..CHUNK {
                self.step();
            }
            let now = Instant::now();
            if now - look >= LOOK {
                best = best.max((self.age - look_first) as f64 / (now - look).as_secs_f64());
                (look, look_first) = (now, self.age);
            }
            if now - began >= time {
                let seconds = (now - began).as_secs_f64();
                let steps_per_second = (self.age - first) as f64 / seconds;
                let best_steps_per_second = best.max(steps_per_second);
                return Played { seconds, steps_per_second, best_steps_per_second };
            }
        }
    }

    fn step(&mut self) {
        let config = self.packed.config();
        if let Some(conditioner) = &self.conditioner {
            let vectors = self.conditioning.chunks_mut(config.conditioning_channels());
            for (note, vector) in self.notes.iter_mut().zip(vectors) {
                conditioner.advance(note, &mut vector[config.class_width()..]);
            }
        }
        self.packed.step(
            &mut self.state,
            &self.lanes,
            &self.codes,
            &self.conditioning,
            &mut self.logits,
        );
        let logits = self.logits.chunks(config.levels);
        for ((code, logits), draws) in self.codes.iter_mut().zip(logits).zip(&self.draws) {
            *code = self.packed.pick(logits, Sampling::default(), draws.draw(self.age));
        }
        self.age += 1;
    }
}
