//! MIDI files played: every note on its frame, and an end after the last.

use midly::num::{u4, u7, u15, u24, u28};
use midly::{Format, Header, MetaMessage, MidiMessage, Smf, Timing, TrackEvent, TrackEventKind};

use crate::Folder;

fn midi(delta: u32, message: MidiMessage) -> TrackEvent<'static> {
    let kind = TrackEventKind::Midi { channel: u4::new(0), message };
    TrackEvent { delta: u28::new(delta), kind }
}

fn on(delta: u32, key: u8) -> TrackEvent<'static> {
    midi(delta, MidiMessage::NoteOn { key: u7::new(key), vel: u7::new(100) })
}

fn off(delta: u32, key: u8) -> TrackEvent<'static> {
    midi(delta, MidiMessage::NoteOff { key: u7::new(key), vel: u7::new(0) })
}

fn pedal(delta: u32, value: u8) -> TrackEvent<'static> {
    let (controller, value) = (u7::new(64), u7::new(value));
    midi(delta, MidiMessage::Controller { controller, value })
}

/// A file of 1000 ticks a second: 500 a quarter, 120 quarters a minute.
fn file(mut track: Vec<TrackEvent<'static>>) -> Vec<u8> {
    let mut meta = |at: usize, message| {
        let event = TrackEvent { delta: u28::new(0), kind: TrackEventKind::Meta(message) };
        track.insert(at.min(track.len()), event);
    };
    meta(0, MetaMessage::Tempo(u24::new(500_000)));
    meta(usize::MAX, MetaMessage::EndOfTrack);
    let mut smf = Smf::new(Header::new(Format::SingleTrack, Timing::Metrical(u15::new(500))));
    smf.tracks.push(track);
    let mut bytes = Vec::new();
    smf.write_std(&mut bytes).unwrap();
    bytes
}

/// Two notes, from 0.25 s to 0.5 s and from 0.375 s to 0.625 s.
pub(crate) fn phrase() -> Vec<u8> {
    file(vec![on(250, 60), on(125, 67), off(125, 60), off(125, 67)])
}

const NOTE_MODEL: &str = "--model note.safetensors --release-ms 100 --midi x.mid";

fn samples(track: Vec<u8>, options: &str) -> Vec<i16> {
    let folder = Folder::new();
    std::fs::write(folder.path("x.mid"), track).unwrap();
    folder.samples(&format!("{NOTE_MODEL} {options}")).1
}

#[test]
fn the_first_note_begins_on_its_frame() {
    let made = samples(phrase(), "");
    assert!(made[..4_000].iter().all(|&sample| sample == 0));
    assert!(made[4_000..4_010].iter().any(|&sample| sample != 0));
    // The last note-off and the release after it.
    assert_eq!(made.len(), 10_000 + 1_600);
}

#[test]
fn at_another_rate_it_begins_at_the_same_time() {
    let made = samples(phrase(), "--rate 48000");
    let loud = made.iter().position(|sample| sample.unsigned_abs() > 500).unwrap();
    // A filter of 64 taps rings 32 of the model's samples ahead, ever more softly.
    assert!((12_000 - 96..12_060).contains(&loud), "{loud}");
    assert!(made[..12_000 - 96].iter().all(|&sample| sample == 0));
    assert_eq!(made.len(), 3 * 11_600);
}

#[test]
fn seconds_cap_the_piece_and_change_nothing_before() {
    let whole = samples(phrase(), "");
    assert_eq!(samples(phrase(), "--seconds 0.4"), whole[..6_400]);
    assert_eq!(samples(phrase(), "--seconds 4"), whole);
}

#[test]
fn the_pedal_holds_a_note_beyond_its_key() {
    let held = file(vec![pedal(0, 127), on(0, 60), off(100, 60), pedal(400, 0)]);
    let made = samples(held, "");
    assert_eq!(made.len(), 8_000 + 1_600);
    assert!(made[7_000..8_000].iter().any(|sample| sample.unsigned_abs() > 500));
}

#[test]
fn a_note_after_a_rest_of_days_needs_a_cap() {
    let folder = Folder::new();
    let days = file(vec![on(0, 60), off(100, 60), on(u28::max_value().as_int(), 60), off(1, 60)]);
    std::fs::write(folder.path("x.mid"), days).unwrap();
    let output = folder.run(&format!("render --out x.wav {NOTE_MODEL}"));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("longer than 24 hours; cut it with --seconds"), "{stderr}");
    assert_eq!(folder.samples(&format!("{NOTE_MODEL} --seconds 0.5")).1.len(), 8_000);
}
