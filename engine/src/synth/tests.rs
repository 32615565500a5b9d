//! What a note is, whatever happens around it.

use super::*;
use crate::config::{Config, Dtype, KeyTable, NoteRecipe, Recipe};
use crate::kernels::Isa;
use crate::sampling::Sampling;
use crate::weights::Weights;

fn synth(recipe: Recipe, settings: Settings) -> Synth {
    let config = Config { conditioning: recipe, ..Config::tiny() };
    let weights = Weights::random(config, 3).unwrap();
    Synth::new(Packed::new(&weights, Dtype::F32, Isa::Auto).unwrap(), settings).unwrap()
}

fn note_synth(voices: usize) -> Synth {
    let settings = Settings { voices, ..Settings::default() };
    synth(Recipe::Note(NoteRecipe::default()), settings)
}

/// A model without notes, played by varispeed.
fn tape_synth(voices: usize) -> Synth {
    synth(Recipe::None, Settings { voices, ..Settings::default() })
}

const fn at(frame: u64, kind: EventKind) -> Event {
    Event { frame, kind }
}

const fn on(frame: u64, key: u8) -> Event {
    at(frame, EventKind::NoteOn { channel: 0, key, velocity: 90 })
}

const fn off(frame: u64, key: u8) -> Event {
    at(frame, EventKind::NoteOff { channel: 0, key })
}

/// Chords, a bend, the pedal, a changing temperature.
const PIECE: [Event; 11] = [
    on(0, 60),
    on(100, 64),
    at(300, EventKind::Bend { channel: 0, semitones: 0.7 }),
    on(1000, 67),
    at(1500, EventKind::Pedal { channel: 0, down: true }),
    off(2000, 60),
    at(2400, EventKind::Set(Parameter::Temperature(0.5))),
    on(2500, 60),
    at(3000, EventKind::Pedal { channel: 0, down: false }),
    at(3100, EventKind::Set(Parameter::GainDb(-6.0))),
    off(3333, 64),
];

fn render(mut synth: Synth, frames: usize, block: usize) -> Vec<u32> {
    let mut out = vec![0.0; frames];
    for (index, block_out) in out.chunks_mut(block).enumerate() {
        let start = (index * block) as u64;
        let end = start + block_out.len() as u64;
        let events: Vec<Event> =
            PIECE.iter().filter(|e| (start..end).contains(&e.frame)).copied().collect();
        synth.render(&events, block_out);
    }
    out.into_iter().map(f32::to_bits).collect()
}

#[test]
fn block_size_and_voice_limit_change_no_sample() {
    for synth in [note_synth, tape_synth] {
        let expected = render(synth(4), 8_000, 8_000);
        assert!(expected.iter().any(|&bits| bits != 0));
        for block in [1, 64, 333, 4096] {
            assert_eq!(render(synth(4), 8_000, block), expected);
        }
        for voices in [5, 8, 64] {
            assert_eq!(render(synth(voices), 8_000, 4_000), expected);
        }
    }
    // One voice is a limit below the sounding notes: another sound, at any block size the same.
    let expected = render(note_synth(1), 8_000, 8_000);
    for block in [1, 333] {
        assert_eq!(render(note_synth(1), 8_000, block), expected);
    }
}

#[test]
fn a_note_sounds_the_same_alone_and_in_a_chord() {
    for synth in [note_synth, tape_synth] {
        let mut alone = synth(8);
        let mut first = vec![0.0; 100];
        alone.render(&PIECE[..1], &mut first);
        let first: Vec<u32> = first.iter().map(|x| x.to_bits()).collect();
        assert_eq!(first, render(synth(8), 100, 100));
    }
}

#[test]
fn a_released_note_ends_and_repeats_differ() {
    let mut synth = note_synth(2);
    let mut first = vec![0.0; 400 + 2400];
    synth.render(&[on(0, 60), off(400, 60)], &mut first);
    assert_eq!(synth.sounding(), 0);
    assert_eq!(first[2799], 0.0);
    let mut second = vec![0.0; 400];
    synth.render(&[on(2800, 60)], &mut second);
    assert_ne!(first[..400], second[..]);
}

#[test]
fn after_a_reset_all_is_as_at_the_start() {
    let mut synth = note_synth(2);
    let mut first = vec![0.0; 500];
    synth.render(&[on(0, 60)], &mut first);
    let mut again = vec![0.0; 500];
    synth.render(&[at(500, EventKind::Reset), on(500, 60)], &mut again);
    assert_eq!(first, again);
}

