//! What is called real-time safe allocates and frees nothing: counted by an allocator of our own.

use wavenet_engine::stream::{Pace, StreamOptions, start};
use wavenet_engine::synth::{Event, EventKind, Parameter, Settings, Synth};
use wavenet_engine::{Config, NoteRecipe, Recipe, Sampling, State};
use wavenet_tests::counting::{Counting, calls};
use wavenet_tests::{live_renderer, lively_weights, pack, tiny_config};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A model with everything: notes and classes.
fn config() -> Config {
    Config {
        classes: vec!["a".into(), "b".into()],
        conditioning: Recipe::Note(NoteRecipe::default()),
        ..tiny_config()
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
fn stepping_with_a_second_thread_allocates_nothing() {
    let weights = lively_weights(config(), 1);
    let packed = pack(&weights);
    let mut state = State::new(&packed, 2);
    state.start_helper(&packed).unwrap();
    let h = vec![0.5; 2 * weights.config().conditioning_channels()];
    let mut logits = vec![0.0; 2 * weights.config().levels];
    let count = calls(|| {
        for t in 0..5_000_u32 {
            packed.step(&mut state, &[1, 0], &[t as u8, 128], &h, &mut logits);
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

/// All that can happen to a synth, several times over, within a block of 6,000 frames.
fn everything() -> Vec<Event> {
    let parameters = [
        Parameter::Temperature(0.5),
        Parameter::TopP(0.9),
        Parameter::Seed(4),
        Parameter::Class(1),
        Parameter::AttackMs(3.0),
        Parameter::DecayMs(5.0),
        Parameter::Sustain(0.8),
        Parameter::ReleaseMs(20.0),
        Parameter::GainDb(-3.0),
        Parameter::GainDb(f32::NAN),
        Parameter::Voices(2),
    ];
    let on = |key| EventKind::NoteOn { channel: 0, key, velocity: 80 };
    let mut kinds = vec![on(60), on(95), on(20), on(67), EventKind::Drone];
    kinds.push(EventKind::Pedal { channel: 0, down: true });
    kinds.push(EventKind::NoteOff { channel: 0, key: 95 });
    kinds.push(EventKind::Choke { channel: 0, key: 67 });
    kinds.extend([0.3, 47.0, f32::NAN].map(|semitones| EventKind::Bend { channel: 0, semitones }));
    kinds.extend(parameters.map(EventKind::Set));
    kinds.push(EventKind::Pedal { channel: 0, down: false });
    kinds.extend([on(60), EventKind::AllNotesOff, on(61), EventKind::Reset, on(62)]);
    let twice = kinds.iter().chain(&kinds).copied().enumerate();
    twice.map(|(index, kind)| Event { frame: 100 * index as u64, kind }).collect()
}

#[test]
fn nothing_that_can_happen_to_a_synth_allocates() {
    let events = everything();
    assert!(events.last().is_some_and(|event| event.frame < 6_000));
    let tape = Config { conditioning: Recipe::None, ..config() };
    for config in [config(), tape] {
        let settings = Settings { voices: 3, ..Settings::default() };
        let mut synth = Synth::new(pack(&lively_weights(config, 4)), settings).unwrap();
        let mut out = vec![0.0; 6_000];
        assert_eq!(calls(|| synth.render(&events, &mut out)), 0);
        assert!(out[..2_000].iter().any(|&sample| sample != 0.0));
        assert!(synth.sounding() > 0);
    }
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
