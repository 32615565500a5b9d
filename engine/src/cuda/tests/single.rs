//! The single-stream kernel.

use super::*;

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
            // Seed 0 would be the order of the threads' numbers.
            let shim = || Shim::new(2, shared << 10).wide_if(true).shuffled(seed + 1);
            let (entries, of_logits) = {
                let shim = shim();
                (shim.entries(), shim)
            };
            same_logits(&weights, Dtype::Int8, OnDevice::new(of_logits, Mode::Exact), 2, seed);
            let launched = entries.lock().unwrap();
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
