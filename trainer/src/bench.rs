//! How long a training step takes: random weights, random codes, the whole step with its optimizer.
//!
//! And how near it comes to what the processor's cores can do: each product of the network is made
//! once forward and twice backward, so a step makes at least
//!
//! ```text
//! 3 x multiply-adds of a sample x batch x window
//! ```
//!
//! multiply-adds, and the rate at which a core makes them at best is measured in the same run. On an idle
//! machine no trainer that computes all of them in f32 takes less time than that.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use wavenet_engine::kernels::roof::{Roof, best_rate};
use wavenet_engine::{Config, Dtype, Isa, Packed, Philox, Weights};

use crate::learner::Learner;
use crate::network::{Device, Precision, Segment};
use crate::optimizer::{AdamW, Moments};
use crate::settings::check_model;

/// How long the peak rate is looked at after each step.
const LOOKS: Duration = Duration::from_millis(5);

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct BenchOptions {
    /// Residual (and gate), skip and end channels, and layers.
    pub shape: [usize; 4],
    /// Segments of a step.
    pub batch: usize,
    /// Samples of a segment; all count.
    pub window: usize,
    /// What computes.
    pub device: Device,
    /// How its numbers are rounded.
    pub precision: Precision,
    /// Worker threads.
    pub threads: usize,
    /// Steps that are timed.
    pub steps: usize,
}

/// What was measured. The names are what scripts rely on.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// Median time of a step.
    pub step_ms: f64,
    /// Time of the fastest step: what to compare where the machine has other work too.
    pub fastest_step_ms: f64,
    /// Samples of a batch over the median time.
    pub samples_per_second: f64,
    /// The time that the products of a step take at the peak rate of f32 multiply-adds of so many of the
    /// processor's threads; nothing of a card.
    pub roof_ms: Option<f64>,
    /// Parameters of the model.
    pub parameters: usize,
    /// As asked.
    pub shape: [usize; 4],
    /// As asked.
    pub batch: usize,
    /// As asked.
    pub window: usize,
    /// As asked.
    pub device: Device,
    /// As asked.
    pub precision: Precision,
    /// As asked.
    pub threads: usize,
}

/// Times training steps.
///
/// # Errors
/// Where the shape is not allowed.
pub fn bench(options: &BenchOptions) -> Result<BenchReport> {
    ensure!(
        options.batch > 0 && options.window > 0 && options.threads > 0 && options.steps > 0,
        "batch, window, threads and steps must be at least 1"
    );
    let [residual, skip, end, layers] = options.shape;
    let config = Config {
        residual_channels: residual,
        gate_channels: residual,
        skip_channels: skip,
        end_channels: end,
        dilations: Config::cycled_dilations(layers),
        ..Config::default()
    };
    check_model(&config).context("--shape")?;
    let mut weights = Weights::random(config.clone(), 1)?;
    let mut moments = Moments::new(weights.values());
    let BenchOptions { device, precision, threads, .. } = *options;
    let mut learner = Learner::on(device, precision, &config, AdamW::default(), threads)?;
    let segment = |index: usize| {
        let draws = Philox::new(7, index as u64);
        let codes: Vec<u8> = (0..=options.window as u64).map(|i| draws.draw(i) as u8).collect();
        Segment {
            inputs: codes[..options.window].to_vec(),
            targets: codes[1..].to_vec(),
            ..Segment::default()
        }
    };
    let segments: Vec<Segment> = (0..options.batch).map(segment).collect();
    let packed = Packed::new(&weights, Dtype::F32, Isa::Auto)?;
    let (roof, mut peak) = (Roof::new(&packed, 0), 0.0_f64);
    let mut times_ms = Vec::with_capacity(options.steps);
    // The first two steps take the memory.
    for step in 0..options.steps + 2 {
        // A step may leave something else in its segments.
        let mut batch = segments.clone();
        let start = Instant::now();
        learner.gradient(&weights, &moments, &mut batch)?;
        learner.step(&mut weights, &mut moments, 1e-3)?;
        if step >= 2 {
            times_ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
        // A card would end its step meanwhile, unnoticed.
        if step >= 2 && device != Device::Cuda {
            peak = peak.max(best_rate(LOOKS, || roof.multiply_add(Dtype::F32)));
        }
    }
    times_ms.sort_by(f64::total_cmp);
    let step_ms = times_ms[times_ms.len() / 2];
    let samples = (options.batch * options.window) as f64;
    let multiply_adds = 3.0 * packed.work().multiply_adds_per_voice as f64 * samples;
    Ok(BenchReport {
        step_ms,
        fastest_step_ms: times_ms[0],
        samples_per_second: samples / step_ms * 1e3,
        roof_ms: (peak > 0.0).then(|| multiply_adds / (peak * options.threads as f64) * 1e3),
        parameters: weights.values().len(),
        shape: options.shape,
        batch: options.batch,
        window: options.window,
        device: options.device,
        precision: options.precision,
        threads: options.threads,
    })
}
