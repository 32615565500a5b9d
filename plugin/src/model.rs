//! The model that a session plays: named in the host's project, found again, and checked.
//!
//! A project keeps the path of the model file and the hash of its content. A file that is missing or
//! damaged is an error and the plugin is silent, but the name stays in the project; a file that has
//! changed is played, and said to have changed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wavenet_engine::{Error, Result, Weights};
use wavenet_models::Choice;

/// Layout of [`ModelRef`] in a project; raised where an old plugin could not read a new one.
const VERSION: u32 = 1;

/// Names a model in a host's project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRef {
    /// Version of this layout.
    version: u32,
    /// The model file, or the name of a built-in model; none for the first of those.
    pub path: Option<PathBuf>,
    /// SHA-256 of the file's content when the project was saved, in hexadecimal; empty where it was
    /// never loaded.
    pub sha256: String,
}

impl Default for ModelRef {
    fn default() -> Self {
        Self { version: VERSION, path: None, sha256: String::new() }
    }
}

impl ModelRef {
    /// Names a file.
    pub fn file(path: PathBuf) -> Self {
        Self { path: Some(path), ..Self::default() }
    }

    /// Reads the model. Returns it with the hash of its content.
    ///
    /// # Errors
    /// If the project is of a newer plugin, or the file is missing, damaged or not a model.
    pub(crate) fn load(&self) -> Result<(Weights, String)> {
        if self.version > VERSION {
            return Err(Error::Unsupported(
                "this project was saved by a newer version of the plugin; please update it".into(),
            ));
        }
        match Choice::of(self.path.as_deref()) {
            Choice::BuiltIn(model) => Ok((model.weights()?, hash(model.bytes))),
            Choice::File(path) => {
                let bytes = Weights::read_file(path)?;
                Ok((Weights::from_bytes(&bytes)?, hash(&bytes)))
            }
        }
    }

    /// Whether another name is that of the same file, with the same content as far as it is known.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let known = !self.sha256.is_empty() && !other.sha256.is_empty();
        (self.version, &self.path) == (other.version, &other.path)
            && (!known || self.sha256 == other.sha256)
    }

    /// Whether the model's content is another than when the project was saved.
    pub(crate) fn differs_from(&self, sha256: &str) -> bool {
        !self.sha256.is_empty() && self.sha256 != sha256
    }

    /// How to speak of it.
    pub(crate) fn name(&self) -> String {
        self.path
            .as_ref()
            .map_or("the built-in instruments".into(), |path| path.display().to_string())
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
