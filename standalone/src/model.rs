//! The model that is played: a file, or one that comes with the program.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use wavenet_engine::cuda::{self, Mode};
use wavenet_engine::synth::{Settings, Synth};
use wavenet_engine::{Dtype, Error, Packed, Weights};
use wavenet_models::Choice;

use crate::cli::{Place, PlaceArgs, RunArgs};

/// A model and where it came from.
#[derive(Debug)]
pub struct Model {
    /// Config and numbers.
    pub weights: Weights,
    /// The file's path as it was given, or such as `built-in bird`.
    pub name: String,
    /// Size of the file.
    pub file_bytes: u64,
}

impl Model {
    /// Reads `--model`, a file or the name of a built-in model; the first of those where there is none.
    ///
    /// # Errors
    /// If the file is missing, not a file, or not a valid model.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let path = match Choice::of(path) {
            Choice::File(path) => path,
            Choice::BuiltIn(model) => {
                let weights = model.weights().context("the built-in model")?;
                let file_bytes = model.bytes.len() as u64;
                return Ok(Self { weights, name: format!("built-in {}", model.name), file_bytes });
            }
        };
        let name = path.display().to_string();
        let metadata = std::fs::metadata(path).with_context(|| {
            format!("cannot read the model {name}; give the path of a .safetensors file, or a built-in model: {}", names())
        })?;
        // A pipe or a device would never end.
        if !metadata.is_file() {
            bail!("the model {name} is not a file; give the path of a .safetensors file");
        }
        if path.extension().is_some_and(|extension| extension == "state") {
            bail!(
                "{name} is the state of a training run; make a model of it with \
                 `wavenet-trainer export --model {name} --out x.safetensors --dtype f32`"
            );
        }
        let weights = Weights::load(path).map_err(|error| match error {
            // Names the path itself.
            Error::Io { .. } => anyhow::Error::from(error),
            Error::Format(_) | Error::Shape { .. } => anyhow::Error::from(error)
                .context(format!("{name} (get a fresh copy, or export it again)")),
            _ => anyhow::Error::from(error).context(name.clone()),
        })?;
        Ok(Self { weights, name, file_bytes: metadata.len() })
    }

    /// How the weights shall be stored: as asked, or as the model asks.
    pub fn dtype(&self, run: &RunArgs) -> Dtype {
        run.dtype.map_or(self.weights.config().default_dtype, Dtype::from)
    }

    /// The model, ready to run on this machine.
    ///
    /// # Errors
    /// If there is no kernel for what `--isa` and `--dtype` ask.
    pub fn pack(&self, run: &RunArgs) -> Result<Packed> {
        Ok(Packed::new(&self.weights, self.dtype(run), run.isa.into())?)
    }
}

/// A player of a model on the processor, on as many threads as asked for.
///
/// # Errors
/// If a setting does not fit the model, or the system has no second thread.
pub fn synth(packed: Packed, settings: Settings, run: &RunArgs) -> Result<Synth> {
    let mut synth = Synth::new(packed, settings)?;
    help(&mut synth, run)?;
    Ok(synth)
}

/// Starts a player's second thread, if one was asked for.
///
/// # Errors
/// If the system has none.
pub fn help(synth: &mut Synth, run: &RunArgs) -> Result<()> {
    if run.threads == 2 {
        synth.start_helper()?;
    }
    Ok(())
}

/// Whether what was asked for goes together.
///
/// # Errors
/// If two threads shall share the work of a GPU, or the processor shall do what only a GPU can.
pub fn check_place(place: PlaceArgs, run: &RunArgs) -> Result<()> {
    if place.device == Place::Cuda {
        ensure!(run.threads == 1, "--threads is the processor's; leave it out on the GPU");
    } else {
        for (is_asked, name) in [(place.fast, "--fast"), (place.pipeline, "--pipeline")] {
            ensure!(!is_asked, "{name} is the GPU's; add --device cuda (of play: --backend cuda)");
        }
    }
    Ok(())
}

/// What a GPU was asked for, or its refusal and what to do about it.
///
/// # Errors
/// As the GPU.
pub fn of_gpu<T>(asked: wavenet_engine::Result<T>) -> wavenet_engine::Result<T> {
    asked.map_err(|error| match error {
        Error::Device(why) => Error::Device(format!("{why}; without cuda the processor does it")),
        other => other,
    })
}

/// The same wherever it was asked for.
///
/// # Errors
/// As [`synth`], and if there is no GPU that can play the model.
pub fn synth_at(
    place: PlaceArgs,
    model: &Model,
    settings: Settings,
    run: &RunArgs,
) -> Result<Synth> {
    check_place(place, run)?;
    let mut synth = synth_alone(place, model, settings, run)?;
    help(&mut synth, run)?;
    Ok(synth)
}

/// The same without its second thread.
///
/// # Errors
/// If a setting does not fit the model, or there is no GPU that can play it.
pub fn synth_alone(
    place: PlaceArgs,
    model: &Model,
    settings: Settings,
    run: &RunArgs,
) -> Result<Synth> {
    let packed = model.pack(run)?;
    if place.device != Place::Cuda {
        return Ok(Synth::new(packed, settings)?);
    }
    let packed = Arc::new(packed);
    let lanes = of_gpu(cuda::lanes(&model.weights, packed, settings.voices, place.mode()))?;
    Ok(Synth::on_lanes(lanes, settings)?)
}

/// Says once that the GPU was given up.
#[derive(Debug)]
pub struct LossNote {
    mode: Mode,
    is_said: bool,
}

impl LossNote {
    /// Of a GPU that computes so.
    pub fn new(mode: Mode) -> Self {
        Self { mode, is_said: false }
    }

    /// Looks at what a player tells, and says it on standard error.
    pub fn look(&mut self, loss: Option<&str>) {
        if let Some(news) = self.news(loss) {
            let _ = writeln!(std::io::stderr(), "note: {news}");
        }
    }

    /// What is to be said, the first time that there is something.
    pub fn news(&mut self, loss: Option<&str>) -> Option<String> {
        let why = loss.filter(|_| !self.is_said)?;
        self.is_said = true;
        let how = match self.mode {
            Mode::Exact | Mode::Pipeline => "with the same sound",
            Mode::Fast => "in its own arithmetic",
        };
        Some(format!("the GPU is given up ({why}); the processor goes on {how}"))
    }
}

/// What to tell a user whose machine lacks a fused multiply-add; `None` where it has one.
pub fn slowness(packed: &Packed) -> Option<&'static str> {
    (!packed.has_fast_fma()).then_some(
        "this processor has no fused multiply-add: the same sound takes some 30 times longer",
    )
}

/// The names of the built-in models.
fn names() -> String {
    wavenet_models::ALL.map(|model| model.name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_model_is_one() {
        let model = Model::load(None).unwrap();
        assert!(model.file_bytes > 0 && model.weights.layout().len > 0);
    }

    #[test]
    fn a_folder_is_not_a_model() {
        let folder = tempfile::tempdir().unwrap();
        let error = Model::load(Some(folder.path())).unwrap_err();
        assert!(format!("{error:#}").contains("not a file"));
    }

    #[test]
    fn a_loss_is_said_once_and_promises_no_more_than_is_kept() {
        let mut exact = LossNote::new(Mode::Exact);
        assert_eq!(exact.news(None), None);
        assert!(exact.news(Some("lost")).unwrap().contains("(lost)"));
        assert_eq!(exact.news(Some("lost")), None);
        let fast = LossNote::new(Mode::Fast).news(Some("lost")).unwrap();
        assert!(!fast.contains("the same") && fast.contains("goes on"), "{fast}");
    }
}
