//! One error type: what is wrong, whose fault it is, and what to do.

use std::path::{Path, PathBuf};

/// What can go wrong while a model is loaded or prepared. Nothing fails in the step itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused: the path or the disk is at fault.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file that was read or written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are not a model, or a damaged one: the file is at fault.
    #[error("not a usable model: {0}")]
    Format(String),
    /// A name that the model does not know: whoever asks for it is at fault.
    #[error("{0}")]
    Unknown(String),
    /// A valid request that this version or this machine cannot serve.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// A tensor is missing or has another shape than the config asks for: the file is at fault.
    #[error(
        "not a usable model: tensor `{tensor}` should have shape {expected:?} but has {got:?}; the file and its config do not belong together"
    )]
    Shape {
        /// The tensor's name, as in docs/model-format.md.
        tensor: String,
        /// The shape the config asks for.
        expected: Vec<usize>,
        /// The shape found; empty when the tensor is missing.
        got: Vec<usize>,
    },
    /// The compute device failed or is not there: the machine is at fault.
    #[error("device: {0}")]
    Device(String),
}

impl Error {
    /// Wraps a system error with the path it is about.
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// The engine's result.
pub type Result<T> = std::result::Result<T, Error>;
