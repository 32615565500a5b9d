//! The kernel's own text, run on this processor, gives the scalar kernel's bytes; and a device that is
//! lost is not heard.

use std::sync::Arc;

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
mod on_card;
mod pipeline_int8;
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
    let session = Session::new(Box::new(shim), weights, &packed, lanes, THREADS, mode).unwrap();
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

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(8) })]

    /// Any shape, alone and together, memory shared or not.
    #[test]
    fn the_kernel_gives_the_scalar_logits(
        config in shapes(),
        lanes in lanes(),
        multiprocessors in 1..4_u32,
        is_roomy in any::<bool>(),
        is_wide in any::<bool>(),
        seed in 0..1000_u64,
    ) {
        let weights = lively(&config, seed);
        for dtype in DTYPES {
            let shared = if is_roomy { SHARED } else { 256 };
            let shim = Shim::new(multiprocessors, shared).wide_if(is_wide);
            same_logits(&weights, dtype, OnDevice::new(shim, Mode::Exact), lanes, seed);
        }
    }

    /// Any shape, threads in any order, slices of any length.
    #[test]
    fn the_kernel_gives_the_scalar_codes(
        config in shapes(),
        lanes in lanes(),
        multiprocessors in 1..4_u32,
        is_roomy in any::<bool>(),
        is_wide in any::<bool>(),
        slice in prop::option::of(2..30_u64),
        seed in 0..1000_u64,
    ) {
        let weights = lively(&config, seed);
        for dtype in DTYPES {
            let shared = if is_roomy { SHARED } else { 256 };
            let shim = Shim::new(multiprocessors, shared)
                .wide_if(is_wide)
                .shuffled(seed)
                .with_slices_of(slice.unwrap_or(u64::MAX));
            let mut device = on_shim(&weights, dtype, lanes, shim);
            let found = play(&mut device, lanes, &[7, 1, 20], seed);
            prop_assert!(device.is_on_device(), "{:?}", device.loss());
            prop_assert!(found == truth(&weights, dtype, lanes, &[7, 1, 20], seed), "{dtype}");
        }
    }
}

#[test]
fn the_kernel_has_the_same_exp_tanh_and_sigmoid() {
    // Every 997th float: some 4 million, in every binade, NaN and infinities too.
    let x: Vec<f32> = (0..=u32::MAX).step_by(997).map(f32::from_bits).collect();
    let found = super::shim::math(&x);
    for (found, ours) in found.iter().zip([math::exp, math::tanh, math::sigmoid]) {
        for (&x, found) in x.iter().zip(found) {
            let expected = ours(x);
            let is_same = found.to_bits() == expected.to_bits() || x.is_nan() && found.is_nan();
            assert!(is_same, "of {x:?}: {found:?}, not {expected:?}");
        }
    }
}

#[test]
fn vectors_of_bytes_have_the_same_scale() {
    let smallest = 1e-30_f32;
    let mut largest: Vec<f32> = (0..1 << 31).step_by(499).map(f32::from_bits).collect();
    // Where the kernel goes another way: the ends, and 2^-90 and 2^90.
    for end in
        [0.0, smallest, libm::ldexpf(1.0, -90), 1.0, libm::ldexpf(1.0, 90), f32::MAX, f32::INFINITY]
    {
        largest.extend([end.next_down().abs(), end, end.next_up()]);
    }
    for most in [127.0, 255.0] {
        let [factors, scales] = super::shim::scales(&largest, most);
        for ((&largest, factor), scale) in largest.iter().zip(factors).zip(scales) {
            let is_usable = (smallest..=f32::MAX).contains(&largest);
            let expected = if is_usable { [most / largest, largest / most] } else { [0.0; 2] };
            assert_eq!(
                [factor, scale].map(f32::to_bits),
                expected.map(f32::to_bits),
                "{largest:?}"
            );
        }
    }
}

