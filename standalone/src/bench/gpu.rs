//! `wavenet bench --device cuda`: how many samples a second the GPU makes.
//!
//! Streams play without end, as in `render --streams`: conditioning goes up through the rings, codes come
//! down, and the clock runs from the order to the last code. A GPU has no roof here: what bounds it is
//! measured by `--micro`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde::{Serialize, Serializer};
use wavenet_engine::conditioning::NoteConditioner;
use wavenet_engine::cuda::{self, Card, Lanes, Mode, Order};
use wavenet_engine::{Config, Dtype, MuLaw, Packed, Philox, Sampling};

use super::sweep::{DTYPES, models, name_of};
use super::{random_model, shape_of};
use crate::cli::{BenchArgs, RunArgs};
use crate::model::{Model, of_gpu};

/// How long to measure, unless told otherwise.
const SECONDS: f64 = 3.0;
const SECONDS_OF_SWEEP: f64 = 1.0;
/// An order takes so long at least: long beside what the host adds to it.
const ORDER: Duration = Duration::from_millis(150);
/// Samples of the first order of each voice, and of the longest.
const FEWEST_SAMPLES: usize = 16;
const MOST_SAMPLES: usize = 1 << 16;
/// Conditioning of one order, at most.
const MOST_FLOATS: usize = 1 << 27;

/// What was measured; the JSON has these names in this order.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    shape: String,
    parameters: usize,
    device: String,
    driver_cuda: u32,
    voices: usize,
    #[serde(serialize_with = "name")]
    mode: Mode,
    /// In the fast mode what the processor would go on in.
    dtype: Dtype,
    seconds: f64,
    samples_per_second: f64,
    samples_per_second_per_voice: f64,
    realtime_factor: f64,
    /// How many streams of the model's rate all of it would be.
    realtime_streams: f64,
}

/// Of a mode, in the JSON.
fn name<S: Serializer>(mode: &Mode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match mode {
        Mode::Exact => "exact",
        Mode::Pipeline => "pipeline",
        Mode::Fast => "fast",
    })
}

/// Measures what `args` ask.
///
/// # Errors
/// If there is no GPU, it fails, or the model cannot be loaded or built.
pub(super) fn bench(args: &BenchArgs) -> Result<String> {
    if args.micro {
        // Of the GPU alone: no processor does it instead.
        let card = cuda::card()?;
        return Ok(costs(&card, &cuda::micro()?));
    }
    let card = of_gpu(cuda::card())?;
    if args.sweep {
        return sweep(args, &card);
    }
    let model = match args.shape {
        Some(shape) => random_model(shape)?,
        None => Model::load(args.model.as_deref())?,
    };
    let (mode, voices) = (args.place.mode(), args.voices as usize);
    let seconds = args.seconds.unwrap_or(SECONDS);
    let report = measure(&card, &model, &args.run, mode, voices, seconds)?;
    Ok(if args.json { serde_json::to_string_pretty(&report)? } else { report.sentence() })
}

