//! Live equals bounced, whatever the blocks; and what goes wrong goes wrong softly.

use std::sync::OnceLock;
use std::time::Instant;

use super::*;
use crate::config::{Config, Dtype};
use crate::kernels::{Isa, Packed};
use crate::synth::{Event, Parameter, Settings, Synth};
use crate::weights::Weights;

const RATE: u32 = 48_000;
const OPTIONS: StreamOptions = StreamOptions { max_block_frames: 256, margin_frames: 480 };

fn renderer(seed: u64) -> Renderer {
    let packed =
        Packed::new(&Weights::random(Config::tiny(), seed).unwrap(), Dtype::F32, Isa::Auto);
    let synth = Synth::new(packed.unwrap(), Settings::default()).unwrap();
    Renderer::new(synth, RATE).unwrap()
}

fn events() -> Vec<Event> {
    let on =
        |frame, key| Event { frame, kind: EventKind::NoteOn { channel: 0, key, velocity: 99 } };
    let off = |frame, key| Event { frame, kind: EventKind::NoteOff { channel: 0, key } };
    let cool = Event { frame: 5_001, kind: EventKind::Set(Parameter::Temperature(0.5)) };
    vec![on(0, 60), on(777, 64), off(4_000, 60), cool, on(9_000, 67), off(12_345, 64)]
}

/// The piece as a file would have it.
fn bounced(frames: usize) -> Vec<f32> {
    let mut renderer = renderer(3);
    events().into_iter().for_each(|event| renderer.push(event));
    let mut out = vec![0.0; frames];
    renderer.render(&mut out);
    out
}

/// Calls the player in blocks, as a host does.
fn play(player: &mut Player, frames: usize, block: usize, pace: Pace) -> Vec<f32> {
    let mut out = vec![0.0; frames];
    for (index, out) in out.chunks_mut(block).enumerate() {
        let start = (index * block) as u64;
        let in_block = |event: &Event| (start..start + out.len() as u64).contains(&event.frame);
        let events: Vec<Event> = events()
            .into_iter()
            .filter(in_block)
            .map(|event| Event { frame: event.frame - start, ..event })
            .collect();
        player.process(&events, out, pace);
    }
    out
}

/// A clock that stands still.
fn no_time() -> Instant {
    static NOW: OnceLock<Instant> = OnceLock::new();
    *NOW.get_or_init(Instant::now)
}