#[test]
fn the_kernel_picks_the_same_codes() {
    let strange = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, -1e30, 1e30];
    let mut rows: Vec<Vec<f32>> = strange.map(|logit| vec![logit; 3]).to_vec();
    rows.extend(strange.map(|logit| vec![0.5, logit, 0.25, f32::NAN, logit]));
    // Equal weights, so that prefix sums, goals and draws meet exactly.
    rows.extend([1, 2, 4, 64, 256].map(|levels| vec![1.5; levels]));
    rows.push((0..256).map(|code| (code % 4) as f32).collect());
    rows.push(noise(3, 256).iter().map(|value| value * 4.0).collect());
    rows.push(noise(4, 31));
    let shares = [1.0, 0.999_999_9, 0.75, 0.5, 0.25, 1.0 / 256.0, 0.0];
    let edges = (0..=8).map(|eighth: u64| (eighth << 29).min(u64::from(u32::MAX)) as u32);
    let mut draws: Vec<u32> = edges.flat_map(|draw| [draw, draw.wrapping_sub(1)]).collect();
    draws.extend((0..8).map(|index| Philox::new(1, 1).draw(index)));
    for row in rows {
        for top_p in shares {
            for temperature in [0.0, 0.4, 1.0, 7.5] {
                let sampling = Sampling { temperature, top_p };
                for (seed, &draw) in draws.iter().enumerate() {
                    let found = super::shim::pick(&row, sampling, draw, seed as u64);
                    assert_eq!(found, pick(&row, sampling, draw), "{row:?} {sampling:?} {draw:#x}");
                }
            }
        }
    }
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

/// Shared memory that holds all of the chain's weights, and less.
#[test]
fn the_single_stream_kernel_gives_the_scalar_logits_and_codes() {
    let notes = |partials| Recipe::Note(NoteRecipe { partials, ..NoteRecipe::default() });
    let cases = [
        (0, 2, &[1, 2, 4, 8, 1, 2, 1, 1][..], notes(16), &[227, 66, 80][..]),
        (0, 3, &[1, 4, 2], notes(4), &[227]),
        (1, 2, &[1, 2, 1, 16, 1, 2, 4], notes(0), &[227, 150, 164]),
        (1, 2, &[1, 1], Recipe::None, &[227]),
    ];
    for (seed, (shape, kernel_size, dilations, conditioning, sizes)) in (0..).zip(cases) {
        let weights = lively(&of_shape(shape, kernel_size, dilations, conditioning), seed);
        for shared in sizes {
            let shim = || Shim::new(2, shared << 10).wide_if(true).shuffled(seed);
            let entries = shim();
            let entries = (entries.entries(), entries);
            same_logits(&weights, Dtype::Int8, OnDevice::new(entries.1, Mode::Exact), 2, seed);
            let launched = entries.0.lock().unwrap();
            assert!(launched.iter().all(|&entry| entry == Entry::Single(shape)), "{launched:?}");
            for slice in [3, u64::MAX] {
                let shim = shim().with_slices_of(slice);
                let mut device = on_shim(&weights, Dtype::Int8, 2, shim);
                let found = play(&mut device, 2, &[40, 1, 30], seed);
                assert_eq!(device.loss(), None);
                assert!(
                    found == truth(&weights, Dtype::Int8, 2, &[40, 1, 30], seed),
                    "{seed} {shared}"
                );
            }
        }
    }
}

/// So many lanes a thread, and the processor goes on with them where a device failed.
#[test]
fn threads_make_what_one_makes() {
    for config in [played(), Config { conditioning: Recipe::None, ..played() }] {
        let weights = lively(&config, 12);
        let runs = [90, 1, 30, 7];
        let expected = truth(&weights, Dtype::Int8, 7, &runs, 12);
        for share in [1, 3, 7] {
            let mut lanes = Lanes::in_shares(packed(&weights, Dtype::Int8), 7, share);
            assert!(play(&mut lanes, 7, &runs, 12) == expected, "{share} a thread");
        }
        let shim = Shim::new(4, SHARED).failing(Fault::Wait(1));
        let mut device = on_shim(&weights, Dtype::Int8, 7, shim);
        assert!(play(&mut device, 7, &runs, 12) == expected);
        assert!(!device.is_on_device());
    }
}

