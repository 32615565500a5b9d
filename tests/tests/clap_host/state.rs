//! A project that is saved and opened again sounds the same; one that is damaged does no harm.

use proptest::prelude::*;
use wavenet_tests::host::{Happening, Host};

use crate::{
    chords, defaults, expected, framed, peak, piano, small, small_file, state_of, together,
};

const RATE: u32 = 48_000;
const FRAMES: usize = 12_000;

/// A bounce on a fresh activation.
fn bounce(host: &mut Host) -> Vec<f32> {
    host.set_offline(true);
    host.activate(f64::from(RATE), 512);
    host.bounce(&chords(RATE), FRAMES, 512)
}

#[test]
fn another_instance_with_the_state_sounds_the_same() {
    let _together = together();
    let (_folder, path) = small_file(5);
    let mut host = Host::default();
    assert!(host.load(&state_of(Some(&path), serde_json::json!({}))));
    let plain = bounce(&mut host);
    let changes = [
        ("Temperature", "0.9"),
        ("Top-p", "0.7"),
        ("Seed", "1234"),
        ("Attack", "3"),
        ("Decay", "40"),
        ("Sustain", "0.4"),
        ("Release", "33"),
        ("Gain", "-3"),
        ("Voices", "2"),
        ("Bend range", "12"),
        ("Buffer", "45"),
        ("Always wait", "on"),
        ("GPU", "on"),
    ];
    let changes = changes.map(|(name, text)| host.set(name, text));
    host.flush(&changes);
    let changed = bounce(&mut host);
    assert!(changed != plain);
    let saved = host.save();
    let mut other = Host::default();
    assert!(other.load(&saved));
    assert!(bounce(&mut other) == changed);
    assert_eq!(other.save(), saved);
    assert_eq!(other.latency(), host.latency());
}

#[test]
fn what_a_state_lacks_is_the_default() {
    let _together = together();
    let (_folder, path) = small_file(5);
    let mut host = Host::default();
    let fresh = host.save();
    assert!(host.load(&state_of(Some(&path), serde_json::json!({ "seed": 5, "reles": 9.0 }))));
    let changes = [("Gain", "-30"), ("Temperature", "1.5"), ("GPU", "on")];
    let changes = changes.map(|(name, text)| host.set(name, text));
    host.flush(&changes);
    for old in [
        state_of(None, serde_json::json!({})),
        state_of(None, serde_json::json!({ "a parameter of the future": 7, "seed": "one" })),
    ] {
        assert!(host.load(&old));
        // The hash of a model that was loaded stays with its name.
        let (saved, fresh) = (without_model(&host.save()), without_model(&fresh));
        assert_eq!(saved, fresh);
    }
    let expected = expected(&piano(), defaults(), RATE, &chords(RATE), FRAMES);
    assert!(bounce(&mut host) == expected);
}

fn json(state: &[u8]) -> serde_json::Value {
    serde_json::from_slice(&state[8..]).expect("JSON after the length")
}

fn without_model(state: &[u8]) -> serde_json::Value {
    let mut state = json(state);
    state["fields"]["model"].take();
    // An unknown seed is no seed.
    state["params"]["seed"].take();
    state
}

