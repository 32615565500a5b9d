//! The batch kernels that are compiled for a model's shape.

use super::super::shapes::BATCH_SHAPES;
use super::*;

/// A model of a shape that has a batch kernel.
fn config(index: usize) -> Config {
    let channels = BATCH_SHAPES[index].0;
    Config {
        residual_channels: channels.residual,
        gate_channels: channels.residual,
        skip_channels: channels.skip,
        end_channels: channels.end,
        levels: 256,
        kernel_size: 2,
        dilations: vec![1, 3, 2],
        ..played()
    }
}

/// Every shape, with and without conditioning, one past tap or two, for all numbers of voices a block.
#[test]
fn every_shape_gives_the_scalar_logits() {
    for index in 0..BATCH_SHAPES.len() {
        for (lanes, kernel_size, is_told) in
            [(5, 2, false), (13, 3, true), (21, 2, true), (30, 2, false), (45, 2, false)]
        {
            let conditioning = if is_told { config(index).conditioning } else { Recipe::None };
            let config = Config { kernel_size, conditioning, ..config(index) };
            let weights = lively(&config, 11);
            let shim = Shim::new(1, 8 * SHARED).wide_if(true).shuffled(7);
            let entries = shim.entries();
            same_logits(&weights, Dtype::Int8, OnDevice::new(shim, Mode::Exact), lanes, 11);
            assert!(entries.lock().unwrap().iter().all(|&entry| entry == Entry::Batch));
        }
    }
}

/// Voices that come, go and begin anew, slices that end in the midst, threads in any order.
#[test]
fn the_smallest_gives_the_scalar_codes() {
    for (lanes, slice, seed) in [(3, u64::MAX, 1), (11, 9, 2), (40, 30, 3)] {
        let config = Config { kernel_size: 3, ..config(0) };
        let weights = lively(&config, seed);
        let shim = Shim::new(1, SHARED).wide_if(true).shuffled(seed).with_slices_of(slice);
        let entries = shim.entries();
        let mut device = on_shim(&weights, Dtype::Int8, lanes, shim);
        let found = play(&mut device, lanes, &[7, 1, 30], seed);
        assert_eq!(device.loss(), None);
        assert!(found == truth(&weights, Dtype::Int8, lanes, &[7, 1, 30], seed));
        assert!(entries.lock().unwrap().contains(&Entry::Batch));
    }
}

/// Few voices of a shape that has no single-stream kernel: alone by the text for any shape, and together.
#[test]
fn few_voices_of_a_large_shape_give_the_scalar_codes() {
    let weights = lively(&config(2), 6);
    let shim = Shim::new(5, 227 << 10).wide_if(true).shuffled(6).with_slices_of(20);
    let entries = shim.entries();
    let mut device = on_shim(&weights, Dtype::Int8, 3, shim);
    let runs = [60, 1, 45];
    let found = play(&mut device, 3, &runs, 6);
    assert_eq!(device.loss(), None);
    assert!(found == truth(&weights, Dtype::Int8, 3, &runs, 6));
    let launched = entries.lock().unwrap();
    assert!(launched.contains(&Entry::Batch), "{launched:?}");
    assert!(launched.contains(&Entry::GeneralSingle), "{launched:?}");
}

/// As many voices as the card has blocks play alone, more of them together; and each goes on where it was.
#[test]
fn voices_go_from_the_single_stream_kernel_to_the_batch_and_back() {
    for (index, runs) in [(0, &[9, 1, 30, 7, 12, 5, 20, 3][..]), (1, &[9, 1, 7, 5, 12, 3])] {
        let weights = lively(&config(index), 5);
        let shim = Shim::new(5, 227 << 10).wide_if(true).shuffled(5);
        let entries = shim.entries();
        let mut device = on_shim(&weights, Dtype::Int8, 6, shim);
        let found = play(&mut device, 6, runs, 5);
        assert_eq!(device.loss(), None);
        assert!(found == truth(&weights, Dtype::Int8, 6, runs, 5));
        let launched = entries.lock().unwrap();
        let is_there = |entry| launched.contains(&entry);
        assert!(is_there(Entry::Single(index)) && is_there(Entry::Batch), "{launched:?}");
    }
}
