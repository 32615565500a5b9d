//! The kernel's own text, run on this processor, gives the scalar kernel's bytes; and a device that is
//! lost is not heard.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::Mode;
use super::driver::{Driver, Entry, Mapped};
use super::lanes::{Lanes, Order};
use super::plan::Threads;
use super::session::Session;
use super::shim::{Fault, Shim};
use crate::config::{Config, Dtype, NoteRecipe, Recipe};
use crate::kernels::tests::shapes_within;
use crate::kernels::{Isa, Packed, State};
use crate::math;
use crate::mulaw::MuLaw;
use crate::sampling::{Philox, Sampling, pick};
use crate::weights::Weights;

mod batch;
pub(crate) mod fast;
mod general;
mod loss;
mod on_card;
mod parts;
mod pipeline_int8;
mod rings;
mod single;
mod tiles;

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::Bf16, Dtype::Int8];
/// Few threads: each is a fiber.
const THREADS: Threads = Threads { single: 64, batch: 64, tiles: 64 };
/// What a block may have, as on many a card.
const SHARED: u32 = 96 << 10;

/// Random weights whose logits spread as a trained model's do, random biases too.
fn lively(config: &Config, seed: u64) -> Weights {
    let mut weights = Weights::random(config.clone(), seed).unwrap();
    let draws = Philox::new(seed, 1 << 40);
    for (index, value) in weights.values_mut().iter_mut().enumerate() {
        *value += 0.1 * (draws.uniform(index as u64) - 0.5);
    }
    let end = weights.layout().end2.weight.clone();
    weights.values_mut()[end].iter_mut().for_each(|weight| *weight *= 6.0);
    weights
}

fn packed(weights: &Weights, dtype: Dtype) -> Arc<Packed> {
    Arc::new(Packed::new(weights, dtype, Isa::Scalar).unwrap())
}

fn on_shim(weights: &Weights, dtype: Dtype, lanes: usize, shim: Shim) -> Lanes {
    on_shim_in(Mode::Exact, weights, dtype, lanes, shim)
}

fn on_shim_in(mode: Mode, weights: &Weights, dtype: Dtype, lanes: usize, shim: Shim) -> Lanes {
    let packed = packed(weights, dtype);
    let hangs = shim.hangs();
    let mut session = Session::new(Box::new(shim), weights, &packed, lanes, THREADS, mode).unwrap();
    // However busy this machine is; and every plan is tried, however soon a slice is over.
    session.hung = if hangs { Duration::from_millis(20) } else { Duration::MAX };
    session.tuning.shortest = Duration::ZERO;
    Lanes::on_device(packed, session, lanes)
}

/// Lanes of a device that plays for a moment and then fails.
pub(crate) fn failing_lanes(weights: &Weights, lanes: usize) -> Lanes {
    let shim = Shim::new(4, SHARED).failing(Fault::Wait(2)).with_slices_of(30);
    on_shim(weights, Dtype::F32, lanes, shim)
}

const SAMPLINGS: [Sampling; 4] = [
    Sampling { temperature: 1.0, top_p: 1.0 },
    Sampling { temperature: 0.7, top_p: 0.9 },
    Sampling { temperature: 0.0, top_p: 1.0 },
    Sampling { temperature: 1.3, top_p: 0.3 },
];

/// The codes of all lanes, asked for in runs of changing lengths, with a lane left out now and then and
/// one begun anew.
fn play(lanes: &mut Lanes, count: usize, runs: &[usize], seed: u64) -> Vec<Vec<u8>> {
    let config = lanes.packed().config().clone();
    let (h, is_constant) = (config.conditioning_channels(), config.local_channels() == 0);
    let silence = MuLaw::new(config.levels).silence();
    let mut made = vec![(0_u64, silence); count];
    let mut heard = vec![Vec::new(); count];
    let chance = Philox::new(seed, 77);
    for (run, &longest) in runs.iter().enumerate() {
        let mut orders = Vec::new();
        let mut conditioning = Vec::new();
        for lane in 0..count {
            let drawn = chance.draw((run * count + lane) as u64);
            if count > 1 && drawn.is_multiple_of(5) {
                continue;
            }
            if run > 0 && drawn.is_multiple_of(7) {
                made[lane] = (0, silence);
            }
            let samples = if drawn.is_multiple_of(3) { longest.div_ceil(2) } else { longest };
            let (before, code) = made[lane];
            let draws = Philox::new(seed, 1000 + lane as u64);
            let rows = if is_constant { 0..1 } else { before..before + samples as u64 };
            let channel = |index| draws.uniform(1 << 20 | index) * 3.0 - 1.5;
            for row in rows {
                conditioning.extend((0..h as u64).map(|i| channel(row * 512 + i)));
            }
            let sampling = SAMPLINGS[(lane + run) % SAMPLINGS.len()];
            orders.push(Order { lane, made: before, code, draws, sampling, count: samples });
        }
        let mut codes = vec![0; orders.iter().map(|order| order.count).sum()];
        lanes.run(&orders, &conditioning, &mut codes);
        let mut rest = &codes[..];
        for order in orders {
            let of_order = rest.split_off(..order.count).unwrap();
            heard[order.lane].extend_from_slice(of_order);
            made[order.lane] = (order.made + order.count as u64, *of_order.last().unwrap());
        }
    }
    heard
}

