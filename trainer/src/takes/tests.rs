use std::path::Path;

use proptest::prelude::*;
use wavenet_engine::synth::EventKind;

use super::*;
use crate::audio::read_recording;
use crate::corpus::notes::key_name;
use crate::synth_recordings::{Timbre, write_recordings};

const RATE_HZ: u32 = 16_000;
/// Frames of a millisecond.
const MS: i64 = 16;

/// A phrase: (ms of the MIDI file at which a note begins, its length in ms, its key).
type Phrase = Vec<(i64, i64, u8)>;

/// Fourteen notes in uneven time, one after the other with or without a rest.
fn phrase() -> Phrase {
    let keys = [57, 60, 63, 60, 69, 66, 72, 57, 57, 75, 63, 54, 60, 57];
    let mut at = 150;
    let note = |(n, key): (usize, u8)| {
        let length = 230 + 70 * (n as i64 * 5 % 7);
        let begin = at;
        at += length + [0, 40, 120][n % 3];
        (begin, length, key)
    };
    keys.into_iter().enumerate().map(note).collect()
}

/// How much later than the others the n-th note of a recording begins, in ms.
fn jitter_ms(n: usize) -> i64 {
    n as i64 * 7 % 23 - 11
}

/// A recording of `phrase` that begins `late_ms` late, from the folder of a timbre.
fn record(folder: &Path, phrase: &Phrase, late_ms: i64) -> Vec<f32> {
    let end_ms = phrase.iter().map(|(begin, length, _)| begin + length).max().unwrap();
    let mut samples = vec![0.0; ((end_ms + 500) * MS) as usize];
    for (n, &(begin_ms, length_ms, key)) in phrase.iter().enumerate() {
        let path = folder.join(format!("{}_104.wav", key_name(key)));
        let note = read_recording(&path, RATE_HZ).unwrap().samples;
        let begin = (begin_ms + late_ms + jitter_ms(n)) * MS;
        let held = length_ms * MS;
        for (age, x) in (0..).zip(note) {
            // Let go: it dies within 50 ms.
            let left = 1.0 - (age - held).max(0) as f32 / (50 * MS) as f32;
            if let Some(place) = usize::try_from(begin + age).ok().filter(|_| left > 0.0)
                && let Some(out) = samples.get_mut(place)
            {
                *out += 0.7 * left * x;
            }
        }
    }
    samples
}

fn events(phrase: &Phrase) -> Vec<Event> {
    let mut events = Vec::new();
    for &(begin, length, key) in phrase {
        let (frame, end) = ((begin * MS) as u64, ((begin + length) * MS) as u64);
        events.push(Event { frame, kind: EventKind::NoteOn { channel: 0, key, velocity: 104 } });
        events.push(Event { frame: end, kind: EventKind::NoteOff { channel: 0, key } });
    }
    // What is let go comes before what is struck.
    events.sort_by_key(|event| (event.frame, matches!(event.kind, EventKind::NoteOn { .. })));
    events
}

#[test]
fn notes_are_found_where_they_were_played() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("made");
    write_recordings(&out, &[Timbre::String, Timbre::Pad], 1, Some(1.0)).unwrap();
    // A pad takes 90 ms to speak: it is heard some time after it begins.
    for (timbre, earliest_ms, latest_ms) in [("string", -12, 0), ("pad", 0, 55)] {
        for late_ms in [-90, -20, 0, 63, 95] {
            let phrase = phrase();
            let samples = record(&out.join(timbre), &phrase, late_ms);
            let take = cut(&samples, RATE_HZ, &events(&phrase)).unwrap();
            assert!(take.left.is_empty(), "{timbre} {late_ms}: {:?}", take.left);
            assert_eq!(take.notes.len(), phrase.len());
            for (n, (note, &(begin_ms, length_ms, key))) in
                take.notes.iter().zip(&phrase).enumerate()
            {
                assert_eq!((note.key, note.velocity), (key, 104));
                let true_ms = begin_ms + late_ms + jitter_ms(n);
                let off_ms = (note.start_frame as i64 + LEAD_MS as i64 * MS) / MS - true_ms;
                assert!(
                    (earliest_ms..=latest_ms).contains(&off_ms),
                    "{timbre} {late_ms}: note {n} is found {off_ms} ms late"
                );
                let frames_ms = note.frames as i64 / MS;
                assert!((length_ms - 80..length_ms + 60).contains(&frames_ms), "{n}: {frames_ms}");
            }
            let ends = take
                .notes
                .windows(2)
                .all(|pair| pair[0].start_frame + pair[0].frames <= pair[1].start_frame);
            assert!(ends, "{timbre} {late_ms}: notes overlap");
        }
    }
}

