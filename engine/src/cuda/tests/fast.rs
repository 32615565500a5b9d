//! The fast mode: not the scalar kernel's bytes, but near them; and the same ones in whichever order its threads run.

use super::*;

pub(super) fn shim(multiprocessors: u32, shared_kib: u32) -> Shim {
    Shim::new(multiprocessors, shared_kib << 10).with_clusters()
}

fn on_fast_shim(weights: &Weights, lanes: usize, shim: Shim) -> Lanes {
    on_shim_in(Mode::Fast, weights, Dtype::F32, lanes, shim)
}

/// The largest error of a logit as a share of how far they are spread.
pub(super) fn worst_error(weights: &Weights, device: OnDevice, lanes: usize, samples: u64) -> f32 {
    let mut worst = 0.0_f32;
    side_by_side(weights, Dtype::F32, device, (lanes, samples, 1), |_, exact, found| {
        let (low, high) =
            exact.iter().fold((f32::MAX, f32::MIN), |(low, high), &x| (low.min(x), high.max(x)));
        let error = exact.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        worst = worst.max(error / (high - low));
    });
    worst
}

/// Few layers and many, of one block or several, one past tap or two, with and without conditioning, all weights in
/// shared memory or some.
#[test]
fn its_logits_are_near_the_exact_ones() {
    let notes = |partials| Recipe::Note(NoteRecipe { partials, ..NoteRecipe::default() });
    let many = [1, 2, 4, 8, 1, 2, 1, 4, 1];
    for (shape, kernel_size, dilations, conditioning, shared) in [
        (0, 2, &many[..], Recipe::None, 227),
        (0, 3, &many, notes(16), 64),
        (1, 2, &many, notes(16), 227),
        (1, 3, &many[..3], notes(0), 100),
        (1, 2, &many[..2], Recipe::None, 30),
    ] {
        let weights = lively(&of_shape(shape, kernel_size, dilations, conditioning), 1);
        let worst = worst_error(&weights, OnDevice::new(shim(4, shared), Mode::Fast), 2, 24);
        assert!(worst < 0.02, "{worst}");
    }
}

/// Threads in any order, messages late, slices that end in the midst, the host beside the kernel: always the same
/// codes.
#[test]
fn its_codes_are_always_the_same() {
    let notes = Recipe::Note(NoteRecipe { partials: 4, ..NoteRecipe::default() });
    for (shape, dilations) in [(0, &[1, 2, 4, 8, 1, 2, 1, 4][..]), (1, &[1, 2, 1, 16, 2])] {
        let weights = lively(&of_shape(shape, 2, dilations, notes.clone()), 2);
        let runs = [40, 1, 30];
        let shim = || shim(4, 227);
        let expected = play(&mut on_fast_shim(&weights, 2, shim()), 2, &runs, 2);
        assert!(expected[0].iter().collect::<std::collections::HashSet<_>>().len() > 20);
        for shim in [
            shim().shuffled(1),
            shim().shuffled(2).with_slices_of(3),
            shim().shuffled(3).with_slices_of(11),
            shim().live(),
        ] {
            let mut device = on_fast_shim(&weights, 2, shim);
            let found = play(&mut device, 2, &runs, 2);
            assert_eq!(device.loss(), None);
            assert!(found == expected, "shape {shape}");
        }
    }
}

/// The largest that a cluster holds.
#[test]
fn thirty_layers_pass_through_sixteen_blocks() {
    let weights = lively(&of_shape(1, 2, &Config::cycled_dilations(30), Recipe::None), 3);
    let worst = worst_error(&weights, OnDevice::new(shim(16, 227).shuffled(3), Mode::Fast), 1, 3);
    assert!(worst < 0.02, "{worst}");
}

#[test]
fn what_has_no_fast_mode_is_told() {
    let refusal = |config: Config, shim: Shim| {
        let weights = lively(&config, 1);
        let packed = packed(&weights, Dtype::Int8);
        let made = Session::new(Box::new(shim), &weights, &packed, 1, THREADS, Mode::Fast);
        made.unwrap_err().to_string()
    };
    let told = refusal(of_shape(0, 2, &[1, 2], Recipe::None), Shim::new(4, SHARED));
    assert_eq!(
        told,
        "device: cuda: the fast mode needs compute capability 9.0, shim has 7.5; play without it"
    );
    let told = refusal(of_shape(0, 2, &[1, 2], Recipe::None), shim(4, 96).of_driver(12_000));
    assert!(told.contains("needs a driver for CUDA 12.1, shim has one for 12.0"), "{told}");
    for config in
        [played(), of_shape(1, 2, &[1; 40], Recipe::None), of_shape(1, 2, &[1], Recipe::None)]
    {
        let told = refusal(config, shim(4, 96));
        assert!(told.contains("32/64/128 or 64/256/256"), "{told}");
    }
}