#[test]
fn a_gain_that_changes_in_silence_is_there_at_once() {
    let quiet = at(0, EventKind::Set(Parameter::GainDb(-20.0)));
    let settings = Settings { gain_db: -20.0, ..Settings::default() };
    let mut expected = vec![0.0; 500];
    synth(Recipe::None, settings).render(&[on(0, 60)], &mut expected);
    let mut out = vec![0.0; 500];
    tape_synth(8).render(&[quiet, on(0, 60)], &mut out);
    assert!(out == expected, "glides without need");
    // Also where it was still on its way when a reset came.
    let mut played = tape_synth(8);
    played.render(&[on(0, 60), at(10, quiet.kind)], &mut out[..20]);
    played.render(&[at(20, EventKind::Reset), on(20, 60)], &mut out);
    assert!(out == expected, "glides after a reset");
}

#[test]
fn the_pedal_holds_notes_of_its_channel() {
    let mut synth = note_synth(4);
    let mut out = vec![0.0; 100];
    let pedal = |frame, down| at(frame, EventKind::Pedal { channel: 0, down });
    let other = at(0, EventKind::NoteOn { channel: 1, key: 50, velocity: 90 });
    let other_off = at(20, EventKind::NoteOff { channel: 1, key: 50 });
    synth.render(&[on(0, 60), other, pedal(10, true), off(20, 60), other_off], &mut out);
    let mut tail = vec![0.0; 3_000];
    synth.render(&[], &mut tail);
    assert_eq!(synth.sounding(), 1);
    synth.render(&[pedal(3_100, false)], &mut tail);
    assert_eq!(synth.sounding(), 0);
}

#[test]
fn one_voice_too_many_takes_the_oldest_without_a_click() {
    let mut synth = tape_synth(1);
    let mut out = vec![0.0; 1100];
    synth.render(&PIECE[..4], &mut out);
    assert_eq!(synth.voices[0].key, 67);
    assert!(synth.mixer.has_rest());
    synth.render(&[], &mut out);
    assert!(!synth.mixer.has_rest());
}

#[test]
fn a_drone_goes_on_and_is_the_model_itself() {
    let mut synth = tape_synth(2);
    let mut out = vec![0.0; 20_000];
    synth.render(&[at(0, EventKind::Drone)], &mut out);
    assert_eq!(synth.sounding(), 1);
    let decoded: Vec<f32> = (0..=255).map(|code| MuLaw::new(256).decode(code)).collect();
    assert!(out.iter().all(|&x| x.abs() > 0.9 || decoded.contains(&x)));
}

#[test]
fn keys_of_a_tape_run_at_their_speed() {
    // An octave up takes twice the samples of the model.
    for (key, made) in [(60, 1_000), (72, 2_000), (48, 500), (84, 4_000), (100, 4_000)] {
        let mut synth = tape_synth(1);
        synth.render(&[on(0, key)], &mut [0.0; 1_000]);
        assert_eq!(synth.voices[0].made, made, "key {key}");
    }
}

#[test]
fn strange_values_are_brought_into_range() {
    let mut synth = note_synth(2);
    let strange = [f32::NAN, f32::INFINITY, -f32::INFINITY, 1e30, -1e30];
    let set = |frame, parameter| at(frame, EventKind::Set(parameter));
    for (index, value) in strange.into_iter().enumerate() {
        let frame = index as u64 * 100;
        let events = [
            on(frame, 127),
            at(frame, EventKind::Bend { channel: 200, semitones: value }),
            set(frame, Parameter::Temperature(value)),
            set(frame, Parameter::TopP(value)),
            set(frame, Parameter::GainDb(value)),
            set(frame, Parameter::AttackMs(value)),
            set(frame, Parameter::ReleaseMs(value)),
            set(frame, Parameter::Sustain(value)),
            set(frame, Parameter::Class(usize::MAX)),
            at(frame, EventKind::NoteOff { channel: 255, key: 255 }),
        ];
        let mut out = [0.0; 100];
        synth.render(&events, &mut out);
        assert!(out.iter().all(|x| x.is_finite() && x.abs() <= 1.0));
    }
}

#[test]
fn a_key_out_of_range_can_be_let_go_and_is_no_drone() {
    let mut synth = note_synth(2);
    synth.render(&[at(0, EventKind::Drone), on(0, 200)], &mut [0.0; 10]);
    assert_eq!(synth.sounding(), 2);
    synth.render(&[off(10, 201), off(10, 128)], &mut [0.0; 3_000]);
    assert_eq!(synth.sounding(), 1);
    assert_eq!(
        synth.voices.iter().find(|voice| voice.sounding).map(|voice| voice.key),
        Some(DRONE)
    );
}

