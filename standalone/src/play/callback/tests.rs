//! What a device gets is what a render writes, whatever its blocks, channels and format.

use super::*;
use wavenet_engine::kernels::Isa;
use wavenet_engine::renderer::Renderer;
use wavenet_engine::stream::{Controls, StreamOptions, start};
use wavenet_engine::synth::{Settings, Synth};
use wavenet_engine::{Config, Dtype, Packed, Weights};

const RATE: u32 = 44_100;
const MAX_BLOCK: usize = 256;
const FRAMES: u64 = 9_000;

fn renderer() -> Renderer {
    let config = Config {
        residual_channels: 4,
        gate_channels: 4,
        skip_channels: 8,
        end_channels: 8,
        dilations: vec![1, 2, 4],
        ..Config::default()
    };
    let packed = Packed::new(&Weights::random(config, 3).unwrap(), Dtype::F32, Isa::Auto);
    let synth = Synth::new(packed.unwrap(), Settings::default()).unwrap();
    Renderer::new(synth, RATE).unwrap()
}

/// Keys struck and let go, more of them than one batch holds.
fn events() -> Vec<Event> {
    let key = |index: u64| (40 + index % 50) as u8;
    let on = |index| EventKind::NoteOn { channel: 0, key: key(index), velocity: 90 };
    let off = |index| EventKind::NoteOff { channel: 0, key: key(index) };
    let crowd = (0..700).map(|index| Event {
        frame: 300 + index / 100,
        kind: if index % 2 == 0 { on(index / 2) } else { off(index / 2) },
    });
    let later = (0..40).map(|index| Event { frame: 1_000 + 77 * index, kind: on(index) });
    crowd.chain(later).collect()
}

fn rendered(from: u64) -> Vec<f32> {
    let mut renderer = renderer();
    for event in events().into_iter().filter(|event| event.frame >= from) {
        renderer.push(Event { frame: event.frame - from, ..event });
    }
    let mut out = vec![0.0; (FRAMES - from) as usize];
    renderer.render(&mut out);
    out
}

fn deck(origin: u64) -> (Deck, Controls, Live, Arc<Meters>) {
    deck_until(origin, FRAMES)
}

fn deck_until(origin: u64, end: u64) -> (Deck, Controls, Live, Arc<Meters>) {
    let options = StreamOptions { max_block_frames: MAX_BLOCK, margin_frames: 2_000 };
    let (player, controls) = start(renderer(), options).unwrap();
    let (live, meters) = (Live::default(), Arc::new(Meters::default()));
    let piece = Piece::once(events());
    let meters_too = Arc::clone(&meters);
    let deck = Deck::new(player, piece, live.clone(), meters_too, (origin, end), MAX_BLOCK);
    (deck, controls, live, meters)
}

#[test]
fn a_device_gets_the_render_one_latency_later_on_every_channel() {
    for (block, channels, origin) in [(64, 1, 0), (256, 2, 0), (1_000, 3, 0), (256, 2, 500)] {
        let (mut deck, controls, _, meters) = deck(origin);
        let latency = deck.latency_frames();
        let expected = rendered(origin);
        let mut heard = Vec::new();
        while heard.len() < (expected.len() + latency + 500) * channels {
            let mut out = vec![1.0_f32; block * channels];
            // The engine waits for a host so fast: no pace is needed.
            deck.fill(&mut out, channels);
            heard.extend(out);
        }
        assert_eq!(controls.status().underruns, 0);
        assert_eq!(controls.status().dropped_events, 0);
        for channel in 0..channels {
            let heard: Vec<f32> = heard.iter().skip(channel).step_by(channels).copied().collect();
            assert!(heard[..latency].iter().all(|&x| x == 0.0));
            let after = latency + expected.len();
            assert!(heard[latency..after] == expected, "block {block}, channel {channel}");
            assert!(heard[after..].iter().all(|&x| x == 0.0), "something after the end");
        }
        assert!(meters.finished.load(Ordering::Acquire));
        assert_eq!(meters.frames.load(Ordering::Relaxed), FRAMES);
    }
}

#[test]
fn live_events_sound_without_end() {
    let (mut deck, _controls, live, meters) = deck_until(FRAMES, u64::MAX);
    live.send(EventKind::Drone);
    let mut out = vec![0.0_f32; 20_000];
    deck.fill(&mut out, 1);
    assert!(out[15_000..].iter().any(|&sample| sample != 0.0));
    assert!(!meters.finished.load(Ordering::Acquire));
}

#[test]
fn whole_numbers_are_the_same_sound() {
    let expected = rendered(0);
    let (mut deck, _controls, ..) = deck(0);
    let latency = deck.latency_frames();
    let mut out = vec![0_u16; latency + expected.len()];
    deck.fill(&mut out, 1);
    assert!(out[..latency].iter().all(|&sample| sample == 1 << 15));
    for (&sample, expected) in out[latency..].iter().zip(expected) {
        let sample = (f32::from(sample) - 32_768.0) / 32_768.0;
        assert!((sample - expected).abs() <= 1.0 / 32_768.0);
    }
}

#[test]
fn the_seat_needs_no_lock() {
    assert!(AtomicCell::<Option<Box<Deck>>>::is_lock_free());
}

#[test]
fn live_events_that_find_no_room_are_counted() {
    let live = Live::default();
    for _ in 0..MAX_LIVE + 3 {
        live.send(EventKind::Drone);
    }
    assert_eq!(live.dropped(), 3);
    live.forget_notes();
    live.send(EventKind::AllNotesOff);
    assert_eq!(live.dropped(), 3);
}

#[test]
fn while_a_device_is_gone_notes_are_forgotten_but_not_their_ends() {
    let live = Live::default();
    let off = EventKind::NoteOff { channel: 0, key: 60 };
    let up = EventKind::Pedal { channel: 0, down: false };
    for kind in [EventKind::NoteOn { channel: 0, key: 64, velocity: 9 }, off, up] {
        live.send(kind);
    }
    live.forget_notes();
    assert_eq!([live.queue.pop(), live.queue.pop(), live.queue.pop()], [Some(off), Some(up), None]);
}
