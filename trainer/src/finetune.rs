//! Transfer learning: a run that starts from another model's weights instead of random ones.
//!
//! The residual stack must be the same (R, G, taps, dilations). A tensor that both models have in the
//! same shape is taken over, the embedding of a class by the class's name; what depends on what the
//! model is told (other notes, other classes) starts afresh. The rate may be another: the same filters
//! then sound higher or lower until they have learned.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};
use wavenet_engine::{Config, Dtype, Recipe, Weights};

use crate::hex::hex;

/// The model to start from.
#[derive(Debug, Clone)]
pub struct Finetune {
    path: PathBuf,
    weights: Weights,
}

/// What was taken over.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    from: PathBuf,
    taken: usize,
    parameters: usize,
    /// Names of what starts afresh, layers together.
    fresh: BTreeSet<String>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { from, taken, parameters, fresh } = self;
        write!(f, "from {}: {taken} of {parameters} parameters", from.display())?;
        if !fresh.is_empty() {
            let names: Vec<&str> = fresh.iter().map(String::as_str).collect();
            write!(f, "; afresh: {}", names.join(", "))?;
        }
        Ok(())
    }
}

impl Finetune {
    /// From a model that was read from a file.
    pub fn new(path: &Path, weights: Weights) -> Self {
        Self { path: path.to_owned(), weights }
    }

    /// The shape of the new model as far as nothing else decides it.
    pub fn base_model(&self) -> Config {
        Config { classes: Vec::new(), default_dtype: Dtype::F32, ..self.weights.config().clone() }
    }

    /// What tells this start from others.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        self.weights.values().iter().for_each(|value| hash.update(value.to_le_bytes()));
        hex(hash)
    }

    /// Checks that a model of this shape can start from here.
    ///
    /// # Errors
    /// One line naming what differs.
    pub fn check(&self, config: &Config) -> Result<()> {
        let old = self.weights.config();
        let shown = self.path.display();
        for (name, old, new) in [
            ("residual_channels", old.residual_channels, config.residual_channels),
            ("gate_channels", old.gate_channels, config.gate_channels),
            ("kernel_size", old.kernel_size, config.kernel_size),
            ("levels", old.levels, config.levels),
        ] {
            ensure!(
                old == new,
                "{shown} has {name} = {old}, the config asks for {new}: leave {name} out of it, or \
                 train without --finetune"
            );
        }
        ensure!(
            old.dilations == config.dilations,
            "{shown} has other dilations than the config asks for: leave them out of it, or train \
             without --finetune"
        );
        Ok(())
    }

    /// The weights to start with, random where this model has none that fit.
    ///
    /// # Errors
    /// Where [`Self::check`] or the config itself is refused.
    pub fn start(&self, config: &Config, seed: u64) -> Result<(Weights, Summary)> {
        self.check(config)?;
        let mut weights = Weights::random(config.clone(), seed)?;
        let (old, old_specs) = (self.weights.config(), &self.weights.layout().specs);
        let is_told_the_same = old.class_width() == config.class_width()
            && is_same_recipe(&old.conditioning, &config.conditioning);
        let (mut taken, mut fresh) = (0, BTreeSet::new());
        for spec in weights.layout().specs.clone() {
            if spec.name == CLASSES {
                taken += self.take_classes(&mut weights, &mut fresh);
                continue;
            }
            let fits = !spec.name.contains(".conditioning.") || is_told_the_same;
            let same = |old: &&wavenet_engine::weights::TensorSpec| {
                old.name == spec.name && old.shape == spec.shape
            };
            if let Some(old) = old_specs.iter().find(same).filter(|_| fits) {
                let values = self.weights.get(&old.range);
                weights.values_mut()[spec.range.clone()].copy_from_slice(values);
                taken += values.len();
            } else {
                fresh.insert(without_layer(&spec.name));
            }
        }
        let parameters = weights.values().len();
        Ok((weights, Summary { from: self.path.clone(), taken, parameters, fresh }))
    }

    /// Takes over the embeddings of the classes that both models know.
    fn take_classes(&self, weights: &mut Weights, fresh: &mut BTreeSet<String>) -> usize {
        let (old, new) = (self.weights.config().clone(), weights.config().clone());
        let ranges = (&self.weights.layout().class_embedding, &weights.layout().class_embedding);
        let (Some(old_range), Some(range)) = (ranges.0.clone(), ranges.1.clone()) else {
            fresh.insert(CLASSES.into());
            return 0;
        };
        let width = new.class_channels;
        let old_values = self.weights.get(&old_range);
        let rows = weights.values_mut()[range].chunks_exact_mut(width);
        let mut taken = 0;
        for (row, class) in rows.zip(&new.classes) {
            let known = old.classes.iter().position(|name| name == class);
            match known.filter(|_| old.class_channels == width) {
                Some(known) => {
                    row.copy_from_slice(&old_values[known * width..][..width]);
                    taken += width;
                }
                None => {
                    fresh.insert(format!("class {class}"));
                }
            }
        }
        taken
    }
}

