//! What the plugin plays is what the engine makes, one constant latency later, however a host cuts it
//! into blocks.

use std::path::Path;

use wavenet_engine::synth::{Event, EventKind, Synth};
use wavenet_tests::host::{Happening, Host, bundled_entry, linked_entry};
use wavenet_tests::pack;

use crate::{chords, defaults, expected, peak, piano, small, small_file, state_of, together};

const BLOCKS: [usize; 4] = [1, 64, 333, 4096];

/// A bounce with the plugin's own piano, in blocks, on a fresh activation.
fn bounce(host: &mut Host, rate_hz: u32, block: usize, frames: usize) -> Vec<f32> {
    host.set_offline(true);
    host.activate(f64::from(rate_hz), block);
    host.bounce(&chords(rate_hz), frames, block)
}

fn the_piano_is_the_engines(mut host: Host) {
    let piano = piano();
    for rate in [44_100, 48_000, 96_000] {
        let frames = rate as usize / 8;
        let expected = expected(&piano, defaults(), rate, &chords(rate), frames);
        assert!(peak(&expected) > 0.01);
        for block in BLOCKS {
            let out = bounce(&mut host, rate, block, frames);
            assert!(out == expected, "{rate} Hz, block {block}");
        }
    }
}

#[test]
fn a_bounce_is_the_engines_render_at_any_rate_and_block() {
    let _together = together();
    the_piano_is_the_engines(Host::new(&linked_entry()));
}

#[test]
fn so_is_one_of_the_bundle_on_disk() {
    let _together = together();
    let Some(folder) = std::env::var_os("WAVENET_BUNDLES") else {
        eprintln!("skipped: WAVENET_BUNDLES names no folder with WaveNet.clap");
        return;
    };
    the_piano_is_the_engines(Host::new(&bundled_entry(&Path::new(&folder).join("WaveNet.clap"))));
}

#[test]
fn an_onset_is_heard_at_its_frame_plus_the_latency() {
    let _together = together();
    let (_folder, path) = small_file(5);
    // What the model makes of the note, from its first sample, at its own rate.
    let weights = small(5);
    let mut synth = Synth::new(pack(&weights), defaults()).unwrap();
    let model_hz = f64::from(synth.sample_rate_hz());
    let mut note = vec![0.0; 1_000];
    let kind = EventKind::NoteOn { channel: 0, key: 60, velocity: 127 };
    synth.render(&[Event { frame: 0, kind }], &mut note);
    for (rate, at) in [(44_100.0, 5_001), (48_000.0, 7_777), (96_000.0, 4_098), (16_000.0, 3_000)] {
        let mut host = Host::default();
        assert!(host.load(&state_of(Some(&path), serde_json::json!({}))));
        host.set_offline(true);
        host.activate(rate, 256);
        let latency = host.latency();
        let phrase = [(at, Happening::on(60, 127))];
        let out = host.audio().play(&phrase, 30_000, 256);
        // Where in the output is that? Tried from 20 samples of the model too early to 20 too late, in
        // frames of the host.
        let step = rate / model_hz;
        let likeness = |shift: i64| -> f64 {
            let place = |n: usize| at as i64 + latency as i64 + shift + (n as f64 * step) as i64;
            let products = note
                .iter()
                .enumerate()
                .map(|(n, x)| f64::from(*x) * f64::from(out[place(n) as usize]));
            products.sum()
        };
        let widest = (20.0 * step) as i64;
        let found = (-widest..=widest).max_by(|a, b| likeness(*a).total_cmp(&likeness(*b)));
        let found = found.unwrap();
        assert!(found.abs() as f64 <= step, "{rate} Hz: {found} frames off");
        // The resampler rings a little ahead, half its length.
        let before = at as usize + latency - (33.0 * step) as usize;
        assert_eq!(peak(&out[..before]), 0.0, "{rate} Hz");
    }
}

