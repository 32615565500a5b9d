//! The int8 pipeline over a cluster: the scalar kernel's bytes, in whichever order its threads run and its messages
//! come.

use super::*;

/// A model of one of its shapes: 64 or 128 channels.
pub(super) fn config(
    shape: usize,
    kernel_size: usize,
    dilations: &[usize],
    conditioning: Recipe,
) -> Config {
    let channels = [64, 128][shape];
    Config {
        residual_channels: channels,
        gate_channels: channels,
        ..of_shape(1, kernel_size, dilations, conditioning)
    }
}

fn notes(partials: usize) -> Recipe {
    Recipe::Note(NoteRecipe { partials, ..NoteRecipe::default() })
}

fn shim(shared_kib: u32) -> Shim {
    Shim::new(4, shared_kib << 10).with_clusters()
}

/// Few layers and many, of one block or several, the end's skips alone or not, one past tap or two, past taps in shared
/// memory or not, with and without conditioning.
#[test]
fn its_logits_are_the_scalar_ones() {
    let many = [1, 2, 4, 8, 1, 2, 1, 4, 1, 3, 1, 1, 2, 1];
    for (seed, (shape, kernel_size, dilations, conditioning, shared)) in (0..).zip([
        (0, 2, &many[..], notes(16), 227),
        (0, 3, &many[..4], notes(0), 227),
        (0, 2, &many[..9], Recipe::None, 207),
        (1, 2, &many[..8], notes(4), 227),
        (1, 3, &many[..2], Recipe::None, 227),
    ]) {
        let weights = lively(&config(shape, kernel_size, dilations, conditioning), seed);
        // Seed 0 would deliver every message at once.
        let shim = shim(shared).shuffled(seed + 1);
        let entries = shim.entries();
        same_logits(&weights, Dtype::Int8, OnDevice::new(shim, Mode::Pipeline), 2, seed);
        let launched = entries.lock().unwrap();
        assert!(launched.iter().all(|&entry| entry == Entry::PipelineInt8(shape)), "{launched:?}");
    }
}

/// Slices that end in the midst, voices that begin anew, the host beside the kernel.
#[test]
fn its_codes_are_the_scalar_ones() {
    for (shape, kernel_size, dilations) in
        [(0, 3, &[1, 2, 4, 8, 1, 2, 1, 4, 1, 2][..]), (1, 2, &[1, 2, 1, 16, 1])]
    {
        let weights = lively(&config(shape, kernel_size, dilations, notes(4)), 2);
        let runs = [40, 1, 30];
        let expected = truth(&weights, Dtype::Int8, 2, &runs, 2);
        for shim in [
            shim(227),
            shim(227).shuffled(2).with_slices_of(3),
            shim(227).shuffled(3).with_slices_of(11),
            shim(227).live(),
        ] {
            let mut device = on_shim_in(Mode::Pipeline, &weights, Dtype::Int8, 2, shim);
            let found = play(&mut device, 2, &runs, 2);
            assert_eq!(device.loss(), None);
            assert!(found == expected, "shape {shape}");
        }
    }
}

/// Several samples a launch through several chains and skip blocks, whose sums come late.
#[test]
fn early_skips_come_from_blocks_of_their_own() {
    let of_128 = [1, 2, 1, 16, 1, 2, 4, 1, 8, 1, 3, 1, 2, 1];
    let weights = lively(&config(1, 2, &of_128, notes(4)), 11);
    let runs = [11, 1, 6];
    let expected = truth(&weights, Dtype::Int8, 1, &runs, 11);
    for shim in [shim(227).shuffled(7), shim(227).shuffled(8).with_slices_of(5)] {
        let mut device = on_shim_in(Mode::Pipeline, &weights, Dtype::Int8, 1, shim);
        let found = play(&mut device, 1, &runs, 11);
        assert_eq!(device.loss(), None);
        assert!(found == expected);
    }
}

