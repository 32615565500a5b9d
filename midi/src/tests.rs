//! Files made by hand, byte by byte, and the same files damaged.

use proptest::prelude::*;

use super::*;

/// A file of format 1.
fn file(division: [u8; 2], tracks: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"MThd\0\0\0\x06\0\x01".to_vec();
    bytes.extend((tracks.len() as u16).to_be_bytes());
    bytes.extend(division);
    for track in tracks {
        bytes.extend(b"MTrk");
        bytes.extend((track.len() as u32 + 4).to_be_bytes());
        bytes.extend(*track);
        bytes.extend([0, 0xFF, 0x2F, 0]);
    }
    bytes
}

/// 96 ticks a quarter.
const QUARTER: [u8; 2] = [0, 96];

const fn on(frame: u64, key: u8, velocity: u8) -> Event {
    Event { frame, kind: EventKind::NoteOn { channel: 0, key, velocity } }
}

const fn off(frame: u64, key: u8) -> Event {
    Event { frame, kind: EventKind::NoteOff { channel: 0, key } }
}

fn refused(bytes: &[u8]) -> String {
    format!("{:#}", parse(bytes, 16_000).unwrap_err())
}

#[test]
fn notes_land_on_their_frames_through_changes_of_tempo() {
    // 120 quarters a minute, then 60 (1,000,000 us) from the second quarter on, in another track.
    let tempo = [96, 0xFF, 0x51, 3, 0x0F, 0x42, 0x40];
    let notes = [48, 0x90, 69, 100, 96, 69, 0, 48, 0x80, 69, 0];
    let events = parse(&file(QUARTER, &[&tempo, &notes]), 16_000).unwrap();
    // Half a quarter at 120; then half at 120 and half at 60.
    assert_eq!(events, [on(4_000, 69, 100), off(4_000 + 4_000 + 8_000, 69)]);
}

#[test]
fn smpte_time_ignores_tempo() {
    let notes = [0, 0xFF, 0x51, 3, 0, 0, 1, 40, 0x90, 60, 1, 60, 0x80, 60, 0];
    let events = parse(&file([0xE7, 40], &[&notes]), 16_000).unwrap();
    assert_eq!(events, [on(640, 60, 1), off(1_600, 60)]);
    // 30 / 1.001 frames a second: 100 frames are 3.336667 s.
    let notes = [100, 0x90, 60, 1, 0, 60, 0];
    let events = parse(&file([0xE3, 1], &[&notes]), 16_000).unwrap();
    assert_eq!(events[0].frame, 53_387);
}

#[test]
fn pedals_go_to_the_synth_and_drums_are_left_out() {
    let notes = [
        0, 0xB0, 64, 127, // pedal down
        0, 0x90, 60, 80, // struck
        48, 0x80, 60, 0, // up, but held
        0, 0x99, 35, 100, // a drum
        48, 0xB0, 64, 0, // pedal up
        0, 0x89, 35, 0,
    ];
    let events = parse(&file(QUARTER, &[&notes]), 16_000).unwrap();
    let pedal = |frame, down| Event { frame, kind: EventKind::Pedal { channel: 0, down } };
    let expected = [pedal(0, true), on(0, 60, 80), off(4_000, 60), pedal(8_000, false)];
    assert_eq!(events, expected);
}

#[test]
fn a_key_struck_again_lets_go_of_the_note_before() {
    let notes = [0, 0x90, 60, 80, 96, 60, 81, 96, 60, 0];
    let events = parse(&file(QUARTER, &[&notes]), 16_000).unwrap();
    assert_eq!(events, [on(0, 60, 80), off(8_000, 60), on(8_000, 60, 81), off(16_000, 60)]);
}

#[test]
fn two_tracks_on_one_channel_do_not_end_each_other() {
    // The first track's note begins where the second's ends.
    let first = [96, 0x90, 60, 70, 96, 60, 0];
    let second = [0, 0x90, 60, 50, 96, 60, 0];
    let events = parse(&file(QUARTER, &[&first, &second]), 16_000).unwrap();
    assert_eq!(events, [on(0, 60, 50), off(8_000, 60), on(8_000, 60, 70), off(16_000, 60)]);
}

