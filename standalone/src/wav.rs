//! A mono WAV file of 16 bits, written beside its place and renamed there when it is whole.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hound::{SampleFormat, WavSpec, WavWriter};
use tempfile::NamedTempFile;
use wavenet_engine::files;

/// A WAV file counts its bytes in 32 bits, its header included.
const MAX_FRAMES: u64 = (u32::MAX as u64 - 64) / 2;

/// A WAV file that is being written. Dropped unfinished, it leaves nothing behind.
pub struct WavFile {
    // Before the file it writes to, so that it is dropped first.
    writer: WavWriter<BufWriter<File>>,
    file: NamedTempFile,
    path: PathBuf,
}

impl WavFile {
    /// Begins a file that shall hold `frames` samples.
    ///
    /// # Errors
    /// If that is more than a WAV file can hold, or the folder cannot be written to.
    pub fn create(path: &Path, rate_hz: u32, frames: u64) -> Result<Self> {
        if frames > MAX_FRAMES {
            bail!(
                "a WAV file at {rate_hz} Hz holds {} seconds at most; ask for less with --seconds, or for a lower --rate",
                MAX_FRAMES / u64::from(rate_hz)
            );
        }
        let cannot = || format!("cannot write {}", path.display());
        let spec = WavSpec {
            channels: 1,
            sample_rate: rate_hz,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let file = files::beside(path)?;
        let handle = file.as_file().try_clone().with_context(cannot)?;
        let writer = WavWriter::new(BufWriter::new(handle), spec).with_context(cannot)?;
        Ok(Self { writer, file, path: path.to_owned() })
    }

    /// Appends samples; what lies beyond ±1 becomes ±1.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn write(&mut self, samples: &[f32]) -> Result<()> {
        for &sample in samples {
            let code = (sample.clamp(-1.0, 1.0) * 32_767.0).round() as i16;
            self.writer
                .write_sample(code)
                .with_context(|| format!("cannot write {}", self.path.display()))?;
        }
        Ok(())
    }

    /// Puts the whole file in its place.
    ///
    /// # Errors
    /// If the disk is full, or the place has been taken away meanwhile.
    pub fn finish(self) -> Result<()> {
        let Self { writer, file, path } = self;
        let cannot = || format!("cannot write {}", path.display());
        writer.finalize().with_context(cannot)?;
        Ok(files::finish(file, &path)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_back_and_an_unfinished_file_vanishes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wav");
        let mut wav = WavFile::create(&path, 16_000, 4).unwrap();
        wav.write(&[0.0, 0.5, -2.0, f32::NAN]).unwrap();
        drop(wav);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

        let mut wav = WavFile::create(&path, 16_000, 4).unwrap();
        wav.write(&[0.0, 0.5, -2.0, 1.0]).unwrap();
        assert!(!path.exists());
        wav.finish().unwrap();
        let mut reader = hound::WavReader::open(&path).unwrap();
        assert_eq!(reader.spec().sample_rate, 16_000);
        let samples: Vec<i16> = reader.samples().map(|sample| sample.unwrap()).collect();
        assert_eq!(samples, [0, 16_384, -32_767, 32_767]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn more_than_four_gibibytes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let create = |frames| WavFile::create(&folder.path().join("x.wav"), 48_000, frames);
        assert!(create(MAX_FRAMES).is_ok());
        assert!(format!("{:#}", create(MAX_FRAMES + 1).err().unwrap()).contains("44739 seconds"));
    }
}
