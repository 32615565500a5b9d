//! Writes a prepared corpus beside its place and renames it into it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::{FORMAT, INDEX_FILE, Index, Prepared, SAMPLES_FILE, VERSION, is_prepared};

/// Takes samples, then the index. Dropped before [`PreparedWriter::finish`] it leaves no trace.
pub(crate) struct PreparedWriter {
    /// Where it shall lie.
    folder: PathBuf,
    /// Beside it: holds `new`, and at the end `old`.
    beside: TempDir,
    samples: BufWriter<File>,
    frames: u64,
}

impl PreparedWriter {
    /// # Errors
    ///
    /// `folder` is taken by something else, or nothing can be written beside it.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let shown = folder.display();
        ensure!(
            is_replaceable(folder),
            "{shown} exists and is not a prepared corpus: choose another folder"
        );
        // Folders that are missing on the way are made at the end: until then nothing is visible.
        let mut above = folder.ancestors().skip(1).filter(|above| *above != Path::new(""));
        let present = above.find(|above| above.is_dir()).unwrap_or(Path::new("."));
        let failed = || format!("cannot write {shown}");
        let beside = tempfile::Builder::new()
            .prefix(".prepare-")
            .tempdir_in(present)
            .with_context(failed)?;
        // A folder of its own, since a temporary folder is closed to other users.
        fs::create_dir(beside.path().join("new")).with_context(failed)?;
        let samples =
            File::create(beside.path().join("new").join(SAMPLES_FILE)).with_context(failed)?;
        Ok(Self { folder: folder.to_owned(), beside, samples: BufWriter::new(samples), frames: 0 })
    }

    /// Appends samples and gives the frame at which they begin.
    pub(crate) fn append(&mut self, samples: &[f32]) -> Result<u64> {
        for sample in samples {
            self.samples
                .write_all(&sample.to_le_bytes())
                .with_context(|| format!("cannot write {}", self.folder.display()))?;
        }
        let offset = self.frames;
        self.frames += samples.len() as u64;
        Ok(offset)
    }

    /// Writes the index (its format and version are set here), puts all in place, opens it.
    pub(crate) fn finish(mut self, mut index: Index) -> Result<Prepared> {
        let failed = || format!("cannot write {}", self.folder.display());
        index.format = FORMAT.to_owned();
        index.version = VERSION;
        let new = self.beside.path().join("new");
        self.samples.flush().with_context(failed)?;
        drop(self.samples);
        fs::write(new.join(INDEX_FILE), serde_json::to_string_pretty(&index)?)
            .with_context(failed)?;
        if let Some(parent) = self.folder.parent() {
            fs::create_dir_all(parent).with_context(failed)?;
        }
        let old = self.beside.path().join("old");
        let had_one = self.folder.exists();
        if had_one {
            fs::rename(&self.folder, &old).with_context(failed)?;
        }
        if let Err(error) = fs::rename(&new, &self.folder) {
            if had_one {
                // The old one goes back: the temporary folder it lies in is about to vanish.
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
