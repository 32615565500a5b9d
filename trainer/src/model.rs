//! Reads the models that commands are given.

use std::path::Path;

use anyhow::{Result, ensure};
use wavenet_engine::{Error, Weights};

use crate::checkpoint::averaged_model;

/// What `wavenet` plays without a file. The trainer carries no models, but knows their names.
const BUILT_IN: [&str; 2] = ["instruments", "bird"];

/// Reads a model file, or the averaged model of a `.state`.
///
/// # Errors
/// One line: there is no such file, or it is no model.
pub fn load_model(path: &Path) -> Result<Weights> {
    let name = path.display();
    if let Some(built_in) = BUILT_IN.iter().find(|name| Path::new(name) == path) {
        ensure!(
            path.exists(),
            "{built_in} is built into wavenet, and the trainer takes files: that one is \
             models/{built_in}.safetensors in the repository"
        );
    }
    // A pipe or a device would never end.
    ensure!(
        !path.exists() || path.is_file(),
        "the model {name} is not a file; give the path of a .safetensors file"
    );
    if path.extension().is_some_and(|extension| extension == "state") {
        return averaged_model(path);
    }
    Weights::load(path).map_err(|error| {
        let hint = match error {
            Error::Io { .. } => "cannot read the model".into(),
            Error::Format(_) | Error::Shape { .. } => {
                format!("{name} (get a fresh copy, or train it again)")
            }
            _ => name.to_string(),
        };
        anyhow::Error::from(error).context(hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_models_are_those_of_the_repository() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let models = files.filter(|path| path.extension().is_some_and(|e| e == "safetensors"));
        let mut names: Vec<String> =
            models.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
        names.sort();
        let mut known = BUILT_IN;
        known.sort_unstable();
        assert_eq!(names, known);
    }
}
