//! The state of a run on disk: what `--resume` needs to go on as though it had never stopped.
//!
//! Beside the model `x.safetensors`, which plays at any moment, lies `x.state`: a .safetensors too,
//! with the weights, the optimizer's vectors and, as metadata, the step, the time spent and the
//! settings that must not change within a run.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use wavenet_engine::files;

use crate::optimizer::Moments;
use crate::training::history::History;

const METADATA_KEY: &str = "wavenet-trainer";
const VERSION: u32 = 1;
/// More than any run can take: what is counted from the steps stays within 64 bits.
const MAX_STEPS: u64 = 1 << 48;

/// What a run is, apart from its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    version: u32,
    /// Steps taken.
    pub step: u64,
    /// Time spent training, over all sessions.
    pub elapsed_s: f64,
    /// Everything that decides the steps: resuming with other settings is refused.
    pub settings: String,
    /// The losses so far.
    #[serde(default)]
    pub history: History,
}

impl Run {
    /// A run's place.
    pub fn new(step: u64, elapsed_s: f64, settings: String) -> Self {
        Self { version: VERSION, step, elapsed_s, settings, history: History::default() }
    }
}

/// Where the state of a model lies.
pub fn state_path(model: &Path) -> PathBuf {
    model.with_extension("state")
}

/// Checks that a model and its state can be written, before hours are spent on them.
///
/// # Errors
/// One line: `model` is a folder or a device, has the extension of something else, is
/// write-protected, or its folder is missing or closed to us.
pub fn check_out(model: &Path) -> Result<()> {
    let shown = model.display();
    ensure!(
        !model.as_os_str().as_encoded_bytes().ends_with(b"/"),
        "{shown} is a folder; name a file in it, such as model.safetensors"
    );
    ensure!(
        model.extension().is_none_or(|extension| extension == "safetensors"),
        "{shown}: models are .safetensors files; did you mean {}?",
        model.with_extension("safetensors").display()
    );
    let folder = match model.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    ensure!(folder.is_dir(), "cannot write {shown}: create the folder {} first", folder.display());
    for path in [model, &state_path(model)] {
        let shown = path.display();
        if let Ok(metadata) = path.metadata() {
            ensure!(!metadata.is_dir(), "{shown} is a folder; name a file");
            ensure!(metadata.is_file(), "{shown} is not an ordinary file; choose another name");
            let readonly = metadata.permissions().readonly();
            ensure!(!readonly, "{shown} is write-protected; choose another name");
        }
        files::beside(path).context("nothing can be written there; choose another place")?;
    }
    Ok(())
}

/// Writes the state, beside and renamed.
///
/// # Errors
/// The disk refuses.
pub fn save(path: &Path, run: &Run, weights: &[f32], moments: &Moments) -> Result<()> {
    let vectors = [
        ("average", &moments.average[..]),
        ("mean", &moments.mean),
        ("square", &moments.square),
        ("weights", weights),
    ];
    let bytes: Vec<(&str, Vec<u8>)> = vectors
        .iter()
        .map(|(name, values)| (*name, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let mut views = Vec::new();
    for (name, bytes) in &bytes {
        views.push((*name, TensorView::new(Dtype::F32, vec![weights.len()], bytes)?));
    }
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), serde_json::to_string(run)?)]);
    let bytes = safetensors::serialize(views, Some(metadata))?;
    let mut file = files::beside(path)?;
    file.write_all(&bytes).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(files::finish(file, path)?)
}

/// Reads whose state it is, without its numbers.
///
/// # Errors
/// One line: the file is missing, damaged, or of another version.
pub fn load_run(path: &Path) -> Result<Run> {
    read(path, parse_run)
}

/// Reads a state of a model with `parameters` parameters.
///
/// # Errors
/// One line: the file is missing, damaged, of another version, or of another model.
pub fn load(path: &Path, parameters: usize) -> Result<(Run, Vec<f32>, Moments)> {
    read(path, |bytes| parse(bytes, parameters))
}

