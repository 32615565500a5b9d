//! Samples that are made while a corpus is opened (recordings at other pitches), on disk: a file
//! without a name, gone with the program. In memory they would be several times the corpus.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

const FAILED: &str = "the file of the recordings at other pitches";

/// Takes samples.
pub(super) struct StoreWriter {
    file: BufWriter<File>,
    frames: u64,
}

impl StoreWriter {
    /// In `folder` if that can be written to, else where temporary files are.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).or_else(|_| tempfile::tempfile());
        Ok(Self { file: BufWriter::new(file.context(FAILED)?), frames: 0 })
    }

    /// Appends samples and gives the frame at which they begin.
    pub(super) fn append(&mut self, samples: &[f32]) -> Result<u64> {
        let offset = self.frames;
        for sample in samples {
            self.file.write_all(&sample.to_le_bytes()).context(FAILED)?;
        }
        self.frames += samples.len() as u64;
        Ok(offset)
    }

    /// From here on it is read.
    pub(super) fn finish(self) -> Result<Store> {
        let file = self.file.into_inner().map_err(std::io::IntoInnerError::into_error);
        Ok(Store(Mutex::new(file.context(FAILED)?)))
    }
}

/// Gives them back, from any frame on.
#[derive(Debug)]
pub(super) struct Store(Mutex<File>);

impl Store {
    /// Fills `samples` from a frame of the store on.
    pub(super) fn read(&self, start_frame: u64, samples: &mut [f32]) -> Result<()> {
        let mut bytes = vec![0; size_of_val(samples)];
        {
            let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(start_frame * size_of::<f32>() as u64)).context(FAILED)?;
            file.read_exact(&mut bytes).context(FAILED)?;
        }
        for (sample, bytes) in samples.iter_mut().zip(bytes.as_chunks().0) {
            *sample = f32::from_le_bytes(*bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_is_read_at_any_frame_and_leaves_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let samples: Vec<f32> = (0..10_000).map(|n| n as f32 * 0.25 - 7.0).collect();
        for place in [folder.path().to_owned(), folder.path().join("missing")] {
            let mut writer = StoreWriter::create(&place).unwrap();
            assert_eq!(writer.append(&samples[..3_000]).unwrap(), 0);
            assert_eq!(writer.append(&samples[3_000..]).unwrap(), 3_000);
            let store = writer.finish().unwrap();
            for (start, frames) in [(0, 10_000), (2_999, 2), (9_999, 1), (5, 0)] {
                let mut read = vec![0.0; frames];
                store.read(start as u64, &mut read).unwrap();
                assert_eq!(read, samples[start..start + frames]);
            }
            assert!(store.read(9_999, &mut [0.0; 2]).is_err());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
