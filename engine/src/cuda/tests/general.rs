//! The text for any shape: any shape of model, any order of threads, any slices.

use super::*;

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