/// Blocks and warps that are much slower than others: who begins or ends early is not written to.
#[test]
fn slow_blocks_are_waited_for() {
    let weights = lively(&config(0, 2, &[1, 2, 1, 1, 1, 1, 1, 1, 1, 1], notes(4)), 6);
    let runs = [5, 1, 4];
    let expected = truth(&weights, Dtype::Int8, 1, &runs, 6);
    for seed in [3, 4, 5] {
        let shim = shim(227).shuffled(seed).lagging();
        let mut device = on_shim_in(Mode::Pipeline, &weights, Dtype::Int8, 1, shim);
        let found = play(&mut device, 1, &runs, 6);
        assert_eq!(device.loss(), None);
        assert!(found == expected, "{seed}");
    }
}

/// The largest that a cluster holds.
#[test]
fn thirty_layers_of_128_channels_pass_through_sixteen_blocks() {
    let weights = lively(&config(1, 2, &Config::cycled_dilations(30), Recipe::None), 3);
    let device = OnDevice::new(shim(227).shuffled(3), Mode::Pipeline);
    side_by_side(&weights, Dtype::Int8, device, (1, 3, 3), |sample, exact, found| {
        let bits = |logits: &[f32]| logits.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>();
        assert!(bits(exact) == bits(found), "sample {sample}");
    });
}

/// As many voices as the card has clusters play in them; more of them each in a block, or together, and each goes on
/// where it was.
#[test]
fn voices_go_from_clusters_to_blocks_and_back() {
    for (shape, kernel_size, lanes, clusters, runs) in
        [(0, 2, 6, 4, &[9, 1, 7, 5, 12, 3][..]), (1, 3, 5, 3, &[5, 1, 4, 6, 3, 2])]
    {
        let weights = lively(&config(shape, kernel_size, &[1, 2, 4], notes(4)), 5);
        let shim =
            Shim::new(lanes - 1, 227 << 10).with_clusters().of_clusters(clusters).shuffled(5);
        let (entries, lanes) = (shim.entries(), lanes as usize);
        let mut device = on_shim_in(Mode::Pipeline, &weights, Dtype::Int8, lanes, shim);
        assert_eq!(device.clusters(), clusters as usize);
        let found = play(&mut device, lanes, runs, 5);
        assert_eq!(device.loss(), None);
        assert!(found == truth(&weights, Dtype::Int8, lanes, runs, 5));
        let launched = entries.lock().unwrap();
        let is_there = |entry| launched.contains(&entry);
        let alone = if shape == 0 { Entry::Single(1) } else { Entry::Batch };
        assert!(is_there(Entry::PipelineInt8(shape)) && is_there(alone), "{launched:?}");
    }
}

#[test]
fn what_has_no_pipeline_is_told() {
    let refusal = |config: Config, dtype, shim: Shim| {
        let weights = lively(&config, 1);
        let packed = packed(&weights, dtype);
        let made = Session::new(Box::new(shim), &weights, &packed, 1, THREADS, Mode::Pipeline);
        made.unwrap_err().to_string()
    };
    let of_64 = || config(0, 2, &[1, 2], Recipe::None);
    let told = refusal(of_64(), Dtype::Int8, Shim::new(4, SHARED));
    assert!(told.contains("the pipeline needs compute capability 9.0, shim has 7.5"), "{told}");
    let told = refusal(of_64(), Dtype::Int8, shim(227).of_clusters(0));
    assert!(told.contains("shim cannot run 4 blocks as one cluster"), "{told}");
    let forty = config(1, 2, &[1; 40], Recipe::None);
    for (config, dtype, shared) in [
        (played(), Dtype::Int8, 227),
        (of_64(), Dtype::F32, 227),
        (config(1, 2, &[1, 2], Recipe::None), Dtype::Int8, 60),
        (forty, Dtype::Int8, 227),
    ] {
        let told = refusal(config, dtype, shim(shared));
        assert!(told.contains("64/256/256 or 128/256/256"), "{told}");
    }
}
