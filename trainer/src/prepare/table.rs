//! What preparing found and did, in words, from the index alone.

use std::collections::BTreeMap;
use std::fmt::{Display, Result, Write};

use crate::corpus::notes::key_name;
use crate::prepared::{Entry, Index, Prepared, Split};

/// A corpus whose largest sample is under this (-60 dB) is called silent.
const SILENT_PEAK: f32 = 1e-3;

/// So many names are listed; the rest is counted.
const LISTED: usize = 12;

/// Writes a table of `prepared` to `out` (print it on stderr): what was read, skipped, trimmed and
/// set aside, followed by notices and warnings.
///
/// # Errors
///
/// Those of `out`.
pub fn print_table(prepared: &Prepared, out: &mut dyn Write) -> Result {
    let index = prepared.index();
    write_table(index, out)
}

fn write_table(index: &Index, out: &mut dyn Write) -> Result {
    // A file has two entries when its end is set aside; the first carries the counts.
    let mut files: Vec<&Entry> = index.entries.iter().collect();
    files.dedup_by_key(|entry| &entry.name);

    let time = |frames: u64| duration(frames, index.rate_hz);
    let kept = sum(index.entries.iter().map(|entry| entry.frames));
    writeln!(
        out,
        "read      {}, {} at {} Hz mono",
        count(files.len(), "file"),
        time(kept),
        index.rate_hz
    )?;
    let sources = tally(files.iter().map(|file| (file.source_rate_hz, file.source_channels)));
    let sources = sources.iter().map(|(&(rate_hz, channels), files)| {
        format!("{} at {rate_hz} Hz {}", count(*files, "file"), channel_name(channels))
    });
    writeln!(out, "from      {}", listed(sources))?;
    if !index.skipped.is_empty() {
        writeln!(out, "skipped   {}", count(index.skipped.len(), "file"))?;
        for file in &index.skipped {
            writeln!(out, "            {} {}", file.name, file.reason)?;
        }
    }
    let dropped = dropped_frames(index);
    if index.trimmed {
        let percent = percent(dropped, kept.saturating_add(dropped));
        writeln!(out, "trimmed   {} of silence, {percent} %", time(dropped))?;
    } else {
        writeln!(out, "trimmed   nothing")?;
    }
    counted(out, "clipped", &files, |file| file.clipped_samples, "sample", "at full scale")?;
    counted(out, "damaged", &files, |file| file.damaged_packets, "packet", "left out")?;
    write_labels(&files, out)?;
    write_notes(&files, out)?;
    for (name, split) in [("train", Split::Train), ("valid", Split::Valid)] {
        let part = index.entries.iter().filter(|entry| entry.split == split);
        let (entries, frames) =
            part.fold((0, 0), |(n, frames), entry| (n + 1, frames + entry.frames));
        let whole = if entries > 0 && files.len() == 1 {
            "a part of 1 file".into()
        } else {
            count(entries, "file")
        };
        writeln!(out, "{name:<10}{whole}, {}", time(frames))?;
    }
    for notice in &index.notices {
        writeln!(out, "note: {notice}")?;
    }
    warnings(index, &files, kept, dropped)
        .iter()
        .try_for_each(|line| writeln!(out, "warning: {line}"))
}

/// One line, where there is something to count.
fn counted(
    out: &mut dyn Write,
    title: &str,
    files: &[&Entry],
    count_of: impl Fn(&Entry) -> u64,
    what: &str,
    how: &str,
) -> Result {
    let total = sum(files.iter().map(|file| count_of(file)));
    let among = files.iter().filter(|file| count_of(file) > 0).count();
    if total > 0 {
        writeln!(out, "{title:<10}{} {how}, in {}", count(total, what), count(among, "file"))?;
    }
    Ok(())
}

fn write_labels(files: &[&Entry], out: &mut dyn Write) -> Result {
    let labels = tally(files.iter().filter_map(|file| file.label.as_deref()));
    if labels.is_empty() {
        return writeln!(out, "labels    none");
    }
    let names = labels.iter().map(|(label, files)| format!("{label} {files}"));
    writeln!(out, "labels    {}: {}", labels.len(), listed(names))
}

fn write_notes(files: &[&Entry], out: &mut dyn Write) -> Result {
    let keys: Vec<u8> = files.iter().filter_map(|file| file.key).collect();
    let (Some(&lowest), Some(&highest)) = (keys.iter().min(), keys.iter().max()) else {
        return writeln!(out, "notes     none");
    };
    let (lowest, highest) = (key_name(lowest), key_name(highest));
    write!(
        out,
        "notes     {lowest} to {highest}, in {} of {}",
        keys.len(),
        count(files.len(), "file")
    )?;
    let velocities = || files.iter().filter_map(|file| file.velocity);
    match (velocities().min(), velocities().max()) {
        (Some(softest), Some(loudest)) => writeln!(out, ", velocity {softest} to {loudest}"),
        _ => writeln!(out),
    }
}

fn warnings(index: &Index, files: &[&Entry], kept: u64, dropped: u64) -> Vec<String> {
    let mut lines = Vec::new();
    if dropped > kept {
        lines.push(format!(
            "trimming dropped {} % of the recordings as silence: listen to them, or prepare without \
             trimming",
            percent(dropped, kept.saturating_add(dropped))
        ));
    }
    let silent = files.iter().filter(|file| file.peak < SILENT_PEAK).count();
    if silent == files.len() {
        lines
            .push("all recordings are silent (under -60 dB): the model would learn silence".into());
    } else if silent > 0 {
        lines.push(format!(
            "{} of {} are silent (under -60 dB)",
            silent,
            count(files.len(), "file")
        ));
    }
    let clipped = files.iter().filter(|file| file.clipped_samples > file.frames / 1000).count();
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

fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    match names.get(LISTED..) {
        Some(rest) if !rest.is_empty() => {
            format!("{} and {} more", names[..LISTED].join(", "), rest.len())
        }
        _ => names.join(", "),
    }
}

fn count(number: impl Display + PartialEq + From<u8>, what: &str) -> String {
    format!("{number} {what}{}", if number == 1.into() { "" } else { "s" })
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