#[test]
fn the_midi_file_of_another_take_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("made");
    write_recordings(&out, &[Timbre::String, Timbre::Pad], 1, Some(1.0)).unwrap();
    for timbre in ["string", "pad"] {
        let samples = record(&out.join(timbre), &phrase(), 0);
        let other: Phrase = phrase()
            .into_iter()
            .map(|(begin, length, key)| (begin * 13 / 10 + 170, length, key))
            .collect();
        let error = cut(&samples, RATE_HZ, &events(&other)).unwrap_err().to_string();
        assert!(
            error.starts_with("few onsets lie within 100 ms of the notes"),
            "{timbre}: {error}"
        );
    }
    assert!(cut(&[0.0; 16_000], RATE_HZ, &events(&phrase())).is_err());
    assert!(cut(&[], RATE_HZ, &events(&phrase())).is_err());
}

#[test]
fn what_cannot_be_learned_alone_is_left_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("made");
    write_recordings(&out, &[Timbre::String], 1, Some(1.0)).unwrap();
    let heard: Phrase =
        vec![(100, 400, 60), (600, 300, 63), (600, 300, 66), (1_000, 60, 69), (1_200, 400, 72)];
    let samples = record(&out.join("string"), &heard, 20);
    let mut played = heard.clone();
    // Played too softly to be heard, and after the recording's end.
    played.extend([(1_800, 250, 57), (9_000, 400, 60)]);
    let take = cut(&samples, RATE_HZ, &events(&played)).unwrap();
    let keys: Vec<u8> = take.notes.iter().map(|note| note.key).collect();
    assert_eq!(keys, [60, 72]);
    let left: Vec<_> = take.left.iter().map(|note| (note.key, note.reason.as_str())).collect();
    let chord = "another note sounds at the same time";
    assert_eq!(
        left,
        [
            (63, chord),
            (66, chord),
            (69, "it is shorter than 150 ms"),
            (57, "nothing is heard"),
            (60, "the recording ends before it"),
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever was played, and whatever is heard.
    #[test]
    fn any_events_give_notes_inside_the_recording(
        played in prop::collection::vec((0..4_u8, 0..20_000_u64, 0..4_u8, any::<bool>()), 0..30),
        far in prop::sample::select(vec![0, 1 << 40, u64::MAX - 20_000]),
        length in 0..24_000_usize,
    ) {
        let mut events: Vec<Event> = played
            .iter()
            .map(|&(kind, frame, key, down)| Event {
                frame: frame + if frame % 7 == 0 { far } else { 0 },
                kind: match kind {
                    0 => EventKind::NoteOn { channel: 0, key, velocity: 1 + key },
                    1 => EventKind::NoteOff { channel: 0, key },
                    2 => EventKind::Pedal { channel: 0, down },
                    _ => EventKind::Bend { channel: 0, semitones: f32::from(key) },
                },
            })
            .collect();
        events.sort_by_key(|event| event.frame);
        // A click wherever a note may begin.
        let mut samples = vec![0.0; length];
        for event in &events {
            let place = event.frame as usize;
            (place..place.saturating_add(900)).filter(|n| *n < length).for_each(|n| samples[n] = 0.5);
        }
        if let Ok(take) = cut(&samples, RATE_HZ, &events) {
            let mut free = 0;
            for note in &take.notes {
                prop_assert!(note.start_frame >= free && note.frames > 0);
                free = note.start_frame + note.frames;
            }
            prop_assert!(free <= length as u64);
        }
    }
}
