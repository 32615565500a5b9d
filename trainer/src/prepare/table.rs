//! What preparing found and did, in words, from the index alone.

use std::collections::BTreeMap;
use std::fmt::{Result, Write};

use crate::corpus::notes::key_name;
use crate::prepared::{Entry, Index, Prepared, Split};
use crate::words::{count, listed};

/// A corpus whose largest sample is under this (-60 dB) is called silent.
const SILENT_PEAK: f32 = 1e-3;

/// So many names are listed; the rest is counted.
const LISTED: usize = 12;

/// What preparing found and did: what was read, skipped, trimmed and set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// In the order in which they are shown.
    pub rows: Vec<Row>,
    /// What was decided for the user, in sentences.
    pub notes: Vec<String>,
    /// What the user should look at, in sentences.
    pub warnings: Vec<String>,
}

/// A row of a [`Table`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// One word.
    pub title: &'static str,
    /// What there is to say.
    pub text: String,
    /// More lines, one a file.
    pub details: Vec<String>,
}

/// Writes a table of `prepared` to `out` (print it on stderr), followed by notes and warnings.
///
/// # Errors
///
/// Those of `out`.
pub fn print_table(prepared: &Prepared, out: &mut dyn Write) -> Result {
    let table = Table::of(prepared.index());
    for Row { title, text, details } in &table.rows {
        writeln!(out, "{title:<10}{text}")?;
        details.iter().try_for_each(|line| writeln!(out, "            {line}"))?;
    }
    table.notes.iter().try_for_each(|line| writeln!(out, "note: {line}"))?;
    table.warnings.iter().try_for_each(|line| writeln!(out, "warning: {line}"))
}

impl Table {
    /// The table of a corpus.
    pub fn of(index: &Index) -> Self {
        // A part has two entries when its end is set aside, and a file many parts when it is cut into
        // notes; the first carries the counts.
        let mut parts: Vec<&Entry> = index.entries.iter().collect();
        parts.dedup_by_key(|entry| &entry.name);
        let mut files = parts.clone();
        files.dedup_by_key(|entry| entry.file());
        let kept = sum(index.entries.iter().map(|entry| entry.frames));
        let dropped = dropped_frames(index);
        let mut rows = sources(index, &files, kept);
        rows.extend(takes(index, &parts));
        rows.push(trimmed(index, kept, dropped));
        rows.extend(offsets(&files));
        rows.extend(counted(
            "clipped",
            &files,
            |file| file.clipped_samples,
            "sample",
            "at full scale",
        ));
        rows.extend(counted("damaged", &files, |file| file.damaged_packets, "packet", "left out"));
        rows.extend([labels(&files, &parts), notes(&parts)]);
        rows.extend(splits(index, files.len(), parts.len()));
        let warnings = warnings(index, &parts, kept, dropped);
        Self { rows, notes: index.notices.clone(), warnings }
    }
}

fn row(title: &'static str, text: String) -> Row {
    Row { title, text, details: Vec::new() }
}

/// What was read, and what was not.
fn sources(index: &Index, files: &[&Entry], kept: u64) -> Vec<Row> {
    let rate_hz = index.rate_hz;
    let read = count(files.len(), "file");
    let read = format!("{read}, {} at {rate_hz} Hz mono", duration(kept, rate_hz));
    let kinds = tally(files.iter().map(|file| (file.source_rate_hz, file.source_channels)));
    let kinds = kinds.iter().map(|(&(rate_hz, channels), files)| {
        format!("{} at {rate_hz} Hz {}", count(*files, "file"), channel_name(channels))
    });
    let mut rows = vec![row("read", read), row("from", listed(kinds, LISTED))];
    if !index.skipped.is_empty() {
        let details = index.skipped.iter().map(|file| format!("{} {}", file.name, file.reason));
        let text = count(index.skipped.len(), "file");
        rows.push(Row { title: "skipped", text, details: details.collect() });
    }
    rows
}

/// What was cut into notes.
fn takes(index: &Index, parts: &[&Entry]) -> Option<Row> {
    let cut = || parts.iter().filter(|part| part.at_frame.is_some());
    let takes = tally(cut().map(|part| part.file())).len();
    let text = format!(
        "{} of {} with MIDI files; {} left out",
        count(cut().count(), "note"),
        count(takes, "file"),
        count(index.left_notes.len(), "note")
    );
    let left = index.left_notes.iter().map(|note| format!("{}: {}", note.name, note.reason));
    let mut details: Vec<String> = left.take(LISTED).collect();
    if index.left_notes.len() > LISTED {
        details.push(format!("and {} more", index.left_notes.len() - LISTED));
    }
    (takes > 0).then_some(Row { title: "takes", text, details })
}

fn trimmed(index: &Index, kept: u64, dropped: u64) -> Row {
    let percent = percent(dropped, kept.saturating_add(dropped));
    let dropped = duration(dropped, index.rate_hz);
    let text = format!("{dropped} of silence, {percent} %");
    row("trimmed", if index.trimmed { text } else { "nothing".into() })
}

/// The means that were taken away.
fn offsets(files: &[&Entry]) -> Option<Row> {
    let largest = files.iter().map(|file| file.offset.abs()).fold(0.0, f32::max);
    let among = files.iter().filter(|file| file.offset != 0.0).count();
    let text = || {
        let percent = 100.0 * largest;
        let decimals = usize::from(percent < 10.0);
        format!("{}, up to {percent:.decimals$} % of full scale, taken away", count(among, "file"))
    };
    (among > 0).then(|| row("offset", text()))
}