#[test]
fn a_model_that_is_missing_or_damaged_is_silence_and_keeps_its_name() {
    let _together = together();
    let (folder, path) = small_file(5);
    let damaged = folder.path().join("damaged.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(bytes.len() / 2);
    std::fs::write(&damaged, bytes).unwrap();
    let folder_itself = folder.path().to_owned();
    for wrong in [folder.path().join("nowhere.safetensors"), damaged, folder_itself] {
        let mut host = Host::default();
        assert!(host.load(&state_of(Some(&wrong), serde_json::json!({ "seed": 3 }))));
        assert_eq!(peak(&bounce(&mut host)), 0.0);
        let saved = host.save();
        let model: serde_json::Value =
            serde_json::from_str(json(&saved)["fields"]["model"].as_str().unwrap()).unwrap();
        assert_eq!(model["path"], wrong.to_str().unwrap());
        assert_eq!(json(&saved)["params"]["seed"]["i32"], 3);
        // And when another is chosen, while it is active: the host is asked to begin anew.
        let restarts = host.restarts();
        assert!(host.load(&state_of(Some(&path), serde_json::json!({}))));
        host.audio().play(&[], 512, 512);
        assert_eq!(host.restarts() - restarts, 1);
        assert!(bounce(&mut host) == small_bounce(5));
        // A model that goes away while it plays ends in silence.
        host.audio().play(&[(0, Happening::on(60, 100))], 9_000, 512);
        assert!(host.load(&state_of(Some(&wrong), serde_json::json!({}))));
        let fading = host.audio().play(&[], 9_000, 512);
        assert!(fading.iter().all(|sample| sample.abs() <= 1.0));
        assert_eq!(peak(&fading[8_000..]), 0.0);
    }
}

fn small_bounce(seed: u64) -> Vec<f32> {
    expected(&small(seed), defaults(), RATE, &chords(RATE), FRAMES)
}

#[test]
fn a_model_that_is_there_again_is_heard_again() {
    let _together = together();
    let (folder, path) = small_file(5);
    let away = folder.path().join("away");
    std::fs::rename(&path, &away).unwrap();
    let mut host = Host::default();
    assert!(host.load(&state_of(Some(&path), serde_json::json!({}))));
    assert_eq!(peak(&bounce(&mut host)), 0.0);
    std::fs::rename(&away, &path).unwrap();
    assert!(bounce(&mut host) == small_bounce(5));
}

#[test]
fn a_state_that_changes_the_model_between_blocks_is_what_is_bounced_next() {
    let _together = together();
    let (_folder, first) = small_file(5);
    let (_folder, second) = small_file(6);
    let mut host = Host::default();
    assert!(host.load(&state_of(Some(&first), serde_json::json!({}))));
    host.set_offline(true);
    // At the model's rate, where the new model's first sample lies on a frame whenever it comes.
    host.activate(16_000.0, 256);
    let restarts = host.restarts();
    host.audio().play(&[(0, Happening::on(60, 100))], 5_120, 256);
    assert!(host.load(&state_of(Some(&second), serde_json::json!({ "gain": -6.0 }))));
    let after = host.audio().play(&[], 5_120, 256);
    assert!(after.iter().all(|sample| sample.abs() <= 1.0));
    host.audio().reset();
    let phrase = chords(16_000);
    let mut settings = defaults();
    settings.gain_db = -6.0;
    let expected = expected(&small(6), settings, 16_000, &phrase, 4_000);
    assert!(host.bounce(&phrase, 4_000, 256) == expected);
    assert_eq!(host.restarts(), restarts);

    // And a gain that changed while nothing sounded is there at once.
    assert!(host.load(&state_of(Some(&second), serde_json::json!({}))));
    host.audio().reset();
    let louder = crate::expected(&small(6), defaults(), 16_000, &phrase, 4_000);
    assert!(host.bounce(&phrase, 4_000, 256) == louder);
}

#[test]
fn another_buffer_asks_for_another_activation() {
    let _together = together();
    let (_folder, path) = small_file(5);
    let mut host = Host::default();
    assert!(host.load(&state_of(Some(&path), serde_json::json!({}))));
    let sound = bounce(&mut host);
    let (latency, restarts) = (host.latency(), host.restarts());
    assert!(host.load(&state_of(Some(&path), serde_json::json!({ "buffer": 120 }))));
    host.audio().play(&[], 2_048, 512);
    assert_eq!((host.restarts(), host.latency()), (restarts + 1, latency));
    assert!(bounce(&mut host) == sound);
    assert_eq!(host.latency(), latency + 100 * 48);
}

/// On a machine with a GPU or without, a project that asks for one sounds as it does without.
#[test]
fn the_gpu_or_what_plays_in_its_place_gives_the_same_sound() {
    let _together = together();
    let (_folder, path) = small_file(5);
    let mut host = Host::default();
    assert!(host.load(&state_of(Some(&path), serde_json::json!({}))));
    let sound = bounce(&mut host);
    let restarts = host.restarts();
    assert!(host.load(&state_of(Some(&path), serde_json::json!({ "gpu": true }))));
    host.audio().play(&[], 2_048, 512);
    assert_eq!(host.restarts(), restarts + 1);
    assert!(bounce(&mut host) == sound);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_do_no_harm(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let _together = together();
        let mut host = Host::default();
        host.set_offline(true);
        let (_folder, path) = small_file(5);
        let state = state_of(Some(&path), serde_json::json!({}));
        prop_assert!(host.load(&state));
        host.activate(48_000.0, 256);
        let mut text = host.save().split_off(8);
        for (place, byte) in &flips {
            let place = place.index(text.len());
            text[place] = *byte;
        }
        if cut {
            text.truncate(keep.index(text.len() + 1));
        }
        // Whether it was taken or not, the plugin plays on, and can save what it has.
        let _ = host.load(&framed(&text));
        let out = host.audio().play(&[(5, Happening::on(60, 100))], 2_048, 256);
        prop_assert!(out.iter().all(|sample| sample.abs() <= 1.0));
        let saved = host.save();
        prop_assert!(Host::default().load(&saved));
    }

    #[test]
    fn any_length_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _together = together();
        prop_assert!(!Host::default().load(&bytes));
    }

    #[test]
    fn any_value_is_brought_into_range(value in any::<f32>(), whole in any::<i32>()) {
        let _together = together();
        let mut host = Host::default();
        let (_folder, path) = small_file(5);
        let mut params = serde_json::Map::new();
        for id in ["temp", "top_p", "attack", "decay", "sustn", "reles", "gain"] {
            params.insert(id.into(), f64::from(value).into());
        }
        for id in ["seed", "class", "voices", "bend"] {
            params.insert(id.into(), whole.into());
        }
        let state = state_of(Some(&path), params.into());
        prop_assert!(host.load(&state));
        host.set_offline(true);
        host.activate(48_000.0, 256);
        let out = host.audio().play(&[(5, Happening::on(60, 100))], 2_048, 256);
        prop_assert!(out.iter().all(|sample| sample.abs() <= 1.0));
        let saved = host.save();
        let mut other = Host::default();
        prop_assert!(other.load(&saved));
    }
}
