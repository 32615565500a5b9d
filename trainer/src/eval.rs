//! How well a model knows some recordings.

use anyhow::{Result, ensure};
use serde::Serialize;
use wavenet_engine::{Recipe, Weights};

use crate::material::{Material, Notes};
use crate::network::Network;
use crate::prepared::{Prepared, Split};
use crate::training::measure;

/// Samples of a segment whose loss counts.
const WINDOW: usize = 8192;

/// What was measured. The names are what scripts rely on.
#[derive(Debug, Clone, Serialize)]
pub struct EvalReport {
    /// Cross-entropy of the model.
    pub bits_per_sample: f64,
    /// Entropy of the codes: what knowing only their frequencies would reach.
    pub unigram_bits_per_sample: f64,
    /// Share of samples whose likeliest code was the true one.
    pub accuracy: f64,
    /// Samples measured.
    pub samples: u64,
}

/// Measures a model on one part of a corpus, or all of it.
///
/// # Errors
/// The corpus does not suit the model, the part is empty, or the disk failed.
pub fn eval(
    weights: &Weights,
    prepared: Prepared,
    split: Option<Split>,
    threads: usize,
) -> Result<EvalReport> {
    let notes = match &weights.config().conditioning {
        Recipe::Note(recipe) => Some(Notes::analyse(&prepared, recipe)?),
        Recipe::None => None,
    };
    let material = Material::new(prepared, weights.config(), notes.as_ref(), &[0])?;
    let stretches = material.cover(split, WINDOW, u64::MAX);
    ensure!(!stretches.is_empty(), "that part of the data is empty");
    let mut network = Network::new(weights.config(), threads);
    let loss = measure(&mut network, weights, &material, &stretches)?;
    Ok(EvalReport {
        bits_per_sample: loss.bits_per_sample(),
        unigram_bits_per_sample: material.unigram_bits(&stretches)?,
        accuracy: loss.accuracy(),
        samples: loss.samples,
    })
}
