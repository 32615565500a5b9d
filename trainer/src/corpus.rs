//! Finds the recordings under a folder, and what their places and names say about them.
//!
//! - Every sound file below the folder, at any depth, in sorted order; hidden files are passed by.
//! - Label: the first sub-folder (`birds/robin/3.wav` under `birds` is a `robin`). Where no file
//!   lies in a sub-folder nothing is labelled; where only some do, those that lie directly in the
//!   folder are labelled with the folder's own name, and a notice says so.
//! - Note and velocity: from the file's name, see [`notes`].
//! - A MIDI file beside a recording (`take.mid` beside `take.wav`) tells the notes played in it.
//! - What `labels.csv` in the folder says comes before all of that, see [`labels`].
//! - Which files are set aside for validation: see [`split`].

pub mod labels;
pub mod notes;
pub mod split;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use walkdir::WalkDir;

use crate::audio::{READABLE_EXTENSIONS, UNREADABLE_EXTENSIONS};
use labels::{LABELS_FILE, Labels};
pub use notes::NoteName;

const MIDI_EXTENSIONS: [&str; 2] = ["mid", "midi"];

/// One sound file of a corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it lies.
    pub path: PathBuf,
    /// Its path below the corpus's folder, with `/` between the parts on every system.
    pub name: String,
    /// The class it belongs to, if the corpus has classes.
    pub label: Option<String>,
    /// The note that its name, or a table of labels, says it holds.
    pub note: Option<NoteName>,
    /// The MIDI file of what is played in it; none where the table says that it is one note.
    pub midi: Option<PathBuf>,
}

/// What lies in one folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The sound files, sorted by their names; those of a kind that cannot be read are among
    /// them, so that they are reported rather than passed over.
    pub items: Vec<Item>,
    /// Sentences for the user about what was decided here.
    pub notices: Vec<String>,
}

/// Finds the sound files below each of `folders` (data, and perhaps a folder for validation).
///
/// `labels` is a table for the first folder, in place of a `labels.csv` in it. Note names are read
/// for all folders together, since how many velocity layers there are shows only in the whole.
///
/// # Errors
///
/// One line: a folder is missing, cannot be read, is a file, holds a loop of links, or holds no
/// sound files; or a table of labels is wrong.
pub fn find(folders: &[&Path], labels: Option<&Path>) -> Result<Vec<Found>> {
    let given = std::iter::once(labels).chain(std::iter::repeat(None));
    let tables = folders.iter().zip(given).map(|(folder, given)| Table::read(folder, given));
    let tables = tables.collect::<Result<Vec<_>>>()?;
    let mut found = (folders.iter().zip(&tables))
        .map(|(folder, table)| find_in(folder, table.as_ref()))
        .collect::<Result<Vec<_>>>()?;
    let stems: Vec<String> =
        found.iter().flat_map(|found| &found.items).map(|item| stem(&item.path)).collect();
    let mut notes = notes::read_notes(&stems).into_iter();
    for (found, table) in found.iter_mut().zip(&tables) {
        for item in &mut found.items {
            item.note = notes.next().flatten();
            if let Some(table) = table
                && let Some(label) = table.labels.get(&item.name)
            {
                item.midi.take_if(|_| label.says_note());
                item.note = label.note(item.note).with_context(|| table.shown())?;
            }
        }
    }
    Ok(found)
}

/// The labels of a folder, and the file that they are from.
struct Table {
    path: PathBuf,
    labels: Labels,
}

impl Table {
    /// The table that is given, or the one that lies in the folder, if there is one.
    fn read(folder: &Path, given: Option<&Path>) -> Result<Option<Self>> {
        let own = folder.join(LABELS_FILE);
        let path = match given {
            Some(given) => given.to_owned(),
            None if own.is_file() => own,
            None => return Ok(None),
        };
        Ok(Some(Self { labels: Labels::read(&path)?, path }))
    }

    fn shown(&self) -> String {
        self.path.display().to_string()
    }
}

