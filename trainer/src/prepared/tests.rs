use proptest::prelude::*;

use super::*;

fn entry(name: &str, split: Split, offset_frames: u64, frames: u64) -> Entry {
    Entry {
        name: name.to_owned(),
        label: Some("piano".to_owned()),
        key: Some(60),
        velocity: Some(100),
        at_frame: None,
        split,
        offset_frames,
        frames,
        source_rate_hz: 44_100,
        source_channels: 2,
        clipped_samples: 0,
        dropped_frames: 7,
        damaged_packets: 0,
        offset: 0.0,
        peak: 0.5,
    }
}

const FACTS: Facts = Facts {
    source_rate_hz: 44_100,
    source_channels: 2,
    clipped_samples: 0,
    dropped_frames: 7,
    damaged_packets: 0,
    offset: 0.0,
    take: None,
};

/// Two entries of 5000 and 300 samples: sample n is n / 10000.
fn write(folder: &Path) -> Prepared {
    let mut writer = PreparedWriter::create(folder).unwrap();
    let samples: Vec<f32> = (0..5_300).map(sample).collect();
    assert_eq!(writer.append("a", &samples[..5_000], &FACTS).unwrap(), 0);
    assert_eq!(writer.append("b", &samples[5_000..], &FACTS).unwrap(), 5_000);
    let entries =
        vec![entry("a.wav", Split::Train, 0, 5_000), entry("b.wav", Split::Valid, 5_000, 300)];
    writer
        .finish(Index {
            format: String::new(),
            version: 0,
            revision: 0,
            rate_hz: 16_000,
            trimmed: true,
            fingerprint: "f".to_owned(),
            entries,
            skipped: vec![],
            left_notes: vec![],
            notices: vec![],
        })
        .unwrap()
}

fn sample(n: usize) -> f32 {
    n as f32 / 10_000.0
}

#[test]
fn what_was_written_is_read_at_any_offset() {
    let parent = tempfile::tempdir().unwrap();
    let prepared = write(&parent.path().join("out"));
    assert_eq!((prepared.frames(Split::Train), prepared.frames(Split::Valid)), (5_000, 300));
    for (entry, start, frames) in
        [(0, 0, 5_000), (0, 4_999, 1), (1, 0, 300), (1, 299, 1), (1, 300, 0)]
    {
        let mut samples = vec![9.0; frames];
        prepared.read(entry, start as u64, &mut samples).unwrap();
        let want: Vec<f32> = (0..frames).map(|n| sample(entry * 5_000 + start + n)).collect();
        assert_eq!(samples, want, "entry {entry} from {start}");
    }
    // Nothing else is left beside it.
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
}

#[test]
fn reads_never_cross_the_border_of_an_entry() {
    let parent = tempfile::tempdir().unwrap();
    let prepared = write(&parent.path().join("out"));
    for (entry, start, frames) in
        [(0, 4_999, 2), (0, 5_001, 0), (1, 0, 301), (1, u64::MAX, 1), (2, 0, 0)]
    {
        assert!(prepared.read(entry, start, &mut vec![0.0; frames]).is_err(), "{entry} {start}");
    }
}

#[test]
fn an_older_corpus_is_replaced_and_anything_else_is_not() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    std::fs::create_dir(&out).unwrap();
    write(&out);
    write(&out);
    assert!(is_prepared(&out));
    std::fs::write(parent.path().join("diary.txt"), "dear diary").unwrap();
    let error = PreparedWriter::create(parent.path()).err().unwrap().to_string();
    assert!(error.contains("is not a prepared corpus: choose another folder"), "{error}");
    assert!(!is_prepared(parent.path()));
}

#[test]
fn a_writer_that_is_dropped_leaves_no_trace() {
    let parent = tempfile::tempdir().unwrap();
    let mut writer = PreparedWriter::create(&parent.path().join("out")).unwrap();
    writer.append("a", &[0.5; 10], &FACTS).unwrap();
    // Nobody else may write there meanwhile.
    let error = PreparedWriter::create(&parent.path().join("out")).err().unwrap().to_string();
    assert!(error.contains("is being prepared by another program"), "{error}");
    drop(writer);
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
}

