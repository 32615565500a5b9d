//! What later revisions do to some recordings, and what becomes of caches that earlier ones wrote.

use super::super::sources::{file_key, source_key};
use super::*;

/// A tone on a constant.
fn tone_on(path: &Path, mean: f32) {
    tone(path, 0.5, 0.0, 0.5);
    let spec = hound::WavReader::open(path).unwrap().spec();
    let samples: Vec<i16> =
        hound::WavReader::open(path).unwrap().into_samples().map(Result::unwrap).collect();
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    let add = (mean * 32_767.0) as i16;
    samples.iter().for_each(|sample| writer.write_sample(sample + add).unwrap());
    writer.finalize().unwrap();
}

fn bytes_of(options: &PrepareOptions, name: &str) -> Vec<u8> {
    fs::read(options.out.join(name)).unwrap()
}

/// Makes a corpus one that revision 0 wrote.
fn grow_old(options: &PrepareOptions) {
    let path = options.out.join("index.json");
    let index = fs::read_to_string(&path).unwrap();
    let old = index.replacen("  \"revision\": 1,\n", "", 1);
    assert_ne!(old, index);
    fs::write(path, old).unwrap();
    let path = options.out.join("sources.jsonl");
    let journal = fs::read_to_string(&path).unwrap();
    let sources = find_sources(options).unwrap().0;
    let old = sources.iter().fold(journal.clone(), |journal, source| {
        journal.replace(&source_key(options, source), &file_key(options, source))
    });
    assert_ne!(old, journal);
    fs::write(path, old).unwrap();
}

fn unchanged_fingerprint(options: &PrepareOptions) -> String {
    fingerprint(options, &find_sources(options).unwrap().0)
}

#[test]
fn an_offset_is_taken_away_and_the_other_files_stay() {
    let place = Place::new();
    place.fill();
    let options = place.options();
    let before = run(&options);
    assert_eq!(before.index().fingerprint, unchanged_fingerprint(&options));
    let old = bytes_of(&options, "samples.f32");
    assert!(!table_of(&before).contains("offset"));

    // The last one, so that the others lie where they did.
    tone_on(&place.at("data/low/D0vL.wav"), 0.36);
    let prepared = run(&options);
    let end = prepared.entries().last().unwrap();
    assert!((end.offset - 0.36).abs() < 1e-3, "{end:?}");
    assert!((0.49..0.51).contains(&end.peak), "{end:?}");
    assert!(bytes_of(&options, "samples.f32").starts_with(&old));
    let index = String::from_utf8(bytes_of(&options, "index.json")).unwrap();
    assert_eq!(index.matches("\"offset\"").count(), 1);
    let line = "\noffset    1 file, up to 36 % of full scale, taken away\n";
    assert!(table_of(&prepared).contains(line), "{}", table_of(&prepared));

    // Taken over from there it is told as well, and the corpus is another than one that still has it.
    let again = PrepareOptions { seed: 2, ..options.clone() };
    assert_eq!(decoded(&again), 2);
    assert_eq!(run(&again).entries().last().unwrap().offset, end.offset);
    assert_eq!((decoded(&options), decoded(&options)), (2, 0));
    assert_ne!(run(&options).index().fingerprint, unchanged_fingerprint(&options));
}

#[test]
fn a_cache_of_an_earlier_revision_is_made_anew() {
    let place = Place::new();
    place.fill();
    let options = place.options();
    assert_eq!((decoded(&options), decoded(&options)), (14, 0));
    let bytes = corpus_bytes(&options);
    grow_old(&options);
    // Its samples may hold what this one takes away.
    assert_eq!(decoded(&options), 14);
    assert!(corpus_bytes(&options) == bytes);
    // Given as it is, without its recordings, it is read.
    grow_old(&options);
    let given = PrepareOptions { data: options.out.clone(), ..options };
    assert_eq!(open_or_prepare(&given, &mut quietly).unwrap().entries().len(), 12);
}

#[test]
fn of_few_files_the_end_of_each_is_set_aside() {
    let place = Place::new();
    for name in ["a", "b", "c", "d"] {
        tone(&place.at(&format!("data/{name}.wav")), 0.5, 0.0, 2.0);
    }
    let options = place.options();
    let prepared = run(&options);
    let parts: Vec<_> =
        prepared.entries().iter().map(|e| (e.split, e.offset_frames, e.frames)).collect();
    assert_eq!(parts[..2], [(Split::Train, 0, 14_400), (Split::Valid, 14_400, 1_600)]);
    assert_eq!(parts[6..], [(Split::Train, 48_000, 14_400), (Split::Valid, 62_400, 1_600)]);
    let table = table_of(&prepared);
    for line in [
        "read      4 files, 8.0 s at 8000 Hz mono\n",
        "train     a part of each of 4 files, 7.2 s\n",
        "valid     a part of each of 4 files, 0.8 s\n",
    ] {
        assert!(table.contains(line), "no `{line}` in\n{table}");
    }
    assert_ne!(prepared.index().fingerprint, unchanged_fingerprint(&options));
    assert_eq!(decoded(&options), 0);

    // Five are enough to set one aside; notes are whole or none.
    tone(&place.at("data/e.wav"), 0.5, 0.0, 2.0);
    let prepared = run(&options);
    assert_eq!((prepared.entries().len(), prepared.frames(Split::Valid)), (5, 16_000));
    let notes = Place::new();
    for name in ["A3", "A4", "A5"] {
        tone(&notes.at(&format!("data/{name}.wav")), 0.5, 0.0, 2.0);
    }
    let prepared = run(&notes.options());
    assert_eq!((prepared.entries().len(), prepared.frames(Split::Valid)), (3, 16_000));
    assert_eq!(prepared.index().fingerprint, unchanged_fingerprint(&notes.options()));
}