#[test]
fn the_wheel_goes_two_semitones_either_way() {
    let notes = [0, 0x90, 60, 80, 48, 0xE0, 0, 0, 0, 0xE0, 0, 64, 48, 0x80, 60, 0];
    let events = parse(&file(QUARTER, &[&notes]), 16_000).unwrap();
    let bend = |semitones| Event { frame: 4_000, kind: EventKind::Bend { channel: 0, semitones } };
    assert_eq!(events, [on(0, 60, 80), bend(-2.0), bend(0.0), off(8_000, 60)]);
}

#[test]
fn a_forgotten_note_ends_with_the_file() {
    let notes = [0, 0x90, 60, 80, 96, 0xFF, 0x01, 1, b'x'];
    let events = parse(&file(QUARTER, &[&notes]), 16_000).unwrap();
    assert_eq!(events, [on(0, 60, 80), off(8_000, 60)]);
}

#[test]
fn damage_is_named() {
    let note = [0, 0x90, 60, 80, 96, 60, 0];
    let whole = file(QUARTER, &[&note]);
    assert!(refused(b"RIFF").contains("cut short"));
    assert!(refused(&whole[..whole.len() - 1]).contains("cut short"));
    assert!(refused(&file([0, 0], &[&note])).contains("divides time by zero"));
    assert!(refused(&file([0xE7, 0], &[&note])).contains("divides time by zero"));
    assert!(refused(&file([0x80, 1], &[&note])).contains("128 SMPTE frames"));
    assert!(refused(&file(QUARTER, &[&[]])).contains("no notes"));
    assert!(refused(&file(QUARTER, &[&[0, 0xFF, 0x51, 3, 0, 0, 0]])).contains("endless tempo"));
    let mut bytes = whole.clone();
    bytes[9] = 2;
    assert!(refused(&bytes).contains("format 2"));
    bytes = whole.clone();
    bytes[11] = 2;
    assert!(refused(&bytes).contains("cut short"));
    // A status byte where data belongs: the reader would stop there without a word.
    bytes = whole;
    bytes[28] = 0x90;
    assert!(refused(&bytes).contains("track 1 is damaged"));
}

#[test]
fn the_longest_times_do_not_overflow() {
    // The slowest tempo, one tick a quarter, the longest delays.
    let mut track = vec![0, 0xFF, 0x51, 3, 0xFF, 0xFF, 0xFF];
    for _ in 0..10_000 {
        track.extend([0xFF, 0xFF, 0xFF, 0x7F, 0x90, 60, 1]);
    }
    let events = parse(&file([0, 1], &[&track]), 768_000).unwrap();
    assert!(events.is_sorted_by_key(|event| event.frame));
    assert!(events[events.len() - 1].frame > 1 << 50);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_damage_gives_a_score_or_an_error(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in 0..160_usize,
        rate_hz in 1_000..=192_000_u32,
    ) {
        let tempo = [96, 0xFF, 0x51, 3, 0x0F, 0x42, 0x40];
        let notes = [
            0, 0xB0, 64, 127, 0, 0x90, 60, 80, 0x81, 0x10, 64, 80, 48, 60, 0, 0, 0xC0, 5,
            0, 0xF0, 2, 1, 0xF7, 0, 0xE0, 0, 64, 48, 0xB0, 64, 0, 0, 0x80, 64, 0,
        ];
        let mut bytes = file(QUARTER, &[&tempo, &notes, &notes]);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(length.max(8));
        if let Ok(events) = parse(&bytes, rate_hz) {
            prop_assert!(events.is_sorted_by_key(|event| event.frame));
            let mut sounding = [[false; 128]; 16];
            let mut pedals = [false; 16];
            for event in events {
                match event.kind {
                    EventKind::NoteOn { channel, key, velocity } => {
                        let held = &mut sounding[usize::from(channel)][usize::from(key)];
                        prop_assert!(velocity > 0 && !std::mem::replace(held, true));
                    }
                    EventKind::NoteOff { channel, key } => {
                        let held = &mut sounding[usize::from(channel)][usize::from(key)];
                        prop_assert!(std::mem::replace(held, false));
                    }
                    EventKind::Pedal { channel, down } => pedals[usize::from(channel)] = down,
                    EventKind::Bend { semitones, .. } => prop_assert!(semitones.abs() <= 2.0),
                    EventKind::Program { program, .. } => prop_assert!(program < 128),
                    _ => prop_assert!(false),
                }
            }
            prop_assert_eq!(pedals, [false; 16]);
            prop_assert_eq!(sounding, [[false; 128]; 16]);
        }
    }
}