fn read<T>(path: &Path, parse: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("{shown} cannot be read"))?;
    parse(&bytes).with_context(|| {
        format!("{shown} is not the state of this run; train without --resume to start afresh")
    })
}

fn parse_run(bytes: &[u8]) -> Result<Run> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)?;
    let metadata = metadata.metadata().as_ref().and_then(|map| map.get(METADATA_KEY));
    let run: Run = serde_json::from_str(metadata.context("no metadata of the trainer")?)?;
    ensure!(run.version == VERSION, "version {}; this program reads {VERSION}", run.version);
    ensure!(run.step <= MAX_STEPS, "{} steps", run.step);
    ensure!(run.elapsed_s.is_finite() && run.elapsed_s >= 0.0, "a time of {} s", run.elapsed_s);
    Ok(run)
}

fn parse(bytes: &[u8], parameters: usize) -> Result<(Run, Vec<f32>, Moments)> {
    let run = parse_run(bytes)?;
    let tensors = SafeTensors::deserialize(bytes)?;
    let read = |name: &str| -> Result<Vec<f32>> {
        let tensor = tensors.tensor(name)?;
        ensure!(
            tensor.dtype() == Dtype::F32 && tensor.shape() == [parameters],
            "`{name}` has another shape"
        );
        let values: Vec<f32> =
            tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        ensure!(values.iter().all(|value| value.is_finite()), "`{name}` holds NaN or infinity");
        Ok(values)
    };
    let (weights, mean) = (read("weights")?, read("mean")?);
    let (square, average) = (read("square")?, read("average")?);
    ensure!(square.iter().all(|value| *value >= 0.0), "a negative mean square");
    let step = run.step;
    Ok((run, weights, Moments { step, mean, square, average }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> (Run, Vec<f32>, Moments) {
        let run = Run::new(7, 1.5, "settings".into());
        let mut moments = Moments::new(&[1.0, 2.0, 3.0]);
        moments.step = 7;
        moments.square[1] = 0.25;
        (run, vec![1.5, 2.5, 3.5], moments)
    }

    fn bytes() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.state");
        let (run, weights, moments) = example();
        save(&path, &run, &weights, &moments).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn what_is_saved_is_loaded() {
        assert_eq!(parse(&bytes(), 3).unwrap(), example());
        assert!(parse(&bytes(), 4).is_err());
        assert_eq!(parse_run(&bytes()).unwrap(), example().0);
    }

    #[test]
    fn counts_that_no_run_can_reach_are_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.state");
        let (_, weights, moments) = example();
        for (step, elapsed_s) in [(u64::MAX, 1.0), (MAX_STEPS + 1, 1.0), (7, -1.0)] {
            save(&path, &Run::new(step, elapsed_s, String::new()), &weights, &moments).unwrap();
            assert!(load_run(&path).is_err() && load(&path, 3).is_err());
        }
    }

    #[test]
    fn places_that_take_no_model_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("y.state")).unwrap();
        for name in ["x.safetensors", "x"] {
            check_out(&at(name)).unwrap();
        }
        for (name, expected) in [
            (".", "is a folder"),
            ("new/", "is a folder"),
            ("missing/x.safetensors", "create the folder"),
            ("x.state", "did you mean"),
            ("y.safetensors", "y.state is a folder"),
        ] {
            let error = format!("{:#}", check_out(&at(name)).unwrap_err());
            assert!(error.contains(expected), "{name}: {error}");
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn damaged_bytes_never_panic(place in 0_usize..10_000, value: u8, cut in 0_usize..10_000) {
            let mut bytes = bytes();
            let place = place % bytes.len();
            bytes[place] = value;
            bytes.truncate(bytes.len() - cut % 8 * bytes.len() / 8);
            let _ = parse(&bytes, 3);
        }
    }
}
