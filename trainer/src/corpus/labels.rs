//! A table that says what recordings hold, where their names and folders do not: `labels.csv`.
//!
//! ```text
//! file,note,velocity,class
//! take 12.wav,C#3,100,bow
//! sub/x.flac,61,,
//! humming.wav,none,,voice
//! ```
//!
//! `file` is a path below the folder of recordings; the other columns may be missing or stand in any
//! order, and `key` is another name for `note`. An empty cell leaves what name and folder tell; `none`
//! says that there is no note. Lines of the file are counted from 1, the header's.
//!
//! The bytes come from outside: every one of them gives labels or a one-line error.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use csv::{ErrorKind, ReaderBuilder, StringRecord, Trim};

use super::notes::{NoteName, spelled_key};

/// The name by which labels are found in a folder of recordings.
pub(crate) const LABELS_FILE: &str = "labels.csv";
/// Larger files are refused before they are read.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// What one line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Label {
    line: usize,
    /// A key, or that there is none.
    note: Option<Option<u8>>,
    velocity: Option<u8>,
    pub(super) class: Option<String>,
}

/// The lines of a table, by file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Labels(BTreeMap<String, Label>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    File,
    Note,
    Velocity,
    Class,
}

impl Labels {
    /// Reads a table.
    ///
    /// # Errors
    /// One line that names the file, the line and the column.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let cannot = || format!("cannot read the labels {shown}");
        let metadata = path.metadata().with_context(cannot)?;
        ensure!(metadata.is_file(), "{}: it is not a file", cannot());
        ensure!(metadata.len() <= MAX_FILE_BYTES, "{}: it is larger than 64 MiB", cannot());
        let bytes = std::fs::read(path).with_context(cannot)?;
        Self::parse(&bytes).with_context(|| shown.to_string())
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(bytes);
        let header = reader.headers().map_err(|error| why(&error)).and_then(columns);
        let columns = header.context("line 1")?;
        let mut labels = BTreeMap::new();
        let mut record = StringRecord::new();
        let mut lines = Lines { bytes, end: 0, line: 1 };
        loop {
            let read = reader.read_record(&mut record);
            let line = lines.until(reader.position().byte());
            if !read.map_err(|error| why(&error)).with_context(|| format!("line {line}"))? {
                return Ok(Self(labels));
            }
            let mut file = "";
            let mut label = Label { line, ..Label::default() };
            for (&(column, title), cell) in columns.iter().zip(&record) {
                let read = match column {
                    Column::File => {
                        file = cell;
                        Ok(())
                    }
                    _ if cell.is_empty() => Ok(()),
                    column => label.take(column, cell),
                };
                read.with_context(|| format!("line {line}, column {title}"))?;
            }
            ensure!(!file.is_empty(), "line {line}, column file: it is empty");
            match labels.entry(file.to_owned()) {
                Entry::Vacant(place) => place.insert(label),
                Entry::Occupied(other) => {
                    bail!(
                        "line {line}, column file: {} has line {} already",
                        on_one_line(other.key()),
                        other.get().line
                    )
                }
            };
        }
    }

    /// What is said about a file.
    pub(super) fn get(&self, name: &str) -> Option<&Label> {
        self.0.get(name)
    }

    /// Checks that every line is about one of `names`, which are sorted.
    pub(super) fn check(&self, names: &[&str]) -> Result<()> {
        let unknown =
            self.0.iter().filter(|(file, _)| names.binary_search(&file.as_str()).is_err());
        match unknown.min_by_key(|(_, label)| label.line) {
            Some((file, Label { line, .. })) => {
                bail!("line {line}, column file: there is no recording {}", on_one_line(file))
            }
            None => Ok(()),
        }
    }

    /// How many lines tell what, in words.
    pub(super) fn summary(&self) -> String {
        let count = |tells: &dyn Fn(&Label) -> bool| self.0.values().filter(|l| tells(l)).count();
        format!(
            "{} files: {} notes, {} velocities, {} classes; what it leaves empty is told by names and \
             folders",
            self.0.len(),
            count(&|label| label.note.is_some()),
            count(&|label| label.velocity.is_some()),
            count(&|label| label.class.is_some()),
        )
    }
}

