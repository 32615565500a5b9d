//! What is called real-time safe allocates and frees nothing: counted by an allocator of our own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use wavenet_engine::stream::{Pace, StreamOptions, start};
use wavenet_engine::synth::{Event, EventKind, Settings, Synth};
use wavenet_engine::{Config, NoteRecipe, Recipe, Sampling, State};
use wavenet_tests::{live_renderer, lively_weights, pack};

thread_local! {
    /// Calls of this thread; the test runner's other threads do not count.
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    // A thread that is ending has no counter any more, and nothing to count.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call is handed on to the system's allocator as it came; counting touches a
// thread-local cell that needs no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller keeps the promises of `dealloc`; the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `realloc`; the pointer came from `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Allocations and frees of this thread while `work` runs.
fn calls(work: impl FnOnce()) -> usize {
    let before = CALLS.get();
    work();
    CALLS.get() - before
}

fn config() -> Config {
    Config {
        residual_channels: 12,
        gate_channels: 12,
        skip_channels: 20,
        end_channels: 20,
        dilations: vec![1, 2, 4, 8],
        classes: vec!["a".into(), "b".into()],
        conditioning: Recipe::Note(NoteRecipe::default()),
        ..Config::default()
    }
}

#[test]
fn the_counter_counts() {
    assert!(calls(|| drop(std::hint::black_box(vec![1_u8; 100]))) >= 2);
    assert_eq!(calls(|| {}), 0);
}

#[test]
fn stepping_and_picking_allocate_nothing() {
    let weights = lively_weights(config(), 1);
    let packed = pack(&weights);
    let mut state = State::new(&packed, 2);
    let h = vec![0.5; 2 * weights.config().conditioning_channels()];
    let mut logits = vec![0.0; 2 * weights.config().levels];
    let samplings = [(1.0, 1.0), (0.0, 1.0), (0.7, 0.5)]
        .map(|(temperature, top_p)| Sampling { temperature, top_p });
    let count = calls(|| {
        for t in 0..200 {
            packed.step(&mut state, &[1, 0], &[t, 128], &h, &mut logits);
            for sampling in samplings {
                std::hint::black_box(packed.pick(&logits[..256], sampling, u32::from(t) << 20));
            }
        }
        state.reset(&packed, 1);
    });
    assert_eq!(count, 0);
}

#[test]
fn rendering_notes_allocates_nothing() {
    let weights = lively_weights(config(), 2);
    let settings = Settings { voices: 3, class: 1, release_ms: 10.0, ..Settings::default() };
    let mut synth = Synth::new(pack(&weights), settings).unwrap();
    let on =
        |frame, key| Event { frame, kind: EventKind::NoteOn { channel: 0, key, velocity: 80 } };
    let off = |frame, key| Event { frame, kind: EventKind::NoteOff { channel: 0, key } };
    // Four notes for three voices: one is stolen. Two are released, one of them begins again.
    let events = [on(0, 60), on(10, 64), on(20, 67), on(300, 72), off(400, 64), on(500, 64)];
    let mut out = vec![0.0; 1000];
    assert_eq!(calls(|| synth.render(&events, &mut out)), 0);
    assert!(out.iter().any(|&sample| sample != 0.0));

    let drone = Config { conditioning: Recipe::None, ..config() };
    let mut synth = Synth::new(pack(&lively_weights(drone, 3)), Settings::default()).unwrap();
    let events = [Event { frame: 5, kind: EventKind::Drone }];
    assert_eq!(calls(|| synth.render(&events, &mut out)), 0);
}

#[test]
fn the_audio_thread_allocates_nothing() {
    let options = StreamOptions { max_block_frames: 128, margin_frames: 960 };
    let (mut player, controls) = start(live_renderer(config(), 48_000), options).unwrap();
    let kind = EventKind::NoteOn { channel: 0, key: 60, velocity: 80 };
    let events = [Event { frame: 3, kind }, Event { frame: 90, kind }];
    let mut out = vec![0.0; 500];
    let mut heard = false;
    for round in 0..40 {
        let count = calls(|| {
            player.process(&events, &mut out, Pace::Offline);
            player.process(&[], &mut out[..100], Pace::Realtime);
            if round % 8 == 7 {
                player.reset();
            }
        });
        assert_eq!(count, 0);
        heard |= out.iter().any(|&sample| sample != 0.0);
    }
    // And with nothing left to play from.
    drop(controls);
    assert_eq!(calls(|| player.process(&events, &mut out, Pace::Realtime)), 0);
    assert!(heard);
}