/// A clock that leaps, so that a host never seems to hurry.
fn much_time() -> Instant {
    static SECONDS: AtomicU64 = AtomicU64::new(0);
    no_time() + Duration::from_secs(SECONDS.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn live_is_the_bounce_one_latency_later() {
    let expected = bounced(16_000);
    // The second host says that it plays and renders as fast as it can.
    for pace in [Pace::Offline, Pace::Realtime] {
        for block in [1, 64, 256, 333, 4096] {
            let (mut player, controls) = start(renderer(3), OPTIONS).unwrap();
            // A host so fast that no time passes, however busy the machine is.
            player.now = no_time;
            let latency = player.latency_frames();
            let out = play(&mut player, 16_000 + latency, block, pace);
            assert!(out[..latency].iter().all(|&x| x == 0.0));
            assert!(out[latency..] == expected, "{pace:?}, block {block}");
            assert_eq!(controls.status().underruns, 0);
        }
    }
}

#[test]
fn a_generator_that_ends_is_silence_that_is_counted() {
    let (mut player, controls) = start(renderer(3), OPTIONS).unwrap();
    let drone = [Event { frame: 0, kind: EventKind::Drone }];
    let mut out = vec![0.0; 4_000];
    player.process(&drone, &mut out, Pace::Offline);
    let shared = Arc::clone(&controls.shared);
    drop(controls);
    let mut rest = vec![1.0; 4_000];
    player.process(&[], &mut rest, Pace::Realtime);
    assert_eq!(rest[3_999], 0.0);
    assert!(rest.iter().all(|x| x.is_finite()));
    assert_eq!(shared.underruns.load(Ordering::Relaxed), 1);
    assert!(shared.missing_frames.load(Ordering::Relaxed) > 1_000);
    assert_eq!(player.sounding(), 0, "a host would wait for it to end");
}

#[test]
fn a_host_that_begins_to_render_is_not_told_to_hear_what_it_missed() {
    let (mut player, controls) = start(renderer(3), OPTIONS).unwrap();
    player.now = much_time;
    let drone = [Event { frame: 0, kind: EventKind::Drone }];
    let mut missed = vec![0.0; 100 * 256];
    for (index, out) in missed.chunks_mut(256).enumerate() {
        player.process(if index == 0 { &drone } else { &[] }, out, Pace::Realtime);
    }
    let before = controls.status();
    assert!(before.missing_frames > 2_000, "more than the ring holds");
    let mut out = vec![0.0; 4_000];
    player.process(&[], &mut out, Pace::Offline);
    assert_eq!(controls.status().missing_frames, before.missing_frames);
    // The time line stayed.
    let mut bounced = vec![0.0; missed.len() + out.len() - player.latency_frames()];
    let mut whole = renderer(3);
    drone.into_iter().for_each(|event| whole.push(event));
    whole.render(&mut bounced);
    assert!(out[1_000..] == bounced[bounced.len() - 3_000..]);
}

#[test]
fn a_panic_in_the_generator_is_noticed() {
    let (mut player, controls) = start(renderer(3), OPTIONS).unwrap();
    controls.messages.send(Message::Panic).unwrap();
    let mut out = vec![1.0; 4_000];
    player.process(&[], &mut out, Pace::Offline);
    assert!(controls.status().dead);
    assert!(out.iter().all(|x| x.is_finite() && x.abs() <= 1.0));
}

#[test]
fn a_reset_silences_what_was_and_only_once() {
    let (mut player, _controls) = start(renderer(3), OPTIONS).unwrap();
    let on = [Event { frame: 0, kind: EventKind::Drone }];
    let mut out = vec![0.0; 8_000];
    player.reset();
    player.process(&on, &mut out, Pace::Offline);
    assert!(out[4_000..].iter().any(|&x| x != 0.0));
    player.reset();
    player.reset();
    let latency = player.latency_frames();
    player.process(&[], &mut out, Pace::Offline);
    assert!(out.iter().all(|&x| x == 0.0), "sound from before the reset");
    // Some hosts reset at every start: a note right after it must sound.
    player.reset();
    player.process(&on, &mut out, Pace::Offline);
    assert!(out[..latency].iter().all(|&x| x == 0.0));
    assert!(out[latency..latency + 1_000].iter().any(|&x| x != 0.0));
}

#[test]
fn a_reset_finds_its_way_past_any_number_of_events() {
    let (mut player, controls) = start(renderer(3), OPTIONS).unwrap();
    let mut out = vec![1.0; 8_000];
    // More than there is room for, and faster than they can be taken.
    let drones = vec![Event { frame: 255, kind: EventKind::Drone }; 20_000];
    player.process(&drones, &mut out[..256], Pace::Realtime);
    player.reset();
    player.process(&[], &mut out, Pace::Offline);
    assert!(out.iter().all(|&x| x == 0.0), "sound from before the reset");
    assert_eq!(controls.status().sounding, 0);
}

#[test]
fn what_was_dropped_stays_counted_when_another_model_comes() {
    let (mut player, controls) = start(renderer(3), OPTIONS).unwrap();
    for _ in 0..70_000 {
        while !controls.send(EventKind::AllNotesOff) {
            std::thread::yield_now();
        }
    }
    let mut out = vec![1.0; 8_000];
    player.process(&[], &mut out, Pace::Offline);
    let before = controls.status().dropped_events;
    assert!(before > 0);
    controls.load(renderer(4)).unwrap();
    player.process(&[], &mut out, Pace::Offline);
    assert_eq!(controls.status().dropped_events, before);
}

#[test]
fn another_model_comes_without_a_click_and_loses_no_event() {
    let (mut player, controls) = start(renderer(3), OPTIONS).unwrap();
    let drone = |frame| [Event { frame, kind: EventKind::Drone }];
    let mut out = vec![0.0; 8_000];
    player.process(&drone(0), &mut out, Pace::Offline);
    // Loaded while the host stands still; what is asked for right after belongs to the new model.
    controls.load(renderer(4)).unwrap();
    assert!(controls.send(EventKind::Drone));
    let mut after = vec![0.0; 24_000];
    player.process(&[], &mut after, Pace::Offline);
    assert!(after[12_000..].iter().any(|&x| x != 0.0), "the event after the load was lost");
    assert_eq!(controls.status().underruns, 0);

    // A note of the host that was under way when the load came is played by the new model too.
    let (mut player, controls) = start(renderer(3), OPTIONS).unwrap();
    player.process(&[], &mut out, Pace::Offline);
    controls.load(renderer(4)).unwrap();
    player.process(&drone(255), &mut out[..256], Pace::Offline);
    player.process(&[], &mut after, Pace::Offline);
    assert!(after[12_000..].iter().any(|&x| x != 0.0), "the host's event was lost");
}

#[test]
fn a_reset_also_silences_a_model_that_fades() {
    let (mut player, controls) = start(renderer(3), OPTIONS).unwrap();
    let mut out = vec![0.0; 8_000];
    player.process(&[Event { frame: 0, kind: EventKind::Drone }], &mut out, Pace::Offline);
    // The generator has caught up, so that the fade begins where the reset is.
    std::thread::sleep(Duration::from_millis(50));
    controls.load(renderer(4)).unwrap();
    player.reset();
    player.process(&[], &mut out, Pace::Offline);
    assert!(out.iter().all(|&x| x == 0.0), "loaded before the reset");
}

#[test]
fn of_two_models_loaded_before_the_next_block_the_last_is_heard_from_its_first_frame() {
    let on = [Event { frame: 0, kind: EventKind::NoteOn { channel: 0, key: 60, velocity: 99 } }];
    let bounce = |loads: &[u64]| {
        let (mut player, controls) = start(renderer(3), OPTIONS).unwrap();
        let mut out = vec![0.0; 12_000];
        player.process(&[], &mut out, Pace::Offline);
        // The generator has caught up: what is loaded begins where it stands.
        std::thread::sleep(Duration::from_millis(200));
        loads.iter().for_each(|&seed| controls.load(renderer(seed)).unwrap());
        std::thread::sleep(Duration::from_millis(200));
        player.process(&on, &mut out, Pace::Offline);
        let first = out.clone();
        player.process(&[], &mut out, Pace::Offline);
        [first, out].concat()
    };
    let expected = bounce(&[5]);
    assert!(expected.iter().any(|&x| x != 0.0));
    assert!(bounce(&[4, 5]) == expected);
}

#[test]
fn a_device_that_is_lost_while_playing_is_told_and_changes_no_sample() {
    let weights = Weights::random(Config::tiny(), 3).unwrap();
    let lanes = crate::cuda::tests::failing_lanes(&weights, Settings::default().voices);
    let synth = Synth::on_lanes(lanes, Settings::default()).unwrap();
    let (mut player, controls) = start(Renderer::new(synth, RATE).unwrap(), OPTIONS).unwrap();
    player.now = no_time;
    assert_eq!(controls.loss(), None);
    let latency = player.latency_frames();
    let out = play(&mut player, 16_000 + latency, 333, Pace::Offline);
    assert!(out[latency..] == bounced(16_000));
    assert!(controls.loss().is_some());
}

#[test]
fn messages_keep_their_order() {
    let (mut player, controls) = start(renderer(3), OPTIONS).unwrap();
    let on = EventKind::NoteOn { channel: 0, key: 60, velocity: 99 };
    assert!(controls.send(on) && controls.send(EventKind::NoteOff { channel: 0, key: 60 }));
    let mut out = vec![0.0; 24_000];
    player.process(&[], &mut out, Pace::Offline);
    assert_eq!(controls.status().sounding, 0, "the note hangs");
    assert!(out.iter().any(|&x| x != 0.0));
}

#[test]
fn the_status_tells_the_peak_since_the_last_look_and_what_is_left() {
    let (mut player, controls) = start(renderer(3), OPTIONS).unwrap();
    let latency = player.latency_frames();
    assert_eq!((controls.status().peak, controls.status().fill_frames), (0.0, 0));
    let mut out = vec![0.0; latency];
    let drone = [Event { frame: 0, kind: EventKind::Drone }];
    player.process(&drone, &mut out, Pace::Offline);
    player.process(&[], &mut out, Pace::Offline);
    let loudest = out.iter().fold(0.0, |peak: f32, x| peak.max(x.abs()));
    let status = controls.status();
    assert!(loudest > 0.0 && status.peak == loudest, "{} {loudest}", status.peak);
    assert!(status.fill_frames as usize <= latency);
    assert_eq!(controls.status().peak, 0.0);
}

#[test]
fn sizes_out_of_range_are_refused() {
    let options = StreamOptions { max_block_frames: 0, ..OPTIONS };
    assert!(start(renderer(3), options).is_err());
}