#[test]
fn automation_lands_on_its_frame() {
    let _together = together();
    let (_folder, path) = small_file(5);
    let state = state_of(Some(&path), serde_json::json!({}));
    let mut host = Host::default();
    host.set_offline(true);
    for (name, text) in [("Gain", "-12"), ("Temperature", "0"), ("Release", "500"), ("Seed", "9")] {
        assert!(host.load(&state));
        let change = host.set(name, text);
        let phrase = |change: &[(u64, Happening)]| {
            let mut phrase = vec![(10, Happening::on(60, 100)), (990, Happening::on(64, 100))];
            phrase.extend_from_slice(change);
            phrase.push((1_000, Happening::on(67, 100)));
            phrase.push((1_200, Happening::off(60)));
            phrase
        };
        host.activate(48_000.0, 4096);
        let without = host.bounce(&phrase(&[]), 9_000, 4096);
        let sounds = [64, 333, 4096].map(|block| {
            assert!(host.load(&state));
            host.activate(48_000.0, 4096);
            host.bounce(&phrase(&[(1_000, change)]), 9_000, block)
        });
        assert!(sounds[0] == sounds[1] && sounds[1] == sounds[2], "{name} moves with the block");
        assert!(sounds[0] != without, "{name} changes nothing");
        // The resampler's filter reaches 96 frames back.
        assert!(sounds[0][..900] == without[..900], "{name} comes too early");
        // A state that is saved has the value that was played last.
        assert!(host.shown(name).starts_with(text), "{name}: {}", host.shown(name));
    }
}

#[test]
fn parameters_can_be_flushed_while_active_and_while_not() {
    let _together = together();
    let (_folder, path) = small_file(5);
    let weights = small(5);
    let phrase = chords(48_000);
    let mut settings = defaults();
    settings.seed = 77;
    settings.release_ms = 20.0;
    let expected = expected(&weights, settings, 48_000, &phrase, 12_000);
    for active in [false, true] {
        let mut host = Host::default();
        assert!(host.load(&state_of(Some(&path), serde_json::json!({}))));
        host.set_offline(true);
        let changes = [host.set("Seed", "77"), host.set("Release", "20")];
        if active {
            host.activate(48_000.0, 512);
            host.flush(&changes);
        } else {
            host.flush(&changes);
            host.activate(48_000.0, 512);
        }
        assert!(host.bounce(&phrase, 12_000, 512) == expected, "active: {active}");
    }
}

#[test]
fn a_reset_is_silence_and_a_fresh_start() {
    let _together = together();
    let (_folder, path) = small_file(5);
    let mut host = Host::default();
    assert!(host.load(&state_of(Some(&path), serde_json::json!({}))));
    host.set_offline(true);
    // At the model's rate, so that both beginnings lie on a sample of the model.
    host.activate(16_000.0, 256);
    let latency = host.latency();
    let phrase = [(0, Happening::on(60, 100)), (100, Happening::on(67, 100))];
    let first = host.audio().play(&phrase, 4_096, 256);
    assert!(peak(&first[3_000..]) > 0.0, "the notes are not held");
    host.audio().reset();
    let rest = host.audio().play(&[], 8_192, 256);
    assert_eq!(peak(&rest), 0.0, "heard after the reset");
    host.audio().reset();
    host.audio().reset();
    let again = host.audio().play(&phrase, 4_096, 256);
    assert!(again[latency..] == first[latency..]);
}

#[test]
fn a_host_that_starts_and_stops_for_each_block_hears_its_notes() {
    let _together = together();
    let (_folder, path) = small_file(5);
    let weights = small(5);
    let phrase = chords(48_000);
    let expected = expected(&weights, defaults(), 48_000, &phrase, 12_000);
    let mut host = Host::default();
    assert!(host.load(&state_of(Some(&path), serde_json::json!({}))));
    host.set_offline(true);
    host.activate(48_000.0, 256);
    let latency = host.latency();
    host.audio().stop();
    let mut out: Vec<f32> = Vec::new();
    while out.len() < latency + 12_000 {
        let start = out.len() as u64;
        let block: Vec<(u64, Happening)> = phrase
            .iter()
            .filter(|(frame, _)| (start..start + 256).contains(frame))
            .map(|&(frame, happening)| (frame - start, happening))
            .collect();
        host.audio().start();
        out.extend(host.audio().play(&block, 256, 256));
        host.audio().stop();
    }
    assert!(out[latency..latency + 12_000] == expected);
    // One that stopped after a while is silent when it starts again.
    host.audio().start();
    host.audio().play(&[(0, Happening::on(60, 100))], 10_000, 256);
    host.audio().stop();
    host.audio().start();
    assert_eq!(peak(&host.audio().play(&[], 10_000, 256)), 0.0);
}
