//! The audio thread makes no system call: it runs under a filter that ends the process at the first
//! one.
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use wavenet_engine::stream::{Pace, StreamOptions, start};
use wavenet_engine::synth::{Event, EventKind};
use wavenet_tests::system_calls::forbid_system_calls;
use wavenet_tests::{live_renderer, tiny_config};

const BLOCK: usize = 256;
const BLOCKS: u32 = 200;

#[test]
fn processing_makes_no_system_call() {
    let options = StreamOptions { max_block_frames: BLOCK, margin_frames: 4_800 };
    let (mut player, controls) = start(live_renderer(tiny_config(), 48_000), options).unwrap();
    // Blocks done; and the last sample's bits, so that the work is not for nothing.
    let done = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    let report = Arc::clone(&done);
    std::thread::spawn(move || {
        let kind = EventKind::NoteOn { channel: 0, key: 67, velocity: 90 };
        let off = EventKind::NoteOff { channel: 0, key: 67 };
        let events = [Event { frame: 5, kind }, Event { frame: 200, kind: off }];
        let mut out = [0.0; BLOCK];
        forbid_system_calls();
        for block in 0..BLOCKS {
            player.process(&events, &mut out, Pace::Realtime);
            if block % 64 == 63 {
                player.reset();
            }
            report[1].fetch_max(out[BLOCK - 1].abs().to_bits(), Ordering::Relaxed);
            report[0].fetch_add(1, Ordering::Release);
            // A block of a clock: 5.3 ms, waited for without asking the system.
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(5_333) {
                std::hint::spin_loop();
            }
        }
        // Ending would take system calls.
        loop {
            std::hint::spin_loop();
        }
    });
    let began = Instant::now();
    while done[0].load(Ordering::Acquire) < BLOCKS {
        assert!(began.elapsed() < Duration::from_secs(60), "the thread hangs");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(f32::from_bits(done[1].load(Ordering::Relaxed)) > 0.0, "it was silent");
    assert_eq!(controls.status().dropped_events, 0);
}