const CLASSES: &str = "class_embedding.weight";

/// Whether the local channels mean the same.
fn is_same_recipe(old: &Recipe, new: &Recipe) -> bool {
    match (old, new) {
        (Recipe::None, Recipe::None) => true,
        (Recipe::Note(old), Recipe::Note(new)) => {
            old.partials == new.partials && old.decays_ms == new.decays_ms
        }
        _ => false,
    }
}

/// `layers.3.skip.weight` as `layers.*.skip.weight`.
fn without_layer(name: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> =
        name.split('.').map(|part| if is_number(part) { "*" } else { part }).collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choir(classes: &[&str]) -> Config {
        Config {
            residual_channels: 4,
            gate_channels: 4,
            skip_channels: 8,
            end_channels: 8,
            dilations: vec![1, 2],
            classes: classes.iter().map(|name| (*name).to_owned()).collect(),
            ..Config::default()
        }
    }

    fn from(config: Config) -> Finetune {
        Finetune::new(Path::new("old.safetensors"), Weights::random(config, 5).unwrap())
    }

    #[test]
    fn the_same_model_is_taken_over_whole() {
        let old = from(choir(&["alto", "bass"]));
        let rate = Config { sample_rate_hz: 22_050, ..choir(&["alto", "bass"]) };
        let (weights, summary) = old.start(&rate, 1).unwrap();
        assert_eq!(weights.values(), old.weights.values());
        let count = weights.values().len();
        assert_eq!(
            summary.to_string(),
            format!("from old.safetensors: {count} of {count} parameters")
        );
    }

    #[test]
    fn classes_are_found_by_name_and_the_rest_starts_afresh() {
        let old = from(choir(&["alto", "bass"]));
        let new = Config { skip_channels: 6, ..choir(&["bass", "tenor", "alto"]) };
        let (weights, summary) = old.start(&new, 1).unwrap();
        let rows = |weights: &Weights| {
            let range = weights.layout().class_embedding.clone().unwrap();
            weights.get(&range).chunks(16).map(<[f32]>::to_vec).collect::<Vec<_>>()
        };
        let (old_rows, new_rows) = (rows(&old.weights), rows(&weights));
        assert_eq!(new_rows[0], old_rows[1]);
        assert_eq!(new_rows[2], old_rows[0]);
        let random = Weights::random(new, 1).unwrap();
        assert_eq!(new_rows[1], rows(&random)[1]);
        assert_eq!(
            summary.fresh.into_iter().collect::<Vec<_>>(),
            ["class tenor", "end1.weight", "layers.*.skip.bias", "layers.*.skip.weight"]
        );
        let (_, summary) = old.start(&choir(&[]), 1).unwrap();
        assert!(summary.fresh.is_empty(), "{summary}");
        let (_, summary) = from(choir(&[])).start(&choir(&["alto"]), 1).unwrap();
        let expected = "afresh: class_embedding.weight, layers.*.filter.conditioning.weight, \
                        layers.*.gate.conditioning.weight";
        assert!(summary.to_string().ends_with(expected), "{summary}");
    }

    #[test]
    fn another_residual_stack_is_refused_by_name() {
        let old = from(choir(&[]));
        for (config, expected) in [
            (Config { residual_channels: 5, ..choir(&[]) }, "residual_channels = 4"),
            (Config { gate_channels: 5, ..choir(&[]) }, "gate_channels = 4"),
            (Config { kernel_size: 3, ..choir(&[]) }, "kernel_size = 2"),
            (Config { dilations: vec![1, 4], ..choir(&[]) }, "dilations"),
        ] {
            let message = format!("{:#}", old.start(&config, 1).unwrap_err());
            assert!(message.contains(expected) && !message.contains('\n'), "{message}");
        }
    }
}
