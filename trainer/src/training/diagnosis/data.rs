//! What is seen in the recordings, before the first step.

use wavenet_engine::Config;

use super::{Finding, Kind};
use crate::corpus::notes::key_name;
use crate::prepared::{Index, Split};
use crate::words::{count, listed};

/// Training data should last so many receptive fields.
const RECEPTIVE_FIELDS: u64 = 50;
/// So many names are listed; the rest is counted.
const LISTED: usize = 4;

/// What is seen in the data before the first step.
pub(in crate::training) fn of_data(index: &Index, config: &Config) -> Vec<Finding> {
    let field = config.receptive_field() as u64;
    let rate_hz = f64::from(config.sample_rate_hz);
    let field_ms = 1e3 * field as f64 / rate_hz;
    let train = index.entries.iter().filter(|entry| entry.split == Split::Train);
    let frames = train.clone().fold(0, |sum: u64, entry| sum.saturating_add(entry.frames));
    let (files, short) =
        (train.clone().count(), train.filter(|entry| entry.frames < field).count());
    let mut findings = Vec::new();
    if frames < RECEPTIVE_FIELDS * field {
        findings.push(Finding::new(
            Kind::TooLittle,
            format!(
                "there are {:.1} s to train on, {} the {field_ms:.0} ms that the model looks back on: add \
                 recordings (minutes, not seconds), or give it fewer dilations",
                frames as f64 / rate_hz,
                match frames / field {
                    0 => "less than".into(),
                    1 => "less than twice".into(),
                    times => format!("only {times} times"),
                }
            ),
        ));
    }
    if 4 * short > files {
        findings.push(Finding::new(
            Kind::ShortFiles,
            format!(
                "{short} of {files} training files are shorter than the {field_ms:.0} ms that the \
                 model looks back on, so it mostly sees the silence before them: use longer \
                 recordings, or give it fewer dilations"
            ),
        ));
    }
    findings
}

/// Some recordings tell their notes and some do not: the model gets no keys, and the user should know why.
pub fn of_missing_notes(index: &Index) -> Option<Finding> {
    let mut nameless: Vec<&str> = index
        .entries
        .iter()
        .filter(|entry| entry.key.is_none())
        .map(|entry| entry.file())
        .collect();
    nameless.dedup();
    let has_notes = index.entries.iter().any(|entry| entry.key.is_some());
    (has_notes && !nameless.is_empty()).then(|| {
        Finding::new(
            Kind::MissingNotes,
            format!(
                "no keys, as nothing tells the notes of {} ({}): name {2} by {3}, list {2} in \
                 labels.csv, remove {2}, or use --conditioning note, which leaves {2} out",
                count(nameless.len(), "file"),
                listed(nameless.iter().map(|name| (*name).to_owned()), LISTED),
                if nameless.len() == 1 { "it" } else { "them" },
                if nameless.len() == 1 { "its note" } else { "their notes" },
            ),
        )
    })
}

/// Recordings (by name) that surely sound like another key than the one that they are said to hold.
pub fn of_other_notes(others: &[(&str, u8)]) -> Option<Finding> {
    let names = others.iter().map(|(name, key)| format!("{name} like {}", key_name(*key)));
    let text = match others {
        [] => return None,
        [(name, key)] => format!(
            "{name} sounds like {}, which is not the note that it is named after: rename it, or say its \
             note in labels.csv",
            key_name(*key)
        ),
        _ => format!(
            "{} sound like other notes than they are named after: {}; rename them, or say their notes in \
             labels.csv",
            count(others.len(), "recording"),
            listed(names, LISTED)
        ),
    };
    Some(Finding::new(Kind::OtherNotes, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_names_a_few_are_told() {
        let of = |count: usize| {
            let names: Vec<String> = (0..count).map(|n| format!("{n}.wav")).collect();
            let others: Vec<(&str, u8)> = names.iter().map(|name| (&name[..], 66)).collect();
            of_other_notes(&others).map(|finding| finding.text)
        };
        assert_eq!(of(0), None);
        assert!(of(1).unwrap().starts_with("0.wav sounds like F#4, which"));
        let all = "sound like other notes than they are named after: 0.wav like F#4, 1.wav like F#4, \
                   2.wav like F#4, 3.wav like F#4";
        assert!(of(4).unwrap().contains(&format!("4 recordings {all}; rename")));
        assert!(of(9).unwrap().contains(&format!("9 recordings {all} and 5 more; rename")));
    }
}