/// A card that is lost: the processor goes on where the voice was, from what the card had made.
#[test]
fn the_processor_goes_on() {
    let weights = lively(&of_shape(0, 2, &[1, 2, 4], Recipe::None), 4);
    let (draws, sampling) = (Philox::new(4, 0), Sampling::default());
    let silence = MuLaw::new(256).silence();
    let of = |made, code, count| Order { lane: 0, made, code, draws, sampling, count };
    // Of the class, for all samples.
    let vector = vec![0.5; weights.config().conditioning_channels()];
    let mut device = on_fast_shim(&weights, 1, shim(4, 227).failing(Fault::Wait(1)));
    let mut codes = [0; 90];
    let (by_card, by_processor) = codes.split_at_mut(40);
    device.run(&[of(0, silence, 40)], &vector, by_card);
    assert!(device.is_on_device());
    device.run(&[of(40, by_card[39], 50)], &vector, by_processor);
    assert!(!device.is_on_device());

    let packed = packed(&weights, Dtype::F32);
    let (mut state, mut logits) = (State::new(&packed, 1), vec![0.0; 256]);
    let heard = std::iter::once(silence).chain(codes);
    for (made, (before, code)) in (0..).zip(heard.zip(codes)) {
        packed.step(&mut state, &[0], &[before], &vector, &mut logits);
        if made >= 40 {
            assert_eq!(code, packed.pick(&logits, sampling, draws.draw(made)), "sample {made}");
        }
    }
}

/// Lets a model make a sound and hear it, and says how likely each of its codes was: bits a sample, of the exact types
/// of weights and of the fast mode. `vectors` has shape `[samples][H]`.
pub(crate) fn bits_a_sample(weights: &Weights, vectors: &[f32]) -> ([f64; 3], f64) {
    let h = weights.config().conditioning_channels();
    let samples = vectors.len() / h;
    let silence = MuLaw::new(256).silence();
    let of = |code, made, count| {
        let (draws, sampling) = (Philox::new(7, 0), Sampling::default());
        Order { lane: 0, made, code, draws, sampling, count }
    };
    let mut codes = vec![0; samples];
    let mut truth = Lanes::on_processor(packed(weights, Dtype::F32), 1);
    truth.run(&[of(silence, 0, samples)], vectors, &mut codes);
    let heard =
        || std::iter::once(silence).chain(codes.iter().copied()).zip(vectors.chunks(h)).zip(&codes);
    let exact = |dtype| {
        let packed = packed(weights, dtype);
        let (mut state, mut logits) = (State::new(&packed, 1), vec![0.0; 256]);
        let of_code = heard().map(|((before, vector), &code)| {
            packed.step(&mut state, &[0], &[before], vector, &mut logits);
            bits(&logits, code)
        });
        of_code.sum::<f64>() / samples as f64
    };
    let fast = {
        let packed = packed(weights, Dtype::F32);
        let driver = Box::new(shim(4, 227));
        let mut session = Session::new(driver, weights, &packed, 1, THREADS, Mode::Fast).unwrap();
        let kept = session.keep_logits().unwrap();
        let of_code = (0..).zip(heard()).map(|(made, ((before, vector), &code))| {
            session.run(&[of(before, made, 1)], vector, &mut [0]).unwrap();
            bits(&read(&kept, 256), code)
        });
        of_code.sum::<f64>() / samples as f64
    };
    (DTYPES.map(exact), fast)
}

/// How many a code takes.
fn bits(logits: &[f32], code: u8) -> f64 {
    let sum: f64 = logits.iter().map(|&logit| libm::exp(f64::from(logit))).sum();
    libm::log2(sum) - f64::from(logits[usize::from(code)]) * std::f64::consts::LOG2_E
}