/// A row, where there is something to count.
fn counted(
    title: &'static str,
    files: &[&Entry],
    count_of: impl Fn(&Entry) -> u64,
    what: &str,
    how: &str,
) -> Option<Row> {
    let total = sum(files.iter().map(|file| count_of(file)));
    let among = files.iter().filter(|file| count_of(file) > 0).count();
    let text = || format!("{} {how}, in {}", count(total, what), count(among, "file"));
    (total > 0).then(|| row(title, text()))
}

fn labels(files: &[&Entry], parts: &[&Entry]) -> Row {
    let labels = tally(files.iter().filter_map(|file| file.label.as_deref()));
    if labels.is_empty() {
        // Notes are told apart by other means than classes, and a bare none would deny it.
        let has_notes = parts.iter().any(|part| part.key.is_some());
        let text = if has_notes { "notes only, no classes" } else { "none" };
        return row("labels", text.into());
    }
    let names = labels.iter().map(|(label, files)| format!("{label} {files}"));
    row("labels", format!("{}: {}", labels.len(), listed(names, LISTED)))
}

fn notes(parts: &[&Entry]) -> Row {
    let keys: Vec<u8> = parts.iter().filter_map(|file| file.key).collect();
    let (Some(&lowest), Some(&highest)) = (keys.iter().min(), keys.iter().max()) else {
        return row("notes", "none".into());
    };
    let (lowest, highest) = (key_name(lowest), key_name(highest));
    let among = count(parts.len(), noun(parts.iter().copied()));
    let mut text = format!("{lowest} to {highest}, in {} of {among}", keys.len());
    let velocities = || parts.iter().filter_map(|file| file.velocity);
    if let (Some(softest), Some(loudest)) = (velocities().min(), velocities().max()) {
        text += &format!(", velocity {softest} to {loudest}");
    }
    row("notes", text)
}

/// What is for training, and what for validation.
fn splits(index: &Index, files: usize, parts: usize) -> Vec<Row> {
    let is_divided = index.entries.len() > parts;
    let part = |(title, split)| {
        let part = index.entries.iter().filter(|entry| entry.split == split);
        let (entries, frames) = part
            .fold((0, 0_u64), |(n, frames), entry| (n + 1, frames.saturating_add(entry.frames)));
        let whole = if entries > 0 && files == 1 {
            "a part of 1 file".into()
        } else if entries > 0 && is_divided {
            format!("a part of each of {}", count(entries, "file"))
        } else {
            count(entries, noun(index.entries.iter()))
        };
        row(title, format!("{whole}, {}", duration(frames, index.rate_hz)))
    };
    [("train", Split::Train), ("valid", Split::Valid)].map(part).into()
}

/// What entries are.
fn noun<'a>(mut entries: impl Iterator<Item = &'a Entry>) -> &'static str {
    if entries.any(|entry| entry.at_frame.is_some()) { "part" } else { "file" }
}

fn warnings(index: &Index, parts: &[&Entry], kept: u64, dropped: u64) -> Vec<String> {
    let mut lines = Vec::new();
    if dropped > kept {
        lines.push(format!(
            "trimming dropped {} % of the recordings as silence: listen to them, or prepare without \
             trimming",
            percent(dropped, kept.saturating_add(dropped))
        ));
    }
    let silent = parts.iter().filter(|part| part.peak < SILENT_PEAK).count();
    if silent == parts.len() {
        lines
            .push("all recordings are silent (under -60 dB): the model would learn silence".into());
    } else if silent > 0 {
        lines.push(format!(
            "{} of {} are silent (under -60 dB)",
            silent,
            count(parts.len(), noun(parts.iter().copied()))
        ));
    }
    let mut frames: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for part in parts {
        let (clipped, all) = frames.entry(part.file()).or_default();
        *clipped = clipped.saturating_add(part.clipped_samples);
        *all = all.saturating_add(part.frames);
    }
    let clipped = frames.values().filter(|(clipped, all)| *clipped > all / 1000).count();
    if clipped > 0 {
        lines.push(format!(
            "{} at full scale in more than one sample of 1000: the model will learn the distortion",
            if clipped == 1 { "1 file is".into() } else { format!("{clipped} files are") }
        ));
    }
    if index.entries.iter().all(|entry| entry.split == Split::Train) {
        lines.push("nothing is set aside for validation".into());
    }
    lines
}

fn dropped_frames(index: &Index) -> u64 {
    let cut = index.entries.iter().map(|entry| entry.dropped_frames);
    sum(cut.chain(index.skipped.iter().map(|file| file.silent_frames)))
}

fn tally<T: Ord>(things: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut tally = BTreeMap::new();
    things.for_each(|thing| *tally.entry(thing).or_default() += 1);
    tally
}

/// An index may claim anything of the recordings it was made from: counts saturate.
fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

fn channel_name(channels: u32) -> String {
    match channels {
        1 => "mono".into(),
        2 => "stereo".into(),
        more => format!("with {more} channels"),
    }
}

fn duration(frames: u64, rate_hz: u32) -> String {
    let seconds = frames as f64 / f64::from(rate_hz.max(1));
    if seconds < 120.0 { format!("{seconds:.1} s") } else { format!("{:.1} min", seconds / 60.0) }
}

fn percent(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    percent as u64
}