fn find_in(folder: &Path, table: Option<&Table>) -> Result<Found> {
    let shown = folder.display();
    ensure!(folder.exists(), "there is no folder {shown}");
    ensure!(folder.is_dir(), "{shown} is a file: give the folder that it lies in");
    let visible = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
    };
    let (mut items, mut scores) = (Vec::new(), BTreeMap::new());
    for entry in WalkDir::new(folder).follow_links(true).into_iter().filter_entry(visible) {
        let entry = entry.map_err(|error| why(&error))?;
        if entry.file_type().is_file() && is_sound(entry.path()) {
            let below = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            items.push(Item {
                name: slashed(below),
                label: first_folder(below),
                note: None,
                midi: None,
                path: entry.into_path(),
            });
        } else if entry.file_type().is_file() && has_extension(entry.path(), &MIDI_EXTENSIONS) {
            scores.insert(entry.path().with_extension(""), entry.into_path());
        }
    }
    if items.is_empty() {
        bail!(
            "no recordings in {shown}: looked for .{} in it and in its sub-folders",
            READABLE_EXTENSIONS.join(", .")
        );
    }
    items.sort_by(|a, b| a.name.cmp(&b.name));
    let mut notices = Vec::new();
    for item in &mut items {
        item.midi = scores.get(&item.path.with_extension("")).cloned();
    }
    let stems: BTreeSet<_> = items.iter().map(|item| item.path.with_extension("")).collect();
    scores.retain(|stem, _| !stems.contains(stem));
    if let Some(midi) = scores.values().next() {
        notices.push(format!(
            "{} MIDI files lie beside no recording of the same name, {} for one",
            scores.len(),
            midi.display()
        ));
    }
    if let Some(table) = table {
        let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
        table.labels.check(&names).with_context(|| format!("{} for {shown}", table.shown()))?;
        for item in &mut items {
            let class = table.labels.get(&item.name).and_then(|label| label.class.clone());
            item.label = class.or(item.label.take());
        }
        notices.push(format!("{} labels {}", table.shown(), table.labels.summary()));
    }
    let unlabelled = items.iter().filter(|item| item.label.is_none()).count();
    if unlabelled > 0 && unlabelled < items.len() {
        let label = own_name(folder)?;
        notices.push(format!(
            "{unlabelled} of {} files lie in no sub-folder of {shown}: they are labelled `{label}`",
            items.len()
        ));
        for item in &mut items {
            item.label.get_or_insert_with(|| label.clone());
        }
    }
    Ok(Found { items, notices })
}

/// walkdir's error in one line that says what to do.
fn why(error: &walkdir::Error) -> anyhow::Error {
    let path = error.path().unwrap_or(Path::new("a folder")).display();
    match (error.loop_ancestor(), error.io_error()) {
        (Some(ancestor), _) => anyhow::anyhow!(
            "{path} is a link back to {}, a folder that holds it: remove the link",
            ancestor.display()
        ),
        (None, Some(error)) => anyhow::anyhow!("{path} cannot be read: {error}"),
        (None, None) => anyhow::anyhow!("{path} cannot be read: {error}"),
    }
}

fn is_sound(path: &Path) -> bool {
    has_extension(path, &READABLE_EXTENSIONS) || has_extension(path, &UNREADABLE_EXTENSIONS)
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| extensions.contains(&extension.as_str()))
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

fn slashed(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

fn first_folder(below: &Path) -> Option<String> {
    let mut parts = below.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(first)), Some(_)) => Some(first.to_string_lossy().into_owned()),
        _ => None,
    }
}