/// The index with one piece of text replaced must be refused.
#[test]
fn an_index_that_cannot_be_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    write(&out);
    let index = std::fs::read_to_string(out.join(INDEX_FILE)).unwrap();
    for (from, to, want) in [
        ("wavenet-prepared", "other", "is not the index"),
        ("\"version\": 1", "\"version\": 2", "another version (format 2, this one reads 1)"),
        ("\"rate_hz\": 16000", "\"rate_hz\": 0", "its rate is 0 Hz"),
        ("\"offset_frames\": 5000", "\"offset_frames\": 4999", "does not follow"),
        ("\"frames\": 300", "\"frames\": 301", "21200 bytes for 5301 samples"),
        ("\"frames\": 300", "\"frames\": 18446744073709551615", "too many samples"),
        ("\"frames\": 300", "\"frames\": 4611686018427387904", "bytes for"),
        ("\"key\": 60", "\"key\": 128", "no MIDI key"),
        ("\"velocity\": 100", "\"velocity\": 0", "no MIDI velocity"),
        ("\"peak\": 0.5", "\"peak\": 1.5", "exceeds full scale"),
        ("\"valid\"", "\"test\"", "unknown variant `test`"),
    ] {
        assert!(index.contains(from), "{from}");
        std::fs::write(out.join(INDEX_FILE), index.replace(from, to)).unwrap();
        let error = format!("{:#}", Prepared::open(&out).unwrap_err());
        assert!(error.contains(want), "{error} does not say `{want}`");
        assert!(!error.contains('\n'));
    }
}

#[test]
fn samples_that_are_no_samples_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    write(&out);
    let mut bytes = std::fs::read(out.join(SAMPLES_FILE)).unwrap();
    bytes[400..404].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(out.join(SAMPLES_FILE), bytes).unwrap();
    let prepared = Prepared::open(&out).unwrap();
    assert!(prepared.read(0, 0, &mut [0.0; 100]).is_ok());
    assert!(prepared.read(0, 0, &mut [0.0; 101]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is in the journal and the samples: the samples that were written, or none.
    #[test]
    fn damaged_journals_give_nothing_wrong(
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        sample in any::<prop::sample::Index>(),
        keep_samples in 19_000_usize..21_300,
    ) {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("out");
        write(&out);
        let mut journal = std::fs::read(out.join(journal::JOURNAL_FILE)).unwrap();
        for (place, value) in places {
            let place = place.index(journal.len());
            journal[place] = value;
        }
        std::fs::write(out.join(journal::JOURNAL_FILE), journal).unwrap();
        let mut samples = std::fs::read(out.join(SAMPLES_FILE)).unwrap();
        let place = sample.index(samples.len());
        samples[place] ^= 1;
        samples.truncate(keep_samples);
        std::fs::write(out.join(SAMPLES_FILE), samples).unwrap();
        if let Some(earlier) = Earlier::open(&out) {
            for (source, frames) in [("a", 0..5_000), ("b", 5_000..5_300)] {
                if let Some((found, facts)) = earlier.find(source) {
                    prop_assert_eq!(facts, super::tests::FACTS);
                    prop_assert_eq!(found, frames.map(super::tests::sample).collect::<Vec<_>>());
                }
            }
        }
    }

    /// Whatever is in the two files: an error, or a corpus every entry of which can be read.
    #[test]
    fn damaged_bytes_never_panic(
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        keep_index in 0_usize..4_000,
        keep_samples in 0_usize..42_400,
    ) {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("out");
        write(&out);
        let damage = |name: &str, keep: usize, places: &[(prop::sample::Index, u8)]| {
            let mut bytes = std::fs::read(out.join(name)).unwrap();
            for (place, value) in places {
                let place = place.index(bytes.len());
                bytes[place] = *value;
            }
            bytes.truncate(keep);
            std::fs::write(out.join(name), bytes).unwrap();
        };
        damage(INDEX_FILE, keep_index, &places);
        damage(SAMPLES_FILE, keep_samples, &[]);
        if let Ok(prepared) = Prepared::open(&out) {
            for (n, entry) in prepared.entries().iter().enumerate() {
                prepared.read(n, 0, &mut vec![0.0; entry.frames as usize]).unwrap();
            }
        }
    }
}
