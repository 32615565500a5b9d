//! The same on a real card: `tests/gpu.sh` runs these.

use super::*;
use crate::cuda::open;

fn shapes() -> Vec<Config> {
    let large = Config {
        residual_channels: 128,
        gate_channels: 128,
        dilations: Config::cycled_dilations(30),
        ..Config::default()
    };
    let odd = Config {
        levels: 77,
        residual_channels: 33,
        gate_channels: 19,
        skip_channels: 70,
        end_channels: 5,
        ..played()
    };
    vec![played(), odd, Config::default(), large]
}

fn lanes(mode: Mode, weights: &Weights, dtype: Dtype, count: usize) -> Lanes {
    crate::cuda::lanes(weights, packed(weights, dtype), count, mode).unwrap()
}

fn on_card(mode: Mode) -> OnDevice {
    OnDevice { driver: open().unwrap(), threads: Threads::default(), mode }
}

#[test]
#[ignore = "needs a GPU"]
fn the_kernel_gives_the_scalar_logits() {
    for (seed, config) in shapes().into_iter().enumerate() {
        let weights = lively(&config, seed as u64);
        for dtype in DTYPES {
            // Alone, and together.
            for count in [3, 300] {
                same_logits(&weights, dtype, on_card(Mode::Exact), count, seed as u64);
            }
        }
    }
}

#[test]
#[ignore = "needs a GPU"]
fn the_kernel_gives_the_scalar_codes() {
    for config in [played(), Config { conditioning: Recipe::None, ..played() }] {
        let weights = lively(&config, 5);
        for dtype in DTYPES {
            for (count, runs) in [(2, [5_000, 1, 77]), (500, [300, 1, 77])] {
                let mut device = lanes(Mode::Exact, &weights, dtype, count);
                let found = play(&mut device, count, &runs, 5);
                assert_eq!(device.loss(), None);
                assert!(found == truth(&weights, dtype, count, &runs, 5), "{dtype}");
            }
        }
    }
}

/// A slice is long over when all of it is made: many slices follow each other.
#[test]
#[ignore = "needs a GPU"]
fn a_second_of_many_slices_is_the_scalar_one() {
    let weights = lively(&Config::default(), 6);
    let runs = [40_000];
    let mut device = lanes(Mode::Exact, &weights, Dtype::Int8, 1);
    let found = play(&mut device, 1, &runs, 6);
    assert_eq!(device.loss(), None);
    let fastest = Arc::new(Packed::new(&weights, Dtype::Int8, Isa::Auto).unwrap());
    assert!(found == play(&mut Lanes::on_processor(fastest, 1), 1, &runs, 6));
}

#[test]
#[ignore = "needs a GPU"]
fn what_does_not_fit_is_refused() {
    let weights = lively(&Config::default(), 6);
    let error = crate::cuda::lanes(&weights, packed(&weights, Dtype::F32), 1 << 21, Mode::Exact);
    assert!(error.unwrap_err().to_string().contains("memory"));
}

/// More voices than the card has blocks: full tiles, of several blocks a multiprocessor.
#[test]
#[ignore = "needs a GPU"]
fn thousands_of_voices_give_the_scalar_logits() {
    let weights = lively(&Config::default(), 7);
    for dtype in DTYPES {
        let device = on_card(Mode::Exact);
        // A block has 32 at most.
        let count = device.driver.card().multiprocessors as usize * 32 + 100;
        same_logits(&weights, dtype, device, count, 7);
    }
}

/// Of as many layers as a cluster holds, alone and several, slice after slice.
#[test]
#[ignore = "needs a GPU"]
fn the_pipeline_gives_the_scalar_logits_and_codes() {
    let notes = || Recipe::Note(NoteRecipe { partials: 16, ..NoteRecipe::default() });
    for (shape, kernel_size, layers, recipe) in [
        (0, 2, 10, notes()),
        (0, 3, 20, Recipe::None),
        (0, 2, 30, Recipe::None),
        (1, 2, 30, notes()),
        (1, 3, 10, Recipe::None),
    ] {
        let dilations = Config::cycled_dilations(layers);
        let config = pipeline_int8::config(shape, kernel_size, &dilations, recipe);
        let weights = lively(&config, 10);
        same_logits(&weights, Dtype::Int8, on_card(Mode::Pipeline), 3, 10);
        // In clusters; and more of them than a card has clusters, so now and then elsewhere.
        for (lanes, runs) in [(3, &[3_000, 1, 300][..]), (40, &[50, 1, 20, 7])] {
            let mut device = self::lanes(Mode::Pipeline, &weights, Dtype::Int8, lanes);
            assert!(device.clusters() >= 3);
            let found = play(&mut device, lanes, runs, 10);
            assert_eq!(device.loss(), None);
            let fastest = Arc::new(Packed::new(&weights, Dtype::Int8, Isa::Auto).unwrap());
            let mut processor = Lanes::on_processor(fastest, lanes);
            assert!(found == play(&mut processor, lanes, runs, 10), "{shape} {layers} {lanes}");
        }
    }
}

/// The shapes that are fast, of as many layers as a cluster holds.
fn fast_shapes() -> [Config; 3] {
    let notes = Recipe::Note(NoteRecipe { partials: 16, ..NoteRecipe::default() });
    [(0, 10, notes), (1, 10, Recipe::None), (1, 30, Recipe::None)].map(|(shape, layers, recipe)| {
        of_shape(shape, 2, &Config::cycled_dilations(layers), recipe)
    })
}

#[test]
#[ignore = "needs a GPU"]
fn the_fast_mode_is_near_the_exact_one() {
    for config in fast_shapes() {
        let weights = lively(&config, 8);
        let worst = fast::worst_error(&weights, on_card(Mode::Fast), 3, 200);
        eprintln!("{worst} of the spread");
        assert!(worst < 0.02, "{worst}");
    }
}

/// Seconds of several voices, slice after slice.
#[test]
#[ignore = "needs a GPU"]
fn the_fast_mode_gives_the_same_codes_again() {
    for config in fast_shapes() {
        let weights = lively(&config, 9);
        let [first, again] = [(); 2].map(|()| {
            let mut device = lanes(Mode::Fast, &weights, Dtype::F32, 3);
            let found = play(&mut device, 3, &[20_000, 1, 300], 9);
            assert_eq!(device.loss(), None);
            found
        });
        assert!(first == again);
    }
}