#[test]
fn settings_out_of_range_are_named() {
    let build = |settings| {
        let weights = Weights::zeros(Config::default()).unwrap();
        Synth::new(Packed::new(&weights, Dtype::F32, Isa::Auto).unwrap(), settings).map(|_| ())
    };
    assert!(build(Settings { voices: 0, ..Settings::default() }).is_err());
    assert!(build(Settings { class: 1, ..Settings::default() }).is_err());
    assert!(build(Settings { sustain: 2.0, ..Settings::default() }).is_err());
    let sampling = Sampling { temperature: -1.0, top_p: 1.0 };
    assert!(build(Settings { sampling, ..Settings::default() }).is_err());
}

#[test]
fn a_choked_note_ends_at_once_whatever_the_pedal_says() {
    let mut synth = note_synth(4);
    let pedal = EventKind::Pedal { channel: 0, down: true };
    let choke = EventKind::Choke { channel: 0, key: 60 };
    let events = [at(0, pedal), on(0, 60), on(0, 64), at(500, choke)];
    synth.render(&events, &mut [0.0; 501]);
    assert_eq!(synth.sounding(), 1);
}

#[test]
fn room_for_more_voices_changes_nothing_and_a_lower_limit_holds() {
    let config = Config {
        residual_channels: 8,
        gate_channels: 8,
        dilations: vec![1, 2, 4],
        ..Config::default()
    };
    let weights = Weights::random(config, 3).unwrap();
    let chord: Vec<Event> =
        [60, 62, 64, 65, 67].into_iter().map(|key| on(key as u64, key)).collect();
    let render = |room: usize, first: usize| {
        let packed = Packed::new(&weights, Dtype::F32, Isa::Auto).unwrap();
        let settings = Settings { voices: first, ..Settings::default() };
        let mut synth = Synth::with_room(packed, settings, room).unwrap();
        let mut events = vec![at(0, EventKind::Set(Parameter::Voices(3)))];
        events.extend(&chord);
        let mut out = vec![0.0; 400];
        synth.render(&events, &mut out);
        (out, synth.sounding())
    };
    let expected = render(3, 3);
    assert_eq!(expected.1, 3);
    assert_eq!(render(64, 3), expected);
    assert_eq!(render(64, 64), expected);
}

#[test]
fn a_program_chooses_the_class_of_its_channel_until_a_class_is_set() {
    let classes = vec!["a".into(), "b".into()];
    let config = Config { classes, ..Config::tiny() };
    let weights = Weights::random(config, 3).unwrap();
    let packed = Packed::new(&weights, Dtype::F32, Isa::Auto).unwrap();
    let mut synth = Synth::new(packed, Settings::default()).unwrap();
    let program = |channel, program| at(0, EventKind::Program { channel, program });
    let mut class_of = |events: &[Event], channel| {
        let note = at(0, EventKind::NoteOn { channel, key: 60, velocity: 90 });
        synth.render(&[events, &[note]].concat(), &mut [0.0]);
        let newest = synth.voices.iter().max_by_key(|voice| (voice.sounding, voice.number));
        newest.map(|voice| voice.class)
    };
    assert_eq!(class_of(&[program(3, 1)], 3), Some(1));
    assert_eq!(class_of(&[], 2), Some(0));
    // No model has them all.
    assert_eq!(class_of(&[program(3, 2)], 3), Some(0));
    assert_eq!(class_of(&[program(3, 1)], 3), Some(1));
    let set = at(0, EventKind::Set(Parameter::Class(0)));
    assert_eq!(class_of(&[set], 3), Some(0));
    assert_eq!(class_of(&[program(3, 1), at(0, EventKind::Reset)], 3), Some(0));
}

