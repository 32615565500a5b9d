//! The files that a corpus is prepared from, and fingerprints of them.

use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};

use super::PrepareOptions;
use crate::corpus::{self, Item};
use crate::hex::hex;
use crate::prepared::{Entry, REVISION, Split, VERSION};
use crate::trim::TrimOptions;

/// A file, and what it is for: validation if it comes from the folder for that.
pub(super) struct Source {
    pub(super) item: Item,
    pub(super) split: Split,
}

/// The files of both folders, data first, and what was decided about them.
pub(super) fn find_sources(options: &PrepareOptions) -> Result<(Vec<Source>, Vec<String>)> {
    let folders: Vec<&Path> =
        [Some(&options.data), options.valid.as_ref()].into_iter().flatten().map(|f| &**f).collect();
    let found = corpus::find(&folders, options.labels.as_deref())?;
    if let [data, valid] = folders[..] {
        let (data, valid) = (data.canonicalize()?, valid.canonicalize()?);
        ensure!(
            !data.starts_with(&valid) && !valid.starts_with(&data),
            "one of {} and {} lies in the other: files would be both trained on and validated on",
            folders[0].display(),
            folders[1].display()
        );
    }
    let (mut sources, mut notices) = (Vec::new(), Vec::new());
    for ((found, folder), split) in found.into_iter().zip(folders).zip([Split::Train, Split::Valid])
    {
        for mut item in found.items {
            if split == Split::Valid {
                item.name = format!("{}/{}", corpus::own_name(folder)?, item.name);
            }
            sources.push(Source { item, split });
        }
        notices.extend(found.notices);
    }
    Ok((sources, notices))
}

/// SHA-256 (hex) over all that the result depends on.
pub(super) fn fingerprint(options: &PrepareOptions, sources: &[Source]) -> String {
    let fraction = options.valid_fraction;
    let mut hash = Sha256::new();
    hash.update(format!("{fraction} {}\n", options.seed));
    for source in sources {
        let Source { item, split } = source;
        hash.update(format!("{} {split:?}\n", file_key(options, source)));
        hash.update(format!("{:?} {:?}\n", item.label, item.note));
    }
    hex(hash)
}

/// The same, and what was done to the files that revision 0 did not do. Where that is nothing it is the same
/// corpus, and a run on it can be resumed.
pub(super) fn with_changes(fingerprint: &str, entries: &[Entry]) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{fingerprint}\n"));
    let offsets = entries.iter().filter(|entry| entry.offset != 0.0);
    offsets.clone().for_each(|entry| hash.update(format!("{:?} {}\n", entry.name, entry.offset)));
    // The end of a single file was always set aside.
    let is_divided =
        entries.len() > 2 && entries.windows(2).any(|pair| pair[0].name == pair[1].name);
    hash.update(format!("{is_divided}\n"));
    if is_divided || offsets.count() > 0 { hex(hash) } else { fingerprint.into() }
}

/// SHA-256 (hex) over all that the samples of one file depend on.
pub(super) fn source_key(options: &PrepareOptions, source: &Source) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{REVISION} {}\n", file_key(options, source)));
    hex(hash)
}

/// SHA-256 (hex) over a file, by its name, size and time of change, and how it is read.
pub(super) fn file_key(options: &PrepareOptions, source: &Source) -> String {
    let trimming = options.trim.then(TrimOptions::default);
    let (bytes, changed_ns) = state(&source.item.path);
    let mut hash = Sha256::new();
    hash.update(format!("{VERSION} {} {trimming:?}\n", options.rate_hz));
    hash.update(format!("{:?} {bytes:?} {changed_ns:?}\n", source.item.name));
    if let (Some(midi), true) = (&source.item.midi, options.cut_takes) {
        hash.update(format!("{midi:?} {:?}\n", state(midi)));
    }
    hex(hash)
}

/// Size and time of change of a file, in ns, as far as they can be had.
fn state(path: &Path) -> (Option<u64>, Option<u128>) {
    let metadata = path.metadata().ok();
    let bytes = metadata.as_ref().map(|metadata| metadata.len());
    let changed = metadata.and_then(|metadata| metadata.modified().ok());
    let changed_ns = changed.and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map(|t| t.as_nanos());
    (bytes, changed_ns)
}