/// The folder's own name, also for `.` and `..`.
pub(crate) fn own_name(folder: &Path) -> Result<String> {
    let whole =
        folder.canonicalize().with_context(|| format!("{} cannot be read", folder.display()))?;
    Ok(whole.file_name().map_or("root".into(), |name| name.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty file for every name.
    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    fn found(folder: &Path) -> Found {
        find(&[folder], None).unwrap().remove(0)
    }

    fn labels(found: &Found) -> Vec<(&str, Option<&str>)> {
        found.items.iter().map(|item| (item.name.as_str(), item.label.as_deref())).collect()
    }

    #[test]
    fn sound_files_are_found_in_order_whatever_their_case_and_depth() {
        let folder =
            folder(&["b/x/2.FLAC", "a/1.wav", "b/.hid.wav", ".c/3.wav", "a/notes.txt", "b/4.opus"]);
        let found = found(folder.path());
        assert_eq!(
            labels(&found),
            [("a/1.wav", Some("a")), ("b/4.opus", Some("b")), ("b/x/2.FLAC", Some("b"))]
        );
        assert!(found.notices.is_empty());
        assert_eq!(found.items[2].path, folder.path().join("b/x/2.FLAC"));
    }

    #[test]
    fn files_directly_in_the_folder_have_no_label() {
        let folder = folder(&["1.wav", "2.wav"]);
        assert_eq!(labels(&found(folder.path())), [("1.wav", None), ("2.wav", None)]);
    }

    #[test]
    fn a_mixture_is_labelled_with_the_folders_name_and_said() {
        let folder = folder(&["farm/cow.wav", "farm/pig/1.wav"]);
        let found = found(&folder.path().join("farm"));
        assert_eq!(labels(&found), [("cow.wav", Some("farm")), ("pig/1.wav", Some("pig"))]);
        assert!(found.notices[0].starts_with("1 of 2 files lie in no sub-folder"));
        assert!(found.notices[0].ends_with("labelled `farm`"));
    }

    #[test]
    fn a_table_comes_before_names_and_folders() {
        let folder = folder(&["low/A4.wav", "low/x.wav", "take 1.wav"]);
        let table = "file,note,velocity,class\nlow/x.wav,C4,90,\ntake 1.wav,61,,high\n";
        std::fs::write(folder.path().join("labels.csv"), table).unwrap();
        let of = |found: &Found| -> Vec<_> {
            let items = found.items.iter();
            items.map(|item| (item.label.clone().unwrap(), item.note.unwrap().key)).collect()
        };
        let read = found(folder.path());
        let label = |label: &str, key| (label.to_owned(), key);
        assert_eq!(of(&read), [label("low", 69), label("low", 60), label("high", 61)]);
        assert_eq!(read.items[1].note.unwrap().velocity, Some(90));
        assert!(read.notices[0].contains("labels.csv labels 2 files: 2 notes, 1 velocities"));
        assert_eq!(read.notices.len(), 1);

        // Another table in place of it, and a folder for validation with its own.
        let other = folder.path().join("other.csv");
        std::fs::write(&other, "class,file\nhigh,low/A4.wav\n").unwrap();
        let valid = self::folder(&["A4.wav"]);
        std::fs::write(valid.path().join("labels.csv"), "file,key\nA4.wav,none\n").unwrap();
        let read = find(&[folder.path(), valid.path()], Some(&other)).unwrap();
        assert_eq!(read[0].items[0].label.as_deref(), Some("high"));
        assert_eq!((read[0].items[1].note, read[1].items[0].note), (None, None));

        std::fs::write(&other, "file\nlow/A5.wav\n").unwrap();
        let error = format!("{:#}", find(&[folder.path()], Some(&other)).unwrap_err());
        assert!(
            error.ends_with("line 2, column file: there is no recording low/A5.wav"),
            "{error}"
        );
        assert!(error.contains("other.csv for "), "{error}");
    }

    #[test]
    fn midi_files_belong_to_recordings_of_their_name() {
        let folder = folder(&["a/1.wav", "a/1.mid", "b/1.wav", "b/2.flac", "b/2.MIDI", "b/3.mid"]);
        std::fs::write(folder.path().join("labels.csv"), "file,note\na/1.wav,C4\n").unwrap();
        let found = found(folder.path());
        let midi: Vec<_> = found.items.iter().map(|item| item.midi.as_deref()).collect();
        // What is one note is not cut into notes.
        assert_eq!(midi, [None, None, Some(&*folder.path().join("b/2.MIDI"))]);
        assert!(found.notices[0].starts_with("1 MIDI files lie beside no recording"));
        assert!(found.notices[0].ends_with("b/3.mid for one"));
    }

    #[test]
    fn velocity_layers_are_counted_over_both_folders() {
        let (train, valid) = (folder(&["A4v1.wav", "A4v2.wav"]), folder(&["C4v4.wav"]));
        let found = find(&[train.path(), valid.path()], None).unwrap();
        let note = |key, velocity| Some(NoteName { key, velocity: Some(velocity) });
        assert_eq!(found[0].items[0].note, note(69, 16));
        assert_eq!(found[0].items[1].note, note(69, 48));
        assert_eq!(found[1].items[0].note, note(60, 111));
    }

    #[test]
    fn errors_are_one_line_and_say_what_was_looked_for() {
        let folder = folder(&["a/notes.txt"]);
        let error = |path: &Path| format!("{:#}", find(&[path], None).unwrap_err());
        assert!(error(folder.path()).contains("looked for .wav, .wave, .flac"));
        assert!(error(&folder.path().join("none")).starts_with("there is no folder"));
        assert!(error(&folder.path().join("a/notes.txt")).contains("is a file"));
    }

    #[cfg(unix)]
    #[test]
    fn a_loop_of_links_is_named() {
        let folder = folder(&["a/1.wav"]);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/again")).unwrap();
        let error = format!("{:#}", find(&[folder.path()], None).unwrap_err());
        assert!(error.contains("again is a link back to"), "{error}");
        assert!(!error.contains('\n'));
    }
}