/// The same codes, with the partials added and without.
#[test]
fn a_remainder_sounds_with_its_partials() {
    let table = KeyTable {
        key: 57,
        velocity: 127,
        start_turns: vec![0.0, 0.25],
        // A sine of a quarter in the model is one of -20 dB here, whatever the age.
        level_db: vec![-20.0, -20.0],
        partial_db: vec![vec![-26.0, -26.0], vec![-120.0, -120.0]],
        ..KeyTable::default()
    };
    let sound = |remainder| {
        let recipe = NoteRecipe {
            partials: 2,
            ages_ms: vec![0.0, 200.0],
            keys: vec![table.clone()],
            remainder,
            ..NoteRecipe::default()
        };
        let settings = Settings { attack_ms: 0.0, ..Settings::default() };
        let mut out = vec![0.0; 800];
        let begin = EventKind::NoteOn { channel: 0, key: 57, velocity: 127 };
        synth(Recipe::Note(recipe), settings).render(&[at(0, begin)], &mut out);
        out
    };
    let (with, without) = (sound(true), sound(false));
    let amplitude = libm::exp10(-26.0 / 20.0);
    let rate = f64::from(Config::tiny().sample_rate_hz);
    let (mut largest, from) = (0.0_f64, 100);
    for (frame, (with, without)) in with.iter().zip(&without).enumerate().skip(from) {
        let expected = amplitude * libm::cos(core::f64::consts::TAU * 220.0 * frame as f64 / rate);
        let added = f64::from(with - without);
        assert!((added - expected).abs() < 2e-4, "{frame}: {added} {expected}");
        largest = largest.max(added);
    }
    assert!(largest > 0.9 * amplitude);
}

/// What a band of synths plays is what each would play alone.
#[test]
fn a_band_plays_what_each_would_alone() {
    let keys = [50, 70].map(|key| KeyTable {
        key,
        velocity: 90,
        start_turns: vec![0.25; 4],
        level_db: vec![-6.0, -30.0],
        partial_db: vec![vec![-9.0, -40.0]; 3],
        ..KeyTable::default()
    });
    let levels = NoteRecipe {
        partials: 4,
        ages_ms: vec![0.0, 200.0],
        keys: keys.to_vec(),
        remainder: true,
        ..NoteRecipe::default()
    };
    for (recipe, classes) in
        [(Recipe::Note(levels), vec![]), (Recipe::None, vec!["a".into(), "b".into()])]
    {
        let config = Config { conditioning: recipe, classes, ..Config::tiny() };
        let weights = Weights::random(config, 3).unwrap();
        let packed = || Packed::new(&weights, Dtype::Int8, Isa::Auto).unwrap();
        let settings: Vec<Settings> = [(1, 2), (2, 3), (3, 1)]
            .map(|(seed, voices)| Settings { seed, voices, ..Settings::default() })
            .to_vec();
        let lanes = crate::cuda::Lanes::on_processor(std::sync::Arc::new(packed()), 6);
        let mut band = Band::new(lanes, &settings).unwrap();
        let mut found = vec![Vec::new(); 3];
        for block in [1, 700, 3_000, 1_299] {
            let mut out = vec![vec![0.0; block]; 3];
            let start = found[0].len() as u64;
            let during = |event: &&Event| (start..start + block as u64).contains(&event.frame);
            let events: Vec<Event> = PIECE.iter().filter(during).copied().collect();
            band.render(&events, &mut out);
            found.iter_mut().zip(out).for_each(|(found, out)| found.extend(out));
        }
        for (settings, found) in settings.into_iter().zip(found) {
            let mut alone = vec![0.0; 5_000];
            Synth::new(packed(), settings.clone()).unwrap().render(&PIECE, &mut alone);
            assert!(alone.iter().any(|sample| *sample != 0.0) && alone == found);
            let voices = settings.voices;
            let lanes = crate::cuda::Lanes::on_processor(std::sync::Arc::new(packed()), voices);
            let by_lanes = Synth::on_lanes(lanes, settings).unwrap();
            assert!(
                render(by_lanes, 5_000, 333)
                    == alone.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            );
        }
    }
}

/// The built-in instruments hear a note that they made.
#[test]
fn the_fast_mode_of_a_gpu_costs_hardly_a_bit() {
    let file =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/instruments.safetensors");
    let weights = Weights::load(&file).unwrap();
    let (config, class) = (weights.config(), weights.config().class_width());
    let conditioner = NoteConditioner::new(config).unwrap();
    let mut note = conditioner.idle_note();
    conditioner.start(&mut note, 0, 57, 100);
    let h = config.conditioning_channels();
    let mut vectors = vec![0.0; 500 * h];
    for row in vectors.chunks_mut(h) {
        conditioner.advance(&mut note, &mut row[class..]);
    }
    let (exact, fast) = crate::cuda::tests::fast::bits_a_sample(&weights, &vectors);
    println!("bits a sample: {exact:.4?} exact in f32, bf16 and int8, {fast:.4} fast");
    assert!((fast - exact[0]).abs() < 0.01);
}
