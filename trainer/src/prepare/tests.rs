use std::fs;
use std::path::Path;

use super::*;

mod changes;

const RATE_HZ: u32 = 8_000;

/// A mono WAV: `lead` seconds of silence, then `seconds` of a tone.
fn tone(path: &Path, level: f32, lead: f32, seconds: f32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 2 * RATE_HZ,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    let frames = |seconds: f32| (seconds * (2 * RATE_HZ) as f32) as usize;
    for n in 0..frames(lead) + frames(seconds) {
        let level = if n < frames(lead) { 0.0 } else { level };
        writer.write_sample((32_767.0 * level * libm::sinf(n as f32 * 0.3)) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn options(&self) -> PrepareOptions {
        PrepareOptions {
            data: self.at("data"),
            valid: None,
            labels: None,
            out: self.at("out"),
            rate_hz: RATE_HZ,
            trim: true,
            cut_takes: true,
            valid_fraction: 0.1,
            seed: 1,
            threads: 2,
        }
    }

    /// Twelve half-second notes of two labels, and two files that cannot be read.
    fn fill(&self) {
        for n in 0..6 {
            tone(&self.at(&format!("data/low/C{n}vL.wav")), 0.2, 1.0, 0.5);
            tone(&self.at(&format!("data/high/A{n}vH.wav")), 0.8, 0.0, 0.5);
        }
        fs::write(self.at("data/low/broken.flac"), b"fLaC").unwrap();
        fs::write(self.at("data/high/a.opus"), b"OggS").unwrap();
    }
}

fn quietly(_: Progress<'_>) -> Result<()> {
    Ok(())
}

fn run(options: &PrepareOptions) -> Prepared {
    prepare(options, &mut quietly).unwrap()
}

fn error_of(options: &PrepareOptions) -> String {
    let error = format!("{:#}", prepare(options, &mut quietly).unwrap_err());
    assert!(!error.contains('\n'), "{error}");
    error
}

fn table_of(prepared: &Prepared) -> String {
    let mut table = String::new();
    print_table(prepared, &mut table).unwrap();
    table
}

#[test]
fn a_folder_becomes_a_corpus_and_a_table() {
    let place = Place::new();
    place.fill();
    let prepared = run(&place.options());
    let names: Vec<&str> = prepared.entries().iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names[..2], ["high/A0vH.wav", "high/A1vH.wav"]);
    assert_eq!((names.len(), prepared.index().skipped.len()), (12, 2));
    // 0.5 s of tone, 50 ms kept of the silence, and at most a window of 10 ms for the filter.
    let low = &prepared.entries()[6];
    assert_eq!((low.label.as_deref(), low.key, low.velocity), (Some("low"), Some(12), Some(48)));
    assert!((4_400..=4_480).contains(&low.frames) && (0.19..0.21).contains(&low.peak), "{low:?}");
    assert_eq!(low.frames + low.dropped_frames, 12_000);
    let mut samples = vec![0.0; low.frames as usize];
    prepared.read(6, 0, &mut samples).unwrap();
    assert!(
        samples[..300].iter().all(|x| x.abs() < 0.01)
            && samples[600..700].iter().any(|x| *x > 0.19)
    );

    let table = table_of(&prepared);
    for line in [
        "read      12 files, 6.", // seconds
        "from      12 files at 16000 Hz mono\n",
        "skipped   2 files\n            high/a.opus is an .opus file, which is not read here",
        "            low/broken.flac is cut short or damaged",
        "labels    2: high 6, low 6\n",
        "notes     C0 to A5, in 12 of 12 files, velocity 48 to 104\n",
        "train     10 files, ",
        "valid     2 files, ",
    ] {
        assert!(table.contains(line), "no `{line}` in\n{table}");
    }
    assert!(!table.contains("warning"), "{table}");
}

#[test]
fn threads_do_not_change_a_byte() {
    let place = Place::new();
    place.fill();
    let bytes: Vec<_> = [1, 2, 5, 100]
        .into_iter()
        .map(|threads| {
            let out = place.at(&format!("out{threads}"));
            run(&PrepareOptions { threads, out: out.clone(), ..place.options() });
            corpus_bytes(&PrepareOptions { out, ..place.options() })
        })
        .collect();
    assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn preparing_again_decodes_only_what_changed() {
    let place = Place::new();
    place.fill();
    assert_eq!((decoded(&place.options()), decoded(&place.options())), (14, 0));
    assert_eq!(decoded(&PrepareOptions { threads: 7, ..place.options() }), 0);
    let untrimmed = PrepareOptions { trim: false, ..place.options() };
    assert_eq!(decoded(&untrimmed), 14);
    // One file is another, one is new; the two that cannot be read are tried again.
    tone(&place.at("data/low/C0vL.wav"), 0.3, 0.0, 0.25);
    tone(&place.at("data/high/A9vL.wav"), 0.3, 0.0, 0.25);
    assert_eq!(decoded(&untrimmed), 4);
    let elsewhere = PrepareOptions { out: place.at("anew"), ..untrimmed.clone() };
    assert_eq!(decoded(&elsewhere), 15);
    assert!(corpus_bytes(&untrimmed) == corpus_bytes(&elsewhere));
    // What was chosen for validation is chosen again, without decoding.
    assert_eq!(decoded(&PrepareOptions { seed: 2, ..untrimmed.clone() }), 2);
    // A prepared corpus that is damaged is made anew.
    fs::write(place.at("out/samples.f32"), [0; 3]).unwrap();
    assert_eq!(decoded(&untrimmed), 15);
}

#[test]
fn an_interrupted_preparation_goes_on_where_it_was() {
    let place = Place::new();
    place.fill();
    let whole = PrepareOptions { out: place.at("new/whole"), ..place.options() };
    run(&whole);
    let options = PrepareOptions { out: place.at("new/parts"), ..place.options() };
    let waiting = place.at("new/.prepare-parts");
    // high/: six recordings and one that cannot be read; low/: four more recordings.
    let interrupt = |files| {
        let stop = |progress: Progress<'_>| {
            ensure!(progress.done < files, "interrupted");
            Ok(())
        };
        let error = prepare(&options, &mut { stop }).unwrap_err();
        assert_eq!(error.to_string(), "interrupted");
        assert!(waiting.is_dir() && !options.out.exists());
    };
    interrupt(8);
    interrupt(11);
    // Interrupted sooner than the time before: nothing of that is lost.
    interrupt(3);
    // A sample that did not reach the disk, of the first recording.
    let store = waiting.join("partial/samples.f32");
    let mut samples = fs::read(&store).unwrap();
    samples[4_000..4_004].fill(0);
    fs::write(&store, samples).unwrap();
    assert_eq!(decoded(&options), 14 - 10 + 1);
    assert!(corpus_bytes(&options) == corpus_bytes(&whole));
    assert!(!waiting.exists());
    assert_eq!(decoded(&options), 0);
}

/// Files that were decoded, not taken over.
fn decoded(options: &PrepareOptions) -> usize {
    let mut files = 0;
    prepare(options, &mut |progress| {
        files += usize::from(!progress.known);
        Ok(())
    })
    .unwrap();
    files
}

fn corpus_bytes(options: &PrepareOptions) -> [Vec<u8>; 3] {
    ["index.json", "samples.f32", "sources.jsonl"]
        .map(|name| fs::read(options.out.join(name)).unwrap())
}

/// A phrase of three bursts of a tone, at 0.5, 1 and 1.5 s, of 0.3 s.
fn phrase(path: &Path) {
    let silence = path.with_extension("tmp");
    tone(&silence, 0.5, 0.5, 0.3);
    let burst: Vec<i16> =
        hound::WavReader::open(&silence).unwrap().into_samples().map(Result::unwrap).collect();
    let spec = hound::WavReader::open(&silence).unwrap().spec();
    fs::remove_file(silence).unwrap();
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    let after = burst[8_000..].iter().chain(&burst[..3_200]);
    let all = burst[..8_000].iter().chain(after.clone()).chain(after.clone()).chain(after);
    all.for_each(|&x| writer.write_sample(x).unwrap());
    writer.finalize().unwrap();
}

/// Those three notes, 40 ms earlier, 960 ticks a second; the last with another one below it.
fn score(last_velocity: u8) -> Vec<u8> {
    let mut track = Vec::new();
    // (ticks since the event before, key, velocity; 0 lets go)
    let events =
        [(442, 60, 90), (288, 60, 0), (192, 62, 91), (288, 62, 0), (192, 64, last_velocity)];
    for (ticks, key, velocity) in [&events[..], &[(0, 52, 80), (288, 64, 0), (0, 52, 0)]].concat() {
        track.extend([0x80 | (ticks >> 7) as u8, (ticks & 127) as u8, 0x90, key, velocity]);
    }
    track.extend([0, 0xFF, 0x2F, 0]);
    let mut bytes = b"MThd\0\0\0\x06\0\0\0\x01\x01\xE0MTrk".to_vec();
    bytes.extend((track.len() as u32).to_be_bytes());
    bytes.extend(track);
    bytes
}

#[test]
fn a_take_is_cut_into_the_notes_of_its_midi_file() {
    let place = Place::new();
    place.fill();
    phrase(&place.at("data/low/take.wav"));
    fs::write(place.at("data/low/take.mid"), score(92)).unwrap();
    let options = place.options();
    assert_eq!((decoded(&options), decoded(&options)), (15, 0));
    let prepared = run(&options);
    let notes: Vec<&Entry> =
        prepared.entries().iter().filter(|entry| entry.file() == "low/take.wav").collect();
    let told: Vec<_> = notes.iter().map(|note| (note.key, note.velocity)).collect();
    assert_eq!(told, [(Some(60), Some(90)), (Some(62), Some(91))]);
    for (note, begin_s) in notes.iter().zip([0.5, 1.0]) {
        let at_s = note.at_frame.unwrap() as f64 / f64::from(RATE_HZ);
        assert!((begin_s - 0.03..begin_s).contains(&at_s), "{at_s}");
        assert!((2_300..2_700).contains(&note.frames), "{note:?}");
        assert_eq!(note.name, format!("low/take.wav @{at_s:.3}s"));
        assert_eq!(note.label.as_deref(), Some("low"));
    }
    let table = table_of(&prepared);
    for line in [
        "read      13 files, ",
        "takes     2 notes of 1 file with MIDI files; 2 notes left out\n",
        "            low/take.wav @1.4",
        "s: another note sounds at the same time\n",
        "notes     C0 to A5, in 14 of 14 parts, velocity 48 to 104\n",
        "labels    2: high 6, low 7\n",
    ] {
        assert!(table.contains(line), "no `{line}` in\n{table}");
    }
    // From what an earlier preparation left, the same.
    let again = PrepareOptions { seed: 2, ..options.clone() };
    assert_eq!(decoded(&again), 2);
    assert_eq!(run(&again).index().left_notes, prepared.index().left_notes);

    fs::write(place.at("data/low/take.mid"), &score(92)[..40]).unwrap();
    let skipped = run(&options).index().skipped.clone();
    assert!(skipped.iter().any(|file| file.name == "low/take.wav"
        && file.reason.starts_with("cannot be cut into notes: the MIDI file ")));
    let whole = run(&PrepareOptions { cut_takes: false, ..options });
    let take = whole.entries().iter().find(|entry| entry.name == "low/take.wav").unwrap();
    assert_eq!((take.key, take.at_frame), (None, None));
    assert!(take.frames > 10_000);
}

#[test]
fn a_prepared_folder_is_opened_as_it_is() {
    let place = Place::new();
    place.fill();
    let first = run(&place.options());
    let options =
        PrepareOptions { data: place.at("out"), out: place.at("none"), ..place.options() };
    let opened = open_or_prepare(&options, &mut quietly).unwrap();
    assert_eq!(opened.index(), first.index());
    assert!(!place.at("none").exists());
    let other = PrepareOptions { rate_hz: 16_000, ..options };
    let error = open_or_prepare(&other, &mut quietly).unwrap_err().to_string();
    assert!(error.contains("prepared at 8000 Hz, but the model runs at 16000 Hz"), "{error}");
}

#[test]
fn the_end_of_a_single_file_is_set_aside() {
    let place = Place::new();
    tone(&place.at("data/only.wav"), 0.5, 0.0, 2.0);
    let prepared = run(&place.options());
    let parts: Vec<_> =
        prepared.entries().iter().map(|e| (e.split, e.offset_frames, e.frames)).collect();
    assert_eq!(parts, [(Split::Train, 0, 14_400), (Split::Valid, 14_400, 1_600)]);
    let table = table_of(&prepared);
    assert!(table.contains("read      1 file, 2.0 s at 8000 Hz mono\n"), "{table}");
    assert!(table.contains("valid     a part of 1 file, 0.2 s\n"), "{table}");
}

#[test]
fn a_folder_for_validation_is_used_whole() {
    let place = Place::new();
    place.fill();
    tone(&place.at("extra/low/1.wav"), 0.5, 0.0, 1.0);
    tone(&place.at("extra/odd/2.wav"), 0.5, 0.0, 1.0);
    let options = PrepareOptions { valid: Some(place.at("extra")), ..place.options() };
    let prepared = run(&options);
    let valid: Vec<_> = prepared.entries().iter().filter(|e| e.split == Split::Valid).collect();
    assert_eq!(
        valid.iter().map(|e| &e.name).collect::<Vec<_>>(),
        ["extra/low/1.wav", "extra/odd/2.wav"]
    );
    assert_eq!(prepared.entries().len(), 14);
    let table = table_of(&prepared);
    assert!(table.contains("note: label `odd` is validated on but never trained on"), "{table}");
    fs::write(place.at("extra/low/1.wav"), "").unwrap();
    fs::write(place.at("extra/odd/2.wav"), "").unwrap();
    assert!(error_of(&options).contains("the first of 2: extra/low/1.wav is an empty file"));
    let inside = PrepareOptions { valid: Some(place.at("data/low")), ..place.options() };
    assert!(error_of(&inside).contains("both trained on and validated on"));
}

#[test]
fn trimming_most_of_a_corpus_and_silence_are_said() {
    let place = Place::new();
    tone(&place.at("data/1.wav"), 0.5, 4.0, 0.5);
    tone(&place.at("data/2.wav"), 0.5, 4.0, 0.5);
    tone(&place.at("data/3.wav"), 0.0, 1.0, 0.0);
    let prepared = run(&place.options());
    assert_eq!(prepared.index().skipped[0].silent_frames, 8_000);
    let table = table_of(&prepared);
    assert!(table.contains("warning: trimming dropped 88 % of the recordings"), "{table}");
    assert!(table.contains("3.wav is silence all through"), "{table}");

    fs::remove_file(place.at("data/1.wav")).unwrap();
    fs::remove_file(place.at("data/2.wav")).unwrap();
    assert!(error_of(&place.options()).contains("data is silence: the level must exceed -80 dB"));
    let table = table_of(&run(&PrepareOptions { trim: false, ..place.options() }));
    assert!(table.contains("warning: all recordings are silent"), "{table}");
}

#[test]
fn errors_leave_nothing_behind_and_say_what_is_wrong() {
    let place = Place::new();
    assert!(error_of(&place.options()).contains("there is no folder"));
    fs::create_dir(place.at("data")).unwrap();
    assert!(error_of(&place.options()).contains("no recordings in"));
    fs::write(place.at("data/1.wav"), "RIFF\u{20}\0\0\0WAVEfmt ").unwrap();
    let error = error_of(&place.options());
    assert!(error.contains("the first of 1: 1.wav is cut short or damaged"), "{error}");
    tone(&place.at("data/1.wav"), 0.5, 0.0, 0.1);
    for wrong in [0.0, 1.0, f32::NAN] {
        let options = PrepareOptions { valid_fraction: wrong, ..place.options() };
        assert!(error_of(&options).contains("is not between 0 and 1"));
    }
    assert!(
        error_of(&PrepareOptions { rate_hz: 10, ..place.options() }).contains("a rate of 10 Hz")
    );
    assert!(
        error_of(&PrepareOptions { out: place.at("data"), ..place.options() })
            .contains("choose another")
    );
    assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 1);
}

