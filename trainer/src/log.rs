//! `--log DIR`: what a run does, step by step, for other programs.
//!
//! `log.jsonl` holds a JSON object a line; beside it lie event files that TensorBoard opens, one for
//! each time the run was started. A resumed run goes on in both after its last checkpoint: lines of
//! steps after that are taken out, and TensorBoard is told to forget them.

mod events;
mod lines;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use wavenet_engine::files;

use crate::clip::Clip;
use events::Events;
use lines::Lines;

const LINES_FILE: &str = "log.jsonl";
/// Pixels of a spectrogram.
const PICTURE: (u32, u32) = (480, 240);

/// Where and how often to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// The folder.
    pub folder: PathBuf,
    /// Steps between two lines.
    pub steps: u64,
}

/// A line about some steps, or about a validation. The names are what scripts rely on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A validation.
    Validated {
        /// Steps taken.
        step: u64,
        /// Loss of the averaged weights on the validation part, in bits a sample.
        valid_bits: f64,
        /// Time spent training, over all sessions.
        elapsed_s: f64,
    },
    /// The steps since the last such line.
    Trained {
        /// Steps taken.
        step: u64,
        /// Their mean loss in bits a sample.
        bits: f64,
        /// The last learning rate.
        learning_rate: f32,
        /// Length of the last gradient, before it was clipped.
        gradient_norm: f64,
        /// Training samples heard a second of them.
        samples_per_s: f64,
        /// Time spent training, over all sessions.
        elapsed_s: f64,
    },
}

impl Line {
    fn step(&self) -> u64 {
        match self {
            Self::Validated { step, .. } | Self::Trained { step, .. } => *step,
        }
    }
}

/// The log of a run.
#[derive(Debug)]
pub struct Log {
    folder: PathBuf,
    lines: Lines,
    events: Events,
}

/// Checks that a run can be logged in `folder`, which need not be there yet.
///
/// # Errors
/// One line: the folder cannot be written, or holds the log of another run (unless `resume`).
pub fn check(folder: &Path, resume: bool) -> Result<()> {
    let shown = folder.display();
    ensure!(
        resume || !folder.join(LINES_FILE).exists(),
        "{shown} holds the log of an earlier run; name another folder, or go on with --resume"
    );
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    ensure!(there.is_dir(), "{} is a file; --log names a folder", there.display());
    files::beside(&there.join(LINES_FILE))
        .with_context(|| format!("nothing can be logged in {shown}; choose another folder"))?;
    Ok(())
}

impl Log {
    /// Opens the log of a run that goes on after `step` (0: that begins).
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let lines = Lines::open(&folder.join(LINES_FILE), step)?;
        Ok(Self { folder: folder.to_owned(), lines, events: Events::open(folder, step)? })
    }

    /// Goes on after an earlier step, as though it had been opened there.
    ///
    /// # Errors
    /// The disk is full.
    pub fn reopen(&mut self, step: u64) -> Result<()> {
        *self = Self::open(&self.folder, step)?;
        Ok(())
    }

    /// Writes a line and what it says as scalars.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write(&mut self, line: &Line) -> Result<()> {
        self.lines.write(line)?;
        match *line {
            Line::Validated { step, valid_bits, .. } => {
                self.events.scalars(step, &[("bits/valid", valid_bits as f32)])
            }
            Line::Trained { step, bits, learning_rate, gradient_norm, samples_per_s, .. } => {
                let scalars = [
                    ("bits/train", bits as f32),
                    ("learning_rate", learning_rate),
                    ("gradient_norm", gradient_norm as f32),
                    ("samples_per_s", samples_per_s as f32),
                ];
                self.events.scalars(step, &scalars)
            }
        }
    }

    /// Writes a sound and its spectrogram under a name.
    ///
    /// # Errors
    /// The disk is full.
    pub fn sound(&mut self, step: u64, name: &str, clip: &Clip) -> Result<()> {
        let (width, height) = PICTURE;
        let png = wavenet_picture::spectrogram_png(&clip.samples, clip.rate_hz, width, height)?;
        self.events.sound(step, name, clip)?;
        self.events.picture(step, name, PICTURE, png)
    }
}