impl Label {
    fn take(&mut self, column: Column, cell: &str) -> Result<()> {
        match column {
            Column::Note if cell.eq_ignore_ascii_case("none") => self.note = Some(None),
            Column::Note => {
                let number = cell.parse().ok().filter(|key| *key <= 127);
                let key = number.or_else(|| spelled_key(cell));
                ensure!(
                    key.is_some(),
                    "`{}` is no note: write A4, C#3, Bb2, 0 to 127, or none",
                    on_one_line(cell)
                );
                self.note = Some(key);
            }
            Column::Velocity => {
                self.velocity = cell.parse().ok().filter(|velocity| (1..=127).contains(velocity));
                let cell = on_one_line(cell);
                ensure!(self.velocity.is_some(), "`{cell}` is no velocity: write 1 to 127");
            }
            Column::Class => self.class = Some(cell.to_owned()),
            Column::File => {}
        }
        Ok(())
    }

    /// Whether it says that the recording holds one note, or none.
    pub(super) fn says_note(&self) -> bool {
        self.note.is_some()
    }

    /// The note of a recording whose name tells `named`.
    pub(super) fn note(&self, named: Option<NoteName>) -> Result<Option<NoteName>> {
        let key = self.note.unwrap_or(named.map(|note| note.key));
        let velocity = self.velocity.or(named.and_then(|note| note.velocity));
        ensure!(
            key.is_some() || self.velocity.is_none(),
            "line {}, column velocity: there is no note, neither here nor in the file's name",
            self.line
        );
        Ok(key.map(|key| NoteName { key, velocity }))
    }
}

/// Counts lines: csv's own count is of where it began to look for a record, before empty lines and
/// the second half of a Windows line's end.
struct Lines<'a> {
    bytes: &'a [u8],
    end: usize,
    line: usize,
}

impl Lines<'_> {
    /// The line of the record that ends before `byte`.
    fn until(&mut self, byte: u64) -> usize {
        let end = (byte as usize).min(self.bytes.len());
        let end = self.bytes[..end].trim_ascii_end().len().max(self.end);
        self.line += self.bytes[self.end..end].iter().filter(|&&byte| byte == b'\n').count();
        self.end = end;
        self.line
    }
}

/// What each column holds, and its title.
fn columns(header: &StringRecord) -> Result<Vec<(Column, &'static str)>> {
    let mut columns = Vec::new();
    for title in header {
        let column = match title.to_ascii_lowercase().as_str() {
            "file" => (Column::File, "file"),
            "note" => (Column::Note, "note"),
            "key" => (Column::Note, "key"),
            "velocity" => (Column::Velocity, "velocity"),
            "class" => (Column::Class, "class"),
            _ => bail!(
                "there is no column `{}`; there are file, note, velocity and class, \
                 parted by commas",
                on_one_line(title)
            ),
        };
        let twice = columns.iter().find(|(other, _)| *other == column.0);
        ensure!(twice.is_none(), "column {title} says again what another column says");
        columns.push(column);
    }
    let is_file = |(column, _): &(Column, _)| *column == Column::File;
    ensure!(columns.iter().any(is_file), "a column `file` is needed");
    Ok(columns)
}

/// Cells may hold line breaks; a message is one line.
fn on_one_line(cell: &str) -> String {
    cell.replace(char::is_control, " ")
}

