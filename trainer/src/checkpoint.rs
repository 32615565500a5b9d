//! The states of a run on disk: what `--resume` needs to go on as though it had never stopped.
//!
//! Beside the model `x.safetensors`, the best on validation so far, lie `x.state` and, the last older one
//! that proved good, `x.previous.state`. Each holds everything that decides the rest of the run: weights, the
//! optimizer's vectors, the best model so far and, as metadata, counters and settings. A state is
//! written beside its place and renamed, and says its own SHA-256: whichever moment the power fails,
//! and whatever a disk does to the newest, there is one to go on from.

mod file;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use wavenet_engine::{Config, Weights, files};

use crate::optimizer::Moments;
use crate::settings::Training;
use crate::training::history::History;

/// Everything that decides the steps of a run but its budget: resuming with other settings is
/// refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSettings {
    /// Key of every random choice.
    pub seed: u64,
    /// The model's shape, classes and notes.
    pub model: Config,
    /// How it is trained.
    pub training: Training,
    /// Fingerprint of the prepared recordings.
    pub corpus: String,
    /// Fingerprint of the model that it started from, if any.
    pub finetuned_from: Option<String>,
}

/// The validations so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Bits a sample of the best averaged weights, and their step.
    pub best: Option<(f32, u64)>,
    /// Step of the last validation.
    pub validated_step: Option<u64>,
    /// Validations in a row since the best.
    pub without_gain: u64,
}

/// How the loss of the batches went, in bits a sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// Exponential average over some 20 batches.
    pub smoothed: f32,
    /// The lowest that was.
    pub lowest: f32,
}

/// Where a run is, apart from its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Step of the last checkpoint whose weights have proved good, a multiple of
    /// `--checkpoint-steps`: the run goes back to it when its loss explodes. 0: the start.
    pub anchor_step: u64,
    /// Time spent training, over all sessions.
    pub elapsed_s: f64,
    /// How the loss went, from the first batch on.
    pub trend: Option<Trend>,
    /// Times that it went back so far: each halved the learning rate.
    pub rollbacks: u32,
    /// The validations.
    pub record: Record,
    /// The losses so far.
    #[serde(default)]
    pub history: History,
    /// What must not change within a run.
    pub settings: RunSettings,
}

/// A run at one moment.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Its counters and settings.
    pub run: Run,
    /// The weights that learn.
    pub weights: Weights,
    /// What the optimizer remembers: the step and the averaged weights too.
    pub moments: Moments,
    /// The averaged weights that were the best on validation. Shape: `[parameters]`.
    pub best: Option<Vec<f32>>,
}

impl Checkpoint {
    /// A run before its first step.
    pub fn start(weights: Weights, settings: RunSettings) -> Self {
        let run = Run {
            anchor_step: 0,
            elapsed_s: 0.0,
            trend: None,
            rollbacks: 0,
            record: Record::default(),
            history: History::default(),
            settings,
        };
        Self { run, moments: Moments::new(weights.values()), weights, best: None }
    }

    /// Steps taken.
    pub fn step(&self) -> u64 {
        self.moments.step
    }

    /// Whether all numbers are such, as a run that diverges loses them.
    pub fn is_finite(&self) -> bool {
        let Moments { mean, square, average, .. } = &self.moments;
        let mut values = [self.weights.values(), mean, square, average].into_iter().flatten();
        values.all(|value| value.is_finite())
    }
}

/// The newest state of a model.
pub fn state_path(model: &Path) -> PathBuf {
    model.with_extension("state")
}

/// The state before the newest.
pub fn previous_path(model: &Path) -> PathBuf {
    model.with_extension("previous.state")
}

/// Whether there is a state of a run to go on from, whole or not.
pub fn is_begun(model: &Path) -> bool {
    state_path(model).exists() || previous_path(model).exists()
}

/// Checks that a file that shall be written has the name of a model.
///
/// # Errors
/// One line: it is that of a folder, or has another extension.
pub fn check_name(model: &Path) -> Result<()> {
    let shown = model.display();
    ensure!(
        !model.as_os_str().as_encoded_bytes().ends_with(b"/") && !model.is_dir(),
        "{shown} is a folder; name a file in it, such as model.safetensors"
    );
    ensure!(
        model.extension().is_some_and(|extension| extension == "safetensors"),
        "{shown}: models are .safetensors files; did you mean {}?",
        model.with_extension("safetensors").display()
    );
    Ok(())
}

/// Checks that a model and its states can be written, before hours are spent on them.
///
/// # Errors
/// One line: `model` is a folder or a device, has the extension of something else, is
/// write-protected, or its folder is missing or closed to us.
pub fn check_out(model: &Path) -> Result<()> {
    let shown = model.display();
    check_name(model)?;
    let stem = model.file_stem().unwrap_or_default().as_encoded_bytes();
    ensure!(
        !stem.ends_with(b".previous"),
        "{shown}: such a name is that of another model's older state; choose another one"
    );
    [model, &state_path(model), &previous_path(model)].into_iter().try_for_each(check_writable)
}

/// Checks that a file can be written, without writing it.
///
/// # Errors
/// Its folder is missing or refuses files, or something in its place must not be replaced.
pub fn check_writable(path: &Path) -> Result<()> {
    let shown = path.display();
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    ensure!(folder.is_dir(), "cannot write {shown}: create the folder {} first", folder.display());
    if let Ok(metadata) = path.metadata() {
        ensure!(!metadata.is_dir(), "{shown} is a folder; name a file");
        ensure!(metadata.is_file(), "{shown} is not an ordinary file; choose another name");
        let readonly = metadata.permissions().readonly();
        ensure!(!readonly, "{shown} is write-protected; choose another name");
    }
    files::beside(path).context("nothing can be written there; choose another place")?;
    Ok(())
}

