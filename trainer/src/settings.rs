//! What a run may be told: the model's shape and how it is trained, as defaults, TOML and
//! recognised from the corpus.

mod training;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use wavenet_engine::weights::Layout;
use wavenet_engine::{Config, NoteRecipe, Recipe};

use crate::prepared::Prepared;

pub use training::{Augmentation, Curve, Training, Tuning};

/// A `--config` file: `[model]` and `[training]`, each field optional.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunFile {
    /// The model's shape.
    pub model: Config,
    /// How it is trained.
    pub training: Training,
}

impl Default for RunFile {
    fn default() -> Self {
        Self { model: default_model(), training: Training::default() }
    }
}

/// Larger models (1 GiB) could not be loaded.
const MAX_PARAMETERS: usize = (1 << 28) - (1 << 20);

/// Checks that a model of this shape can be made, before memory is taken for it.
///
/// # Errors
/// One line: the shape is not allowed, or has too many parameters.
pub fn check_model(config: &Config) -> Result<()> {
    config.validate()?;
    let parameters = Layout::new(config).len;
    ensure!(
        parameters <= MAX_PARAMETERS,
        "a model of {parameters} parameters; at most {MAX_PARAMETERS}: choose fewer channels or \
         dilations"
    );
    Ok(())
}

/// The model that a CPU trains in minutes: R = 32, S = 64, 10 layers.
pub fn default_model() -> Config {
    Config { residual_channels: 32, gate_channels: 32, skip_channels: 64, ..Config::default() }
}

impl RunFile {
    /// Reads a TOML file. Fields of `[model]` that it leaves out are those of `model`.
    ///
    /// # Errors
    /// One line: the file is missing, is no TOML, or has an unknown or impossible field.
    pub fn load(path: &Path, model: &Config) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the config {shown}"))?;
        Self::parse(&text, model).with_context(|| format!("the config {shown}"))
    }

    fn parse(text: &str, model: &Config) -> Result<Self> {
        // toml's own messages are drawings of several lines; one says enough.
        let one_line = |error: toml::de::Error| anyhow::anyhow!("{}", error.message());
        let mut table: toml::Table = text.parse().map_err(one_line)?;
        let mut model = toml::Table::try_from(model)?;
        if let Some(given) = table.remove("model") {
            let given = given.as_table().context("`model` must be a table: [model]")?.clone();
            model.extend(given);
        }
        table.insert("model".into(), toml::Value::Table(model));
        let file: Self = table.try_into().map_err(one_line)?;
        check_model(&file.model)?;
        file.training.validate()?;
        Ok(file)
    }
}

/// What the model is told about the sound beside its past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditioning {
    /// Notes where one is known of every recording; classes where there is more than one label.
    Auto,
    /// Nothing.
    None,
    /// Notes, by the phases of their partials.
    Note,
    /// The label of the recording's folder.
    Class,
}

/// Fits a model's classes and notes to a corpus.
///
/// # Errors
/// Something was asked for that the corpus does not tell.
pub fn condition(model: &mut Config, prepared: &Prepared, wanted: Conditioning) -> Result<()> {
    let entries = prepared.entries();
    let noted = entries.iter().filter(|entry| entry.key.is_some()).count();
    let mut labels: Vec<String> = entries.iter().filter_map(|e| e.label.clone()).collect();
    labels.sort();
    labels.dedup();
    let use_notes = match wanted {
        Conditioning::Auto => noted == entries.len(),
        Conditioning::Note => {
            ensure!(
                noted > 0,
                "no recording's name tells its note (such as A4 or 069): rename them, list them in \
                 labels.csv, or leave out --conditioning note"
            );
            true
        }
        Conditioning::None | Conditioning::Class => false,
    };
    let use_classes = match wanted {
        Conditioning::Auto | Conditioning::Note => labels.len() > 1,
        Conditioning::Class => {
            ensure!(
                !labels.is_empty(),
                "no recording lies in a sub-folder that would name its class: sort them into \
                 sub-folders, list them in labels.csv, or leave out --conditioning class"
            );
            true
        }
        Conditioning::None => false,
    };
    model.classes = if use_classes { labels } else { Vec::new() };
    if !use_notes {
        model.conditioning = Recipe::None;
    } else if model.conditioning == Recipe::None {
        model.conditioning = Recipe::Note(NoteRecipe::with_levels());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_are_the_trainers_defaults() {
        let file = "[model]\nskip_channels = 128\n[training]\nbatch = 2";
        let file = RunFile::parse(file, &default_model()).unwrap();
        assert_eq!(file.model, Config { skip_channels: 128, ..default_model() });
        assert_eq!(file.training, Training { batch: 2, ..Training::default() });
        assert_eq!(RunFile::parse("", &default_model()).unwrap().model, default_model());
    }

    #[test]
    fn mistakes_are_one_line() {
        for text in [
            "[model]\nskip = 1",
            "[model]\nkernel_size = 9",
            "batch",
            "[training]\nbatch = 0",
            "[training]\nschedule = \"steep\"",
            "[training]\nschedule = \"exponential\"\nfinal_share = 0.0",
            "[training]\nclip_norm = inf",
            "[training]\nvalidation_steps = 0",
            "[training.augmentation]\ngain_db = [1.0, 0.0]",
            "[training.augmentation]\ngain_db = [-6.0, inf]",
            "[training.augmentation]\npitch_cents = nan",
            "[training.augmentation]\npitch_cents = 201.0",
        ] {
            let message = format!("{:#}", RunFile::parse(text, &default_model()).unwrap_err());
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