/// csv's error, told as ours are.
fn why(error: &csv::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::Utf8 { .. } => anyhow::anyhow!("it is no text in UTF-8"),
        ErrorKind::UnequalLengths { expected_len, len, .. } => anyhow::anyhow!(
            "it has {len} cells, but the header has {expected_len} (text with commas needs quotes)"
        ),
        _ => anyhow::anyhow!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(text: &str) -> Labels {
        Labels::parse(text.as_bytes()).unwrap()
    }

    fn note(key: u8, velocity: Option<u8>) -> Option<NoteName> {
        Some(NoteName { key, velocity })
    }

    const TABLE: &str = "\u{feff}Class,file , KEY,velocity\r\n\
        bow,a.wav,C#3,100\r\n\
        \"bow, soft\",\"sub/b 1.wav\", 61 ,\r\n\
        ,c.wav,None,\r\n";

    #[test]
    fn cells_override_and_empty_ones_do_not() {
        let labels = labels(TABLE);
        labels.check(&["a.wav", "c.wav", "d.wav", "sub/b 1.wav"]).unwrap();
        let [a, b, c] = ["a.wav", "sub/b 1.wav", "c.wav"].map(|name| labels.get(name).unwrap());
        assert_eq!((a.class.as_deref(), b.class.as_deref()), (Some("bow"), Some("bow, soft")));
        let named = note(69, Some(80));
        assert_eq!(a.note(named).unwrap(), note(49, Some(100)));
        assert_eq!(b.note(named).unwrap(), note(61, Some(80)));
        assert_eq!(b.note(None).unwrap(), note(61, None));
        assert_eq!((c.note(named).unwrap(), c.class.as_deref()), (None, None));
        assert!(labels.summary().starts_with("3 files: 3 notes, 1 velocities, 2 classes"));
    }

    #[test]
    fn mistakes_are_named_by_line_and_column() {
        for (text, expected) in [
            ("", "line 1: a column `file` is needed"),
            ("note\nA4", "line 1: a column `file` is needed"),
            ("file;note\n", "line 1: there is no column `file;note`"),
            ("file,pitch\n", "line 1: there is no column `pitch`"),
            ("file,\"a\nb\"\n", "line 1: there is no column `a b`"),
            (
                "file,note\n\"a\nb\",A4\n\"a\nb\",A4\n",
                "line 5, column file: a b has line 3 already",
            ),
            ("file,note\nb,\"A\n4\"", "line 3, column note: `A 4` is no note"),
            ("file,note,key\n", "line 1: column key says again"),
            ("file,note\na.wav\n", "line 2: it has 1 cells, but the header has 2"),
            ("file,note\na.wav,A4\nb.wav,H4", "line 3, column note: `H4` is no note"),
            ("file,key\na.wav,128", "line 2, column key: `128` is no note"),
            ("file,key\na.wav,-1", "line 2, column key: `-1` is no note"),
            ("file,velocity\na.wav,0", "line 2, column velocity: `0` is no velocity"),
            ("file,note\r\n\r\n\r\n\"a\nb\",H4\r\n", "line 5, column note: `H4`"),
            ("file,note\n,A4", "line 2, column file: it is empty"),
            ("file,note\na,A4\nb,A4\na,C4", "line 4, column file: a has line 2 already"),
        ] {
            let error = format!("{:#}", Labels::parse(text.as_bytes()).unwrap_err());
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
        let error = Labels::parse(b"file,class\na.wav,\xff").unwrap_err();
        assert_eq!(format!("{error:#}"), "line 2: it is no text in UTF-8");
        let error = labels(TABLE).check(&["a.wav", "c.wav"]).unwrap_err();
        assert_eq!(error.to_string(), "line 3, column file: there is no recording sub/b 1.wav");
        let error = labels("file,velocity\na,9").get("a").unwrap().note(None).unwrap_err();
        assert!(error.to_string().starts_with("line 2, column velocity: there is no note"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn any_bytes_give_labels_or_one_line(
            changes in prop::collection::vec((0..TABLE.len(), any::<u8>()), 0..6),
            length in 0..=TABLE.len(),
        ) {
            let mut bytes = TABLE.as_bytes().to_vec();
            changes.into_iter().for_each(|(place, byte)| bytes[place] = byte);
            match Labels::parse(&bytes[..length]) {
                Ok(labels) => {
                    for label in labels.0.values() {
                        if let Ok(Some(note)) = label.note(None) {
                            prop_assert!(note.key <= 127 && note.velocity != Some(0));
                        }
                    }
                }
                Err(error) => {
                    let message = format!("{error:#}");
                    prop_assert!(!message.contains('\n'), "{}", message);
                }
            }
        }
    }
}
