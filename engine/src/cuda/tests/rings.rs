//! Runs longer than what host and kernel have under way.

use super::*;

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

/// The same of kernels of known shapes, whose rings wrap and whose goals rise while they run.
#[test]
fn every_kernel_outlasts_its_rings() {
    let of_shape = |shape, partials| {
        let conditioning = Recipe::Note(NoteRecipe { partials, ..NoteRecipe::default() });
        of_shape(shape, 2, &[1, 3], conditioning)
    };
    let shim = |multiprocessors| Shim::new(multiprocessors, 227 << 10).with_clusters().live();
    for (mode, shape, lanes, entry) in [
        (Mode::Exact, 0, 1, Entry::Single(0)),
        (Mode::Exact, 0, 3, Entry::Batch),
        (Mode::Pipeline, 1, 1, Entry::PipelineInt8(0)),
        (Mode::Fast, 0, 1, Entry::PipelineBf16(0)),
    ] {
        let weights = lively(&of_shape(shape, 2), 3);
        let shim = shim(2).of_clusters(1);
        let entries = shim.entries();
        let mut device = on_shim_in(mode, &weights, Dtype::Int8, lanes, shim);
        let found = play(&mut device, lanes, &[1_100], 4);
        assert_eq!(device.loss(), None);
        assert_eq!(*entries.lock().unwrap(), [entry]);
        if mode == Mode::Fast {
            let mut once_more = on_shim_in(mode, &weights, Dtype::Int8, lanes, fast::shim(4, 227));
            assert!(found == play(&mut once_more, lanes, &[1_100], 4));
        } else {
            assert!(found == truth(&weights, Dtype::Int8, lanes, &[1_100], 4), "{mode:?}");
        }
    }
}
