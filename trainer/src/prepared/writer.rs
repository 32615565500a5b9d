//! Writes a prepared corpus beside its place and renames it into it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::journal::{Earlier, Facts, Journal};
use super::{FORMAT, INDEX_FILE, Index, Prepared, REVISION, SAMPLES_FILE, VERSION, is_prepared};

/// Takes samples, then the index. Dropped before [`PreparedWriter::finish`] it leaves no trace, unless
/// [`PreparedWriter::keep`] said that somebody will go on.
pub(crate) struct PreparedWriter {
    /// Where it shall lie.
    folder: PathBuf,
    beside: Beside,
    samples: BufWriter<File>,
    journal: Journal,
    frames: u64,
}

/// The folder beside: holds `new`, at the end `old`, and in between what an interrupted writer left.
/// Its name is a function of where the corpus shall lie, so that the next writer finds it.
struct Beside {
    path: PathBuf,
    /// Locked as long as it is open: two writers would spoil each other's work.
    _lock: File,
    kept: bool,
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Beside {
    fn open(folder: &Path) -> Result<Self> {
        let shown = folder.display();
        // Folders that are missing on the way are made at the end: until then nothing is visible.
        let mut above = folder.ancestors().skip(1).filter(|above| *above != Path::new(""));
        let present = above.find(|above| above.is_dir()).unwrap_or(Path::new("."));
        let below = folder.strip_prefix(present).unwrap_or(folder);
        let names: Vec<_> = below.iter().map(|name| name.to_string_lossy()).collect();
        let path = present.join(format!(".prepare-{}", names.join("-").replace('/', "")));
        let failed = || format!("cannot write {shown}");
        fs::create_dir_all(&path).with_context(failed)?;
        let lock = File::create(path.join("lock")).with_context(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock, kept: false }),
            Err(fs::TryLockError::WouldBlock) => {
                bail!("{shown} is being prepared by another program: wait until it is done")
            }
            // Some network disks know no locks: then nobody is kept out.
            Err(fs::TryLockError::Error(error))
                if error.kind() == std::io::ErrorKind::Unsupported =>
            {
                Ok(Self { path, _lock: lock, kept: false })
            }
            Err(fs::TryLockError::Error(error)) => Err(error).with_context(failed),
        }
    }

    /// What an interrupted writer left becomes `partial`, unless an earlier one left more.
    fn rotate(&self) -> std::io::Result<()> {
        let [new, partial, old] = ["new", "partial", "old"].map(|name| self.path.join(name));
        let count = |folder: &Path| Earlier::open(folder).map_or(0, |earlier| earlier.len());
        let less = if count(&new) > count(&partial) { &partial } else { &new };
        for useless in [less, &old] {
            if useless.exists() {
                fs::remove_dir_all(useless)?;
            }
        }
        if new.exists() { fs::rename(&new, &partial) } else { Ok(()) }
    }
}

impl PreparedWriter {
    /// # Errors
    ///
    /// `folder` is taken by something else, another program writes it, or nothing can be written
    /// beside it.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let shown = folder.display();
        ensure!(
            is_replaceable(folder),
            "{shown} exists and is not a prepared corpus: choose another folder"
        );
        let failed = || format!("cannot write {shown}");
        let beside = Beside::open(folder)?;
        beside.rotate().with_context(failed)?;
        let new = beside.path.join("new");
        fs::create_dir(&new).with_context(failed)?;
        let samples = File::create(new.join(SAMPLES_FILE)).with_context(failed)?;
        let journal = Journal::create(&new).with_context(failed)?;
        let samples = BufWriter::new(samples);
        Ok(Self { folder: folder.to_owned(), beside, samples, journal, frames: 0 })
    }

    /// What need not be decoded again: of an interrupted writer, and of the corpus that is there.
    pub(crate) fn earlier(&self) -> Vec<Earlier> {
        let folders = [self.beside.path.join("partial"), self.folder.clone()];
        folders.iter().filter_map(|folder| Earlier::open(folder)).collect()
    }

    /// Appends the samples of a source and gives the frame at which they begin.
    pub(crate) fn append(&mut self, source: &str, samples: &[f32], facts: &Facts) -> Result<u64> {
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let offset = self.frames;
        let mut write = || {
            self.samples.write_all(&bytes)?;
            self.samples.flush()?;
            self.journal.append(source, offset, &bytes, facts)
        };
        write().with_context(|| format!("cannot write {}", self.folder.display()))?;
        self.frames += samples.len() as u64;
        Ok(offset)
    }

    /// Leaves what there is for the next writer.
    pub(crate) fn keep(mut self) {
        self.beside.kept = self.frames > 0 || self.beside.path.join("partial").exists();
    }

    /// Writes the index (its format, version and revision are set here), puts all in place, opens it.
    pub(crate) fn finish(mut self, mut index: Index) -> Result<Prepared> {
        let failed = || format!("cannot write {}", self.folder.display());
        index.format = FORMAT.to_owned();
        index.version = VERSION;
        index.revision = REVISION;
        let new = self.beside.path.join("new");
        self.samples.flush().with_context(failed)?;
        drop((self.samples, self.journal));
        fs::write(new.join(INDEX_FILE), serde_json::to_string_pretty(&index)?)
            .with_context(failed)?;
        if let Some(parent) = self.folder.parent() {
            fs::create_dir_all(parent).with_context(failed)?;
        }
        let old = self.beside.path.join("old");
        let had_one = self.folder.exists();
        if had_one {
            fs::rename(&self.folder, &old).with_context(failed)?;
        }
        if let Err(error) = fs::rename(&new, &self.folder) {
            if had_one {
                // The old one goes back: the folder it lies in is about to vanish.
                fs::rename(&old, &self.folder).with_context(failed)?;
            }
            return Err(error).with_context(failed);
        }
        Prepared::open(&self.folder)
    }
}

/// Whether a prepared corpus may take the place of what is there: nothing, an empty folder, or an
/// older prepared corpus.
fn is_replaceable(folder: &Path) -> bool {
    let is_empty = || fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    !folder.exists() || is_empty() || is_prepared(folder)
}