#[test]
fn a_table_of_impossible_counts_is_still_a_table() {
    let place = Place::new();
    place.fill();
    run(&place.options());
    let path = place.at("out/index.json");
    let index = fs::read_to_string(&path).unwrap();
    let most = format!(": {},", u64::MAX);
    let index =
        ["dropped_frames", "clipped_samples", "damaged_packets"].iter().fold(index, |i, name| {
            let (name, zero) = (format!("\"{name}\""), format!("\"{name}\": 0,"));
            i.replace(&zero, &format!("{name}{most}"))
        });
    fs::write(&path, index).unwrap();
    let table = table_of(&Prepared::open(&place.at("out")).unwrap());
    assert!(
        table.contains(&format!("damaged   {} packets left out, in 12 files", u64::MAX)),
        "{table}"
    );
}

/// Real recordings in FLAC, WAV and Ogg Vorbis, where they lie beside the repository.
#[test]
fn real_recordings_are_all_read() {
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if !recordings.is_dir() {
        eprintln!("skipped: there is no folder {}", recordings.display());
        return;
    }
    for (folder, files, labels, notes) in
        [("piano-kw", 66, 0, 66), ("digits", 1000, 5, 0), ("birds", 2, 0, 0), ("speech", 2, 0, 0)]
    {
        let place = Place::new();
        let prepared = run(&PrepareOptions { data: recordings.join(folder), ..place.options() });
        let mut entries: Vec<&Entry> = prepared.entries().iter().collect();
        entries.dedup_by_key(|entry| &entry.name);
        assert_eq!((entries.len(), prepared.index().skipped.len()), (files, 0), "{folder}");
        let found: std::collections::BTreeSet<_> = entries.iter().map(|e| &e.label).collect();
        assert_eq!(found.iter().flat_map(|label| label.as_ref()).count(), labels, "{folder}");
        assert_eq!(entries.iter().filter(|e| e.key.is_some()).count(), notes, "{folder}");
        // A whale, and one of the speakers.
        let is_known = |e: &Entry| ["humpback", "nicolas/"].iter().any(|n| e.name.starts_with(n));
        assert!(entries.iter().all(|e| (e.offset != 0.0) == is_known(e)), "{folder}");
    }
}
