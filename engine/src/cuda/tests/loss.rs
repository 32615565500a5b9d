//! What fails, and what goes on without it.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

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
fn a_lost_device_changes_no_code() {
    let runs = [40, 60, 3, 10];
    let faults = [
        Fault::Launch(0),
        Fault::Launch(2),
        Fault::Wait(0),
        Fault::Wait(1),
        Fault::Wait(5),
        Fault::Hang(0),
        Fault::Hang(3),
    ];
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

/// Who asked for it is told once.
#[test]
fn a_loss_is_told_once() {
    static TOLD: AtomicUsize = AtomicUsize::new(0);
    let weights = lively(&played(), 9);
    let shim = Shim::new(4, SHARED).failing(Fault::Wait(0));
    let device = on_shim(&weights, Dtype::F32, 2, shim);
    let mut device = device.telling_loss(|why| {
        assert_eq!(why, "device: the device was lost");
        TOLD.fetch_add(1, Ordering::Relaxed);
    });
    play(&mut device, 2, &[3, 4, 5], 2);
    assert_eq!(TOLD.load(Ordering::Relaxed), 1);
}

/// Blocks that find no place wait for others to end: a slice is over in time all the same.
#[test]
fn waves_of_blocks_share_the_time_of_a_slice() {
    let weights = lively(&Config { conditioning: Recipe::None, ..played() }, 9);
    // A fifth of the lanes is left out.
    for (lanes, waves) in [(2, 1), (32, 1), (100, 3)] {
        let shim = Shim::new(2, 64 * SHARED);
        let (budgets, most) = (shim.budgets(), 25 * u64::from(shim.card().clock_khz));
        let mut device = on_shim(&weights, Dtype::F32, lanes, shim);
        play(&mut device, lanes, &[2], 1);
        assert_eq!(device.loss(), None);
        assert_eq!(budgets.lock().unwrap()[0], most / waves, "{lanes} lanes");
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