#[test]
fn longer_than_the_rings_and_the_receptive_field() {
    for dtype in DTYPES {
        for config in [played(), Config { conditioning: Recipe::None, ..played() }] {
            let weights = lively(&config, 3);
            let mut device = on_shim(&weights, dtype, 1, Shim::new(2, SHARED));
            let runs = [1_050, 60];
            let found = play(&mut device, 1, &runs, 3);
            assert!(found[0].iter().collect::<std::collections::HashSet<_>>().len() > 20);
            assert!(found == truth(&weights, dtype, 1, &runs, 3), "{dtype}");
        }
    }
}

/// The kernel runs beside the host, which writes vectors ahead and reads codes meanwhile: one launch is enough.
#[test]
fn a_run_longer_than_the_rings_needs_one_launch() {
    let small = Config { dilations: vec![1, 3], kernel_size: 2, ..played() };
    let weights = lively(&small, 3);
    for (lanes, runs) in [(1, [3_000]), (3, [1_400])] {
        let shim = Shim::new(1, SHARED).live();
        let entries = shim.entries();
        let mut device = on_shim(&weights, Dtype::Int8, lanes, shim);
        let found = play(&mut device, lanes, &runs, 4);
        assert_eq!(device.loss(), None);
        assert!(found == truth(&weights, Dtype::Int8, lanes, &runs, 4));
        assert_eq!(entries.lock().unwrap().len(), 1);
    }
}

#[test]
fn few_play_alone_and_many_together() {
    let weights = lively(&played(), 3);
    for (lanes, entry) in [(2, Entry::GeneralSingle), (9, Entry::GeneralBatch)] {
        let shim = Shim::new(2, SHARED);
        let entries = shim.entries();
        let mut device = on_shim(&weights, Dtype::Int8, lanes, shim);
        let found = play(&mut device, lanes, &[20, 5], 8);
        assert!(found == truth(&weights, Dtype::Int8, lanes, &[20, 5], 8));
        assert!(entries.lock().unwrap().iter().all(|&launched| launched == entry));
    }
}

/// Shared memory ends in the midst of the matrices; those begin where the working memory ends.
#[test]
fn weights_that_fit_in_part() {
    let deep = Config { dilations: [1, 2, 4].repeat(6), ..played() };
    for (config, sizes) in
        [(played(), &[16, 48, 88, 100, 112, 120, 128][..]), (deep, &[32, 64][..])]
    {
        let weights = lively(&config, 3);
        for (dtype, &shared) in DTYPES.into_iter().flat_map(|d| sizes.iter().map(move |s| (d, s))) {
            let shim = Shim::new(1, shared << 10);
            same_logits(&weights, dtype, OnDevice::new(shim, Mode::Exact), 1, 3);
        }
    }
}

#[test]
fn a_lost_device_changes_no_code() {
    let runs = [40, 60, 3, 10];
    let faults =
        [Fault::Launch(0), Fault::Launch(2), Fault::Wait(0), Fault::Wait(1), Fault::Wait(5)];
    for config in [played(), Config { conditioning: Recipe::None, ..played() }] {
        let weights = lively(&config, 9);
        for dtype in [Dtype::F32, Dtype::Int8] {
            let expected = truth(&weights, dtype, 2, &runs, 2);
            for fault in faults {
                let shim = Shim::new(4, SHARED).failing(fault).with_slices_of(30);
                let mut device = on_shim(&weights, dtype, 2, shim);
                let found = play(&mut device, 2, &runs, 2);
                assert!(!device.is_on_device() && device.loss().is_some(), "{fault:?}");
                assert!(found == expected, "{dtype} {fault:?}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let weights = lively(&played(), 9);
    let packed = packed(&weights, Dtype::F32);
    for nth in 0..9 {
        let shim = Shim::new(4, SHARED).failing(Fault::Memory(nth));
        let made = Session::new(Box::new(shim), &weights, &packed, 3, THREADS, Mode::Exact);
        let error = made.err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("device: out of memory"), "{nth}");
    }
    // Working memory that is wanted later, and is not there: the processor goes on.
    let shim = Shim::new(4, 64).failing(Fault::Memory(9));
    let mut device = on_shim(&weights, Dtype::F32, 3, shim);
    let found = play(&mut device, 3, &[30], 2);
    assert_eq!(device.loss(), Some("device: out of memory"));
    assert!(found == truth(&weights, Dtype::F32, 3, &[30], 2));
}