fn truth(weights: &Weights, dtype: Dtype, lanes: usize, runs: &[usize], seed: u64) -> Vec<Vec<u8>> {
    let mut processor = Lanes::on_processor(packed(weights, dtype), lanes);
    play(&mut processor, lanes, runs, seed)
}

/// Small ones: a fiber a thread takes its time.
fn shapes() -> impl Strategy<Value = Config> {
    shapes_within(40, 12, 3)
}

/// As many as one block plays, and more than one tile or block of the batch kernel.
fn lanes() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 1..7_usize, 1 => 8..20_usize]
}

/// Lanes on a device.
struct OnDevice {
    driver: Box<dyn Driver>,
    threads: Threads,
    mode: Mode,
}

impl OnDevice {
    fn new(shim: Shim, mode: Mode) -> Self {
        Self { driver: Box::new(shim), threads: THREADS, mode }
    }
}

/// Steps every lane on a device and by the scalar kernel, which hears the same codes. `compare` gets the sample, the
/// scalar logits of a lane, and the device's. The codes must be what those mean.
fn side_by_side(
    weights: &Weights,
    dtype: Dtype,
    OnDevice { driver, threads, mode }: OnDevice,
    (lanes, samples, seed): (usize, u64, u64),
    mut compare: impl FnMut(u64, &[f32], &[f32]),
) {
    let packed = packed(weights, dtype);
    let mut session = Session::new(driver, weights, &packed, lanes, threads, mode).unwrap();
    let kept = session.keep_logits().unwrap();
    let config = packed.config();
    let (h, levels) = (config.conditioning_channels(), config.levels);
    let is_constant = config.local_channels() == 0;
    let mut state = State::new(&packed, lanes);
    let mut before = vec![MuLaw::new(levels).silence(); lanes];
    let every: Vec<usize> = (0..lanes).collect();
    for sample in 0..samples {
        let order = |lane: usize| Order {
            lane,
            made: sample,
            code: before[lane],
            draws: Philox::new(seed, lane as u64),
            sampling: SAMPLINGS[lane % SAMPLINGS.len()],
            count: 1,
        };
        let orders: Vec<Order> = every.iter().map(|&lane| order(lane)).collect();
        let vectors = noise(if is_constant { seed } else { seed + 1 + sample }, lanes * h);
        let mut codes = vec![0; lanes];
        session.run(&orders, &vectors, &mut codes).unwrap();
        let mut logits = vec![0.0; lanes * levels];
        packed.step(&mut state, &every, &before, &vectors, &mut logits);
        let found = read(&kept, logits.len());
        for (lane, (exact, found)) in
            logits.chunks_exact(levels).zip(found.chunks_exact(levels)).enumerate()
        {
            compare(sample, exact, found);
            let code = packed.pick(found, orders[lane].sampling, orders[lane].draws.draw(sample));
            assert_eq!(codes[lane], code, "{dtype}, sample {sample}, lane {lane}");
        }
        before = codes;
    }
}

/// Floats that a device has published.
fn read(kept: &Mapped, count: usize) -> Vec<f32> {
    let mut bytes = vec![0; count * 4];
    kept.read(0, &mut bytes);
    bytes.chunks_exact(4).map(|four| f32::from_ne_bytes(four.try_into().unwrap())).collect()
}

/// The device's logits are the scalar kernel's, bit by bit.
fn same_logits(weights: &Weights, dtype: Dtype, device: OnDevice, lanes: usize, seed: u64) {
    side_by_side(weights, dtype, device, (lanes, 24, seed), |sample, exact, found| {
        for (index, (logit, found)) in exact.iter().zip(found).enumerate() {
            let is_same = logit.to_bits() == found.to_bits();
            assert!(is_same, "{dtype}, sample {sample}, logit {index}: {logit:?}, not {found:?}");
        }
    });
}

/// Random numbers from -1.5 to 1.5.
fn noise(seed: u64, len: usize) -> Vec<f32> {
    let draws = Philox::new(seed, 5);
    (0..len as u64).map(|index| draws.uniform(index) * 3.0 - 1.5).collect()
}

/// A shape that is played, with everything in it.
fn played() -> Config {
    Config {
        residual_channels: 32,
        gate_channels: 32,
        skip_channels: 64,
        end_channels: 64,
        kernel_size: 3,
        dilations: vec![1, 2, 4, 8, 1, 2],
        classes: vec!["a".into(), "b".into()],
        conditioning: Recipe::Note(NoteRecipe { partials: 4, ..NoteRecipe::default() }),
        ..Config::default()
    }
}

/// A model of one of the shapes that have a single-stream kernel and a pipeline.
fn of_shape(shape: usize, kernel_size: usize, dilations: &[usize], conditioning: Recipe) -> Config {
    let [residual_channels, skip_channels, end_channels] = [[32, 64, 128], [64, 256, 256]][shape];
    Config {
        residual_channels,
        gate_channels: residual_channels,
        skip_channels,
        end_channels,
        kernel_size,
        dilations: dilations.to_vec(),
        conditioning,
        ..played()
    }
}