/// Checks that a run takes no earlier model's place: neither one that begins anew, nor one that resumes
/// what has no state.
///
/// # Errors
/// One line: what there is, and how to go on.
pub fn check_unused(model: &Path, resume: bool) -> Result<()> {
    let states = [state_path(model), previous_path(model)];
    let state = states.iter().find(|state| state.exists());
    let shown = model.display();
    if resume {
        ensure!(
            state.is_some() || !model.exists(),
            "{shown} exists, but there is no {} to go on from; add --overwrite in place of --resume to \
             begin anew, or choose another --out",
            states[0].display()
        );
    } else if let Some(path) =
        Some(model).filter(|model| model.exists()).or(state.map(PathBuf::as_path))
    {
        bail!(
            "{} exists; add --resume to go on with it, --overwrite to begin anew, or choose another --out",
            path.display()
        );
    }
    Ok(())
}

/// Reads a state.
///
/// # Errors
/// One line: the file is missing, damaged, or of another version.
pub fn load(path: &Path) -> Result<Checkpoint> {
    let read = || file::from_bytes(&std::fs::read(path)?);
    read().with_context(|| format!("{} is not a usable state of a run", path.display()))
}

/// Writes a state, beside and renamed.
///
/// # Errors
/// The disk refuses.
pub fn save(path: &Path, checkpoint: &Checkpoint) -> Result<()> {
    write(path, checkpoint, || Ok(()))
}

fn write(
    path: &Path,
    checkpoint: &Checkpoint,
    before_rename: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mut file = files::beside(path)?;
    file::write(checkpoint, &mut file)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    // What takes long comes first.
    file.as_file().sync_all()?;
    before_rename()
        .with_context(|| format!("the state before {} cannot be replaced", path.display()))?;
    Ok(files::finish(file, path)?)
}

/// The averaged model of a state, to be played or measured.
///
/// # Errors
/// As [`load`].
pub fn averaged_model(path: &Path) -> Result<Weights> {
    let Checkpoint { mut weights, moments, .. } = load(path)?;
    weights.values_mut().copy_from_slice(&moments.average);
    Ok(weights)
}

/// The states of one run, the newest and the one before.
#[derive(Debug)]
pub struct Checkpoints {
    newest: PathBuf,
    previous: PathBuf,
    /// The step of the newest, where it is whole and of this run.
    newest_step: Option<u64>,
    /// Whether either is of this run.
    is_begun: bool,
}

impl Checkpoints {
    /// Those beside a model. What lies there is of an earlier run until [`Self::resume`] says else.
    pub fn new(model: &Path) -> Self {
        let (newest, previous) = (state_path(model), previous_path(model));
        Self { newest, previous, newest_step: None, is_begun: false }
    }

    /// The newest state that is whole, and a sentence where it is not the newest there is. None
    /// where there is none at all.
    ///
    /// # Errors
    /// One line: there are states, and none is whole.
    pub fn resume(&mut self) -> Result<Option<(Checkpoint, Option<String>)>> {
        let is_there = self.newest.exists();
        let problem = match load(&self.newest) {
            Ok(checkpoint) => {
                self.newest_step = Some(checkpoint.step());
                self.is_begun = true;
                return Ok(Some((checkpoint, None)));
            }
            Err(problem) => problem,
        };
        match load(&self.previous) {
            Ok(checkpoint) => {
                self.is_begun = true;
                let (newest, previous) = (self.newest.display(), self.previous.display());
                let how = if is_there { "damaged" } else { "missing" };
                Ok(Some((checkpoint, Some(format!("{newest} is {how}: going on from {previous}")))))
            }
            Err(_) if is_there || self.previous.exists() => Err(problem.context(format!(
                "{} cannot be resumed from; train with --overwrite in place of --resume to start afresh",
                self.newest.display()
            ))),
            Err(_) => Ok(None),
        }
    }

    /// Writes a state. The newest becomes the one before if it is the run's anchor: so the anchor is
    /// always among the two, however often a run is stopped between.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn save(&mut self, checkpoint: &mut Checkpoint, is_anchor: bool) -> Result<()> {
        let step = checkpoint.step();
        let anchor = checkpoint.run.anchor_step;
        if is_anchor {
            checkpoint.run.anchor_step = step;
        }
        let rotates = self.newest_step == Some(anchor) && step != anchor;
        write(&self.newest, checkpoint, || {
            if (rotates || !self.is_begun) && self.previous.exists() {
                std::fs::remove_file(&self.previous)?;
            }
            // A second name for the same file: the newest is never missing. Where a disk knows no
            // such names it is, until the new one has its place.
            if rotates && std::fs::hard_link(&self.newest, &self.previous).is_err() {
                std::fs::rename(&self.newest, &self.previous)?;
            }
            Ok(())
        })?;
        self.newest_step = Some(step);
        self.is_begun = true;
        Ok(())
    }

    /// The state of a step, of a run that has written it: that of its anchor.
    ///
    /// # Errors
    /// Neither file is that state any more.
    pub fn load_step(&self, step: u64) -> Result<Checkpoint> {
        let states = [&self.newest, &self.previous].map(|path| load(path).ok());
        let mut states = states.into_iter().flatten();
        states.find(|state| state.step() == step).with_context(|| {
            format!(
                "neither {} nor {} is the state of step {step} any more; train with --overwrite",
                self.newest.display(),
                self.previous.display()
            )
        })
    }
}

#[cfg(test)]
mod tests;
