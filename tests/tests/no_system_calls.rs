//! The audio thread makes no system call: it runs under a filter that ends the process at the first
//! one.
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use wavenet_engine::stream::{Pace, StreamOptions, start};
use wavenet_engine::synth::{Event, EventKind};
use wavenet_tests::host::{Happening, Host};
use wavenet_tests::system_calls::forbid_system_calls;
use wavenet_tests::{live_renderer, tiny_config};

const BLOCK: usize = 256;
const BLOCKS: u32 = 200;

/// Blocks at the pace of a clock, for ever: ending would take system calls.
fn play(report: &[AtomicU32; 2], mut block: impl FnMut(u32) -> f32) -> ! {
    for number in 0..BLOCKS {
        let began = Instant::now();
        let last = block(number);
        report[1].fetch_max(last.abs().to_bits(), Ordering::Relaxed);
        report[0].fetch_add(1, Ordering::Release);
        // A block lasts 5.3 ms, waited for without asking the system.
        while began.elapsed() < Duration::from_micros(5_333) {
            std::hint::spin_loop();
        }
    }
    loop {
        std::thread::yield_now();
    }
}

/// Waits until the blocks are done, and something was heard.
fn wait_for(done: &[AtomicU32; 2]) {
    let began = Instant::now();
    while done[0].load(Ordering::Acquire) < BLOCKS {
        assert!(began.elapsed() < Duration::from_secs(60), "the thread hangs");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(f32::from_bits(done[1].load(Ordering::Relaxed)) > 0.0, "it was silent");
}

#[test]
fn nor_does_the_plugin_in_a_host() {
    let mut host = Host::default();
    host.activate(48_000.0, BLOCK);
    let (hot, cold) = (host.set("Temperature", "1.2"), host.set("Temperature", "0.2"));
    let mut audio = host.take_audio();
    let done = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    let report = Arc::clone(&done);
    std::thread::spawn(move || {
        let events = [
            (5, Happening::on(67, 90)),
            (9, hot),
            (77, Happening::Midi([0xe0, 0, 0x50])),
            (200, Happening::off(67)),
            (210, cold),
        ];
        // Its thread-locals and lists are made by a first block.
        audio.process(&events, BLOCK);
        forbid_system_calls();
        play(&report, |block| {
            let last = audio.process(&events, BLOCK)[BLOCK - 1];
            match block % 64 {
                21 => audio.reset(),
                42 => audio.flush(&[]),
                63 => {
                    audio.stop();
                    audio.start();
                }
                _ => {}
            }
            last
        });
    });
    wait_for(&done);
    // Its audio thread is never given back, so the instance is not either.
    std::mem::forget(host);
}

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
        play(&report, |block| {
            player.process(&events, &mut out, Pace::Realtime);
            if block % 64 == 63 {
                player.reset();
            }
            out[BLOCK - 1]
        });
    });
    wait_for(&done);
    assert_eq!(controls.status().dropped_events, 0);
}