/// A table of what handing on and products cost.
fn costs(card: &Card, costs: &[cuda::Cost]) -> String {
    let line = |cost: &cuda::Cost| {
        let cycles = cost.cycles.map_or("-".into(), |cycles| format!("{cycles:.0}"));
        format!("{:<52} {:>8.0} {:>8}", cost.what, cost.nanoseconds, cycles)
    };
    let head = format!("{:<52} {:>8} {:>8}", "one way, or one product", "ns", "cycles");
    let lines = [card.to_string(), head].into_iter().chain(costs.iter().map(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// A table: the models and types of weights of the processor's sweep, for one stream, one a
/// multiprocessor, and more.
fn sweep(args: &BenchArgs, card: &Card) -> Result<String> {
    let seconds = args.seconds.unwrap_or(SECONDS_OF_SWEEP);
    let streams = [1, card.multiprocessors as usize, 1024, 4096, 8192];
    let mut reports = Vec::new();
    let mut lines = vec![card.to_string()];
    let heads = streams.map(|streams| format!("{streams:>10}"));
    lines.push(format!("{:<26} {:<5} {}", "thousand samples a second", "dtype", heads.join(" ")));
    for model in models(args)? {
        for dtype in DTYPES {
            let run = RunArgs { dtype: Some(dtype), ..args.run };
            let mut cells = Vec::new();
            for voices in streams {
                let report = measure(card, &model, &run, Mode::Exact, voices, seconds)?;
                cells.push(format!("{:>10.1}", report.samples_per_second / 1e3));
                reports.push(report);
            }
            let dtype = format!("{dtype:?}").to_lowercase();
            let name = name_of(&model.name, &shape_of(model.weights.config()));
            lines.push(format!("{name:<26} {dtype:<5} {}", cells.join(" ")));
        }
    }
    Ok(if args.json { serde_json::to_string_pretty(&reports)? } else { lines.join("\n") })
}

fn measure(
    card: &Card,
    model: &Model,
    run: &RunArgs,
    mode: Mode,
    voices: usize,
    seconds: f64,
) -> Result<Report> {
    let packed = Arc::new(model.pack(run)?);
    let lanes = of_gpu(cuda::lanes(&model.weights, packed.clone(), voices, mode))?;
    let clusters = lanes.clusters();
    ensure!(
        mode != Mode::Pipeline || voices <= clusters,
        "the pipeline plays {clusters} voices of this model at once on this card: ask for no more with --voices"
    );
    let mut crowd = Crowd::new(packed, lanes, voices);
    let mut samples = FEWEST_SAMPLES;
    // The kernel is compiled, the clock rises, and the order grows until it is long enough.
    while crowd.play(samples)? < ORDER && crowd.fits(2 * samples) {
        samples *= 2;
    }
    let (mut made, mut took) = (0_usize, Duration::ZERO);
    while took.as_secs_f64() < seconds {
        took += crowd.play(samples)?;
        made += samples;
    }
    let config = model.weights.config();
    let each = made as f64 / took.as_secs_f64();
    let rate = f64::from(config.sample_rate_hz);
    Ok(Report {
        model: model.name.clone(),
        shape: shape_of(config),
        parameters: model.weights.layout().len,
        device: card.name.clone(),
        driver_cuda: card.driver_version,
        voices,
        mode,
        dtype: model.dtype(run),
        seconds: took.as_secs_f64(),
        samples_per_second: each * voices as f64,
        samples_per_second_per_voice: each,
        realtime_factor: each / rate,
        realtime_streams: each * voices as f64 / rate,
    })
}

impl Report {
    fn sentence(&self) -> String {
        let plural = if self.voices == 1 { "" } else { "s" };
        let mode = match self.mode {
            Mode::Exact => "",
            Mode::Pipeline => " in a pipeline",
            Mode::Fast => " in the fast mode",
        };
        format!(
            "{} ({}), {} stream{plural} on {}{mode}: {:.0} samples a second in all, {:.2} times real time each, \
             as much as {:.0} streams in real time",
            self.model,
            self.shape,
            self.voices,
            self.device,
            self.samples_per_second,
            self.realtime_factor,
            self.realtime_streams
        )
    }
}

/// Streams that play without end.
struct Crowd {
    config: Config,
    lanes: Lanes,
    orders: Vec<Order>,
    /// Of one order: the same vectors again and again cost the same.
    conditioning: Vec<f32>,
    codes: Vec<u8>,
}

impl Crowd {
    fn new(packed: Arc<Packed>, lanes: Lanes, voices: usize) -> Self {
        let config = packed.config().clone();
        let code = MuLaw::new(config.levels).silence();
        let order = |lane: usize| Order {
            lane,
            made: 0,
            code,
            draws: Philox::new(1, lane as u64),
            sampling: Sampling::default(),
            count: 0,
        };
        let orders = (0..voices).map(order).collect();
        Self { config, lanes, orders, conditioning: Vec::new(), codes: Vec::new() }
    }

    /// Whether an order of so many samples is not too long.
    fn fits(&self, samples: usize) -> bool {
        let floats = samples * self.orders.len() * self.config.conditioning_channels();
        samples <= MOST_SAMPLES && floats <= MOST_FLOATS
    }

    /// Makes so many samples of each stream; how long it took.
    fn play(&mut self, samples: usize) -> Result<Duration> {
        self.prepare(samples);
        let began = Instant::now();
        self.lanes.run(&self.orders, &self.conditioning, &mut self.codes);
        let took = began.elapsed();
        if let Some(why) = self.lanes.loss() {
            bail!("the GPU failed: {why}");
        }
        for (order, codes) in self.orders.iter_mut().zip(self.codes.chunks(samples)) {
            order.made += samples as u64;
            order.code = codes.last().copied().unwrap_or(order.code);
        }
        Ok(took)
    }

    fn prepare(&mut self, samples: usize) {
        self.orders.iter_mut().for_each(|order| order.count = samples);
        self.codes.resize(samples * self.orders.len(), 0);
        let (h, class) = (self.config.conditioning_channels(), self.config.class_width());
        let rows = if self.config.local_channels() == 0 { 1 } else { samples };
        if self.conditioning.len() == rows * h * self.orders.len() {
            return;
        }
        self.conditioning = vec![0.0; rows * h * self.orders.len()];
        let Some(conditioner) = NoteConditioner::new(&self.config) else { return };
        for (voice, vectors) in self.conditioning.chunks_mut(rows * h).enumerate() {
            let mut note = conditioner.idle_note();
            conditioner.start(&mut note, 0, 48 + (voice % 36) as u8, 100);
            vectors.chunks_mut(h).for_each(|row| conditioner.advance(&mut note, &mut row[class..]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_said() {
        let mut report = Report {
            model: "random weights".into(),
            shape: "64,256,256,10".into(),
            parameters: 1,
            device: "some GPU".into(),
            driver_cuda: 13_000,
            voices: 1,
            mode: Mode::Exact,
            dtype: Dtype::Int8,
            seconds: 1.0,
            samples_per_second: 16_000.0,
            samples_per_second_per_voice: 16_000.0,
            realtime_factor: 1.0,
            realtime_streams: 1.0,
        };
        assert_eq!(serde_json::to_value(&report).unwrap()["mode"], "exact");
        assert!(report.sentence().contains("on some GPU: 16000"));
        report.mode = Mode::Fast;
        assert_eq!(serde_json::to_value(&report).unwrap()["mode"], "fast");
        assert!(report.sentence().contains("on some GPU in the fast mode: 16000"));
    }
}
