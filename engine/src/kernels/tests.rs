use proptest::prelude::*;

use super::*;
use crate::config::{NoteRecipe, Recipe};
use crate::sampling::Philox;

pub(super) const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::Bf16, Dtype::Int8];

/// Random weights, random biases too.
pub(super) fn weights(config: &Config, seed: u64) -> Weights {
    let mut weights = Weights::random(config.clone(), seed).unwrap();
    let draws = Philox::new(seed, 1 << 40);
    for (index, value) in weights.values_mut().iter_mut().enumerate() {
        *value += 0.02 * (draws.uniform(index as u64) - 0.5);
    }
    weights
}

/// Which lanes step, in which order: changes from step to step.
fn chosen(lanes: usize, step: u64, seed: u64) -> Vec<usize> {
    let draws = Philox::new(seed, 2);
    let mut order: Vec<usize> = (0..lanes).collect();
    order.sort_by_key(|&lane| draws.draw(step * 64 + lane as u64));
    order.truncate(1 + draws.draw(step * 64 + 63) as usize % lanes);
    order
}

const UNWRITTEN: u32 = 0x7fc0_dead;

/// Every logit of every lane, as bits, with all lanes together in changing order, or one by one.
fn run(packed: &Packed, lanes: usize, seed: u64, together: bool) -> Vec<Vec<u32>> {
    run_state(packed, &mut State::new(packed, lanes), seed, together)
}

pub(super) fn run_state(
    packed: &Packed,
    state: &mut State,
    seed: u64,
    together: bool,
) -> Vec<Vec<u32>> {
    let config = packed.config();
    let (h, levels, lanes) = (config.conditioning_channels(), config.levels, state.lanes());
    let mut times = vec![0; lanes];
    let mut out = vec![Vec::new(); lanes];
    for step in 0..30 {
        let order = chosen(lanes, step, seed);
        if step == 20 {
            state.reset(packed, order[0]);
        }
        let parts: Vec<&[usize]> = if together { vec![&order] } else { order.chunks(1).collect() };
        for part in parts {
            let mut codes = Vec::new();
            let mut conditioning = Vec::new();
            for &lane in part {
                let draws = Philox::new(seed, 100 + lane as u64);
                let time: u64 = times[lane];
                codes.push((draws.draw(time * 512) as usize % levels) as u8);
                let channel = |index| draws.uniform(time * 512 + 1 + index) * 3.0 - 1.5;
                conditioning.extend((0..h as u64).map(channel));
                times[lane] += 1;
            }
            // A NaN that no arithmetic makes: what is not written shows.
            let mut logits = vec![f32::from_bits(UNWRITTEN); part.len() * levels];
            packed.step(state, part, &codes, &conditioning, &mut logits);
            for (&lane, row) in part.iter().zip(logits.chunks_exact(levels)) {
                assert!(row.iter().all(|logit| logit.to_bits() != UNWRITTEN));
                out[lane].extend(row.iter().map(|logit| logit.to_bits()));
            }
        }
    }
    out
}

pub(super) fn shapes() -> impl Strategy<Value = Config> {
    shapes_within(70, 20, 4)
}

/// Shapes of fewer channels, shorter dilations and fewer classes than these; of skips up to twice as many.
pub(crate) fn shapes_within(
    width: usize,
    dilation: usize,
    classes: usize,
) -> impl Strategy<Value = Config> {
    let channels = (1..width, 1..width, 1..2 * width, 1..width, 2..257_usize);
    let dilations = proptest::collection::vec(1..dilation, 1..5);
    (channels, 2..4_usize, dilations, 0..classes, 0..3_usize).prop_map(
        |((r, g, s, a, levels), kernel_size, dilations, classes, partials)| Config {
            levels,
            residual_channels: r,
            gate_channels: g,
            skip_channels: s,
            end_channels: a,
            kernel_size,
            dilations,
            classes: (0..classes).map(|class| class.to_string()).collect(),
            class_channels: 5,
            conditioning: match partials {
                0 => Recipe::None,
                _ => Recipe::Note(NoteRecipe { partials, ..NoteRecipe::default() }),
            },
            ..Config::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    /// The scalar kernel, one lane after another, is the truth.
    #[test]
    fn every_kernel_gives_the_scalar_bytes(config in shapes(), lanes in 1..10_usize, seed in 0..99_u64) {
        let weights = weights(&config, seed);
        for dtype in DTYPES {
            let scalar = Kernel::choose(Isa::Scalar).unwrap();
            let truth = run(&Packed::with_kernel(&weights, dtype, scalar), lanes, seed, false);
            for kernel in Kernel::all().into_iter().filter(|&kernel| kernel != Kernel::Portable) {
                let packed = Packed::with_kernel(&weights, dtype, kernel);
                prop_assert!(run(&packed, lanes, seed, true) == truth, "{:?} {:?}", dtype, kernel);
            }
        }
    }
}

fn small() -> Config {
    Config {
        residual_channels: 20,
        gate_channels: 12,
        skip_channels: 33,
        end_channels: 18,
        kernel_size: 3,
        dilations: vec![1, 2, 9],
        classes: vec!["a".into()],
        ..Config::default()
    }
}

/// Without fused multiply-add instructions too, which takes longer.
#[test]
fn the_portable_kernel_gives_the_same_bytes() {
    let weights = weights(&small(), 8);
    for dtype in DTYPES {
        let portable = Packed::with_kernel(&weights, dtype, Kernel::Portable);
        let fastest = Packed::new(&weights, dtype, Isa::Auto).unwrap();
        assert_eq!(run(&portable, 3, 1, true), run(&fastest, 3, 1, true), "{dtype:?}");
    }
}

#[test]
fn every_kernel_picks_the_same_codes() {
    let weights = weights(&small(), 8);
    let draws = Philox::new(1, 2);
    let mut row: Vec<f32> = (0..256).map(|code| draws.uniform(code) * 9.0).collect();
    row[17] = f32::NAN;
    row[18] = f32::NEG_INFINITY;
    for (temperature, top_p) in [(1.0, 1.0), (0.8, 0.9), (0.3, 1.0), (30.0, 1.0)] {
        let sampling = Sampling { temperature, top_p };
        // As in the definition: weights, then the first prefix sum beyond the target.
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let parts =
            row.iter().map(|l| (crate::math::exp((l - max) / temperature) * 8_388_608.0) as u64);
        let parts: Vec<u64> = parts.collect();
        let defined = |draw: u32| {
            let target = (u64::from(draw) * parts.iter().sum::<u64>()) >> 32;
            let mut sum = 0;
            parts
                .iter()
                .position(|part| {
                    sum += part;
                    sum > target
                })
                .unwrap() as u8
        };
        for kernel in Kernel::all() {
            let packed = Packed::with_kernel(&weights, Dtype::F32, kernel);
            for index in 0..300 {
                let draw = draws.draw(1000 + index);
                let code = packed.pick(&row, sampling, draw);
                assert_eq!(code, pick(&row, sampling, draw), "{kernel:?}");
                assert!(top_p < 1.0 || code == defined(draw), "{kernel:?} {sampling:?}");
            }
        }
    }
}

#[test]
fn what_scratch_buffers_held_changes_nothing() {
    let weights = weights(&small(), 8);
    for dtype in DTYPES {
        let packed = Packed::new(&weights, dtype, Isa::Auto).unwrap();
        let logits = [(0.0, 0), (f32::NAN, 255), (1e30, 77)].map(|(float, byte)| {
            let mut state = State::new(&packed, 2);
            match &mut state.past {
                Past::Float(past) => past.scratch.poison(float, float),
                Past::Int8(past) => past.scratch.poison(float, byte),
            }
            let mut logits = vec![0.0; 512];
            packed.step(&mut state, &[1, 0], &[17, 200], &[0.3; 32], &mut logits);
            logits
        });
        assert!(logits.iter().all(|row| *row == logits[0]), "{dtype:?}");
    }
}

/// int8 and bf16 are the same function, about: their error is a small share of the logits' spread.
#[test]
fn narrow_weights_are_near_the_wide_ones() {
    let config = Config { residual_channels: 32, gate_channels: 32, skip_channels: 64, ..small() };
    let weights = weights(&config, 3);
    let floats = |dtype| -> Vec<f32> {
        let packed = Packed::new(&weights, dtype, Isa::Auto).unwrap();
        run(&packed, 2, 5, true).concat().into_iter().map(f32::from_bits).collect()
    };
    let truth = floats(Dtype::F32);
    let power =
        |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>();
    for (dtype, most) in [(Dtype::Bf16, 0.01), (Dtype::Int8, 0.03)] {
        let other = floats(dtype);
        let error = power(&mut truth.iter().zip(&other).map(|(a, b)| a - b));
        let share = (error / power(&mut truth.iter().copied())).sqrt();
        assert!(share < most && share > 1e-5, "{dtype:?}: {share}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20) })]

    /// A file stored in a type plays in it what the wide model does, to the bit.
    #[test]
    fn a_smaller_file_plays_the_same_bytes(
        config in shapes(),
        seed in 0..99_u64,
        strange in prop::option::of(prop_oneof![Just(0.0_f32), Just(1e-30), Just(1e30), Just(1e-42)]),
    ) {
        let mut wide = weights(&config, seed);
        if let Some(factor) = strange {
            // Every second row of a matrix of each kind.
            for spec in wide.layout().specs.clone().iter().filter(|spec| spec.shape.len() > 1) {
                let columns = spec.shape[spec.shape.len() - 1];
                let rows = wide.values_mut()[spec.range.clone()].chunks_exact_mut(columns);
                rows.step_by(2).flatten().for_each(|weight| *weight *= factor);
            }
        }
        for dtype in [Dtype::Bf16, Dtype::Int8] {
            let mut narrow = wide.clone();
            narrow.store_as(dtype);
            let bytes = narrow.to_bytes().unwrap();
            let loaded = Weights::from_bytes(&bytes).unwrap();
            prop_assert_eq!(loaded.config().default_dtype, dtype);
            prop_assert!(loaded.storage() == dtype || strange.is_some());
            prop_assert!(loaded.to_bytes().unwrap() == bytes, "it changes when it is saved again");
            let [wide, loaded] = [&wide, &loaded].map(|weights| {
                let packed = Packed::new(weights, dtype, Isa::Auto).unwrap();
                run(&packed, 2, seed, true)
            });
            prop_assert!(wide == loaded, "{dtype}");
        }
    }
}
