//! How well a model knows some recordings.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail, ensure};
use serde::Serialize;
use wavenet_engine::{Config, Dtype, Isa, Packed, Recipe, State, Weights};

use crate::material::{Material, Notes};
use crate::network::{Loss, Network, Segment};
use crate::prepared::{Prepared, Split};
use crate::words::count;

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

/// Measures a model on one part of a corpus, or all of it, unless `stop` is set on the way.
///
/// With a `dtype` it is not the trainer's network that computes, but the engine, sample by sample with
/// weights of that type: what a player would hear.
///
/// # Errors
/// The corpus does not suit the model, the part is empty, the disk failed, or it was stopped.
pub fn eval(
    weights: &Weights,
    prepared: Prepared,
    split: Option<Split>,
    dtype: Option<Dtype>,
    threads: usize,
    stop: &AtomicBool,
) -> Result<EvalReport> {
    let material = material(weights.config(), prepared)?;
    let stretches = material.cover(split, WINDOW, u64::MAX);
    ensure!(!stretches.is_empty(), "that part of the data is empty: choose another --split");
    let fill = |index: usize, segment: &mut Segment| {
        ensure!(!stop.load(Ordering::Relaxed), "interrupted; nothing was measured");
        material.fill(stretches[index], segment)
    };
    let loss = match dtype {
        None => Network::new(weights.config(), threads).loss(weights, stretches.len(), &fill)?,
        Some(dtype) => {
            let packed = Packed::new(weights, dtype, Isa::Auto)?;
            let (mut total, mut segment) = (Loss::default(), Segment::default());
            for index in 0..stretches.len() {
                fill(index, &mut segment)?;
                total.add(played(&packed, &segment));
            }
            total
        }
    };
    Ok(EvalReport {
        bits_per_sample: loss.bits_per_sample(),
        unigram_bits_per_sample: material.unigram_bits(&stretches)?,
        accuracy: loss.accuracy(),
        samples: loss.samples,
    })
}

/// Recordings as a finished model wants to be told of them.
///
/// # Errors
/// One line: the corpus does not suit the model, or cannot be read.
pub fn material(config: &Config, prepared: Prepared) -> Result<Material> {
    suits(config, &prepared)?;
    let notes = match &config.conditioning {
        Recipe::Note(recipe) => Some(Notes::analyse(&prepared, recipe)?),
        Recipe::None => None,
    };
    Material::new(prepared, config, notes.as_ref(), &[0])
}

/// A sentence where recordings tell notes and the model knows none, or the other way round.
pub fn remark(config: &Config, prepared: &Prepared) -> Option<String> {
    let entries = prepared.entries();
    let noted = entries.iter().filter(|entry| entry.key.is_some()).count();
    match &config.conditioning {
        Recipe::None if noted == entries.len() => Some(
            "the recordings tell their notes, but this model knows none: it is measured without them".into(),
        ),
        // Where none is told, that is an error.
        Recipe::Note(_) if noted > 0 && noted < entries.len() => Some(format!(
            "this model plays notes, and nothing tells those of {} of {}: they are left out",
            entries.len() - noted,
            count(entries.len(), "recording")
        )),
        _ => None,
    }
}

/// The loss of a segment, computed by the engine.
fn played(packed: &Packed, segment: &Segment) -> Loss {
    let config = packed.config();
    let channels = config.local_channels();
    let mut state = State::new(packed, 1);
    let mut logits = vec![0.0; config.levels];
    let mut h = vec![0.0; config.conditioning_channels()];
    let mut loss = Loss::default();
    for (row, (&input, &target)) in segment.inputs.iter().zip(&segment.targets).enumerate() {
        if row >= segment.sound_from {
            let (class, local) = h.split_at_mut(config.class_width());
            class.copy_from_slice(packed.class_embedding(segment.class));
            local.copy_from_slice(&segment.local[row * channels..(row + 1) * channels]);
        }
        packed.step(&mut state, &[0], &[input], &h, &mut logits);
        if row < segment.counted_from {
            continue;
        }
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&logit| libm::exp(f64::from(logit - max))).sum();
        let own = logits[usize::from(target)];
        loss.nats += libm::log(sum) - f64::from(own - max);
        loss.hits +=
            u64::from(logits.iter().position(|&logit| logit == max) == Some(target.into()));
        loss.samples += 1;
    }
    loss
}

/// Whether the recordings tell what the model wants to be told.
fn suits(config: &Config, prepared: &Prepared) -> Result<()> {
    let is_known = |label: &String| config.classes.contains(label);
    let mut entries = prepared.entries().iter();
    let stranger = entries.find(|entry| !entry.label.as_ref().is_some_and(is_known));
    if let Some(stranger) = stranger.filter(|_| !config.classes.is_empty()) {
        bail!(
            "the model has classes ({}), but {} lies in no sub-folder of such a name: sort the \
             recordings by class",
            config.classes.join(", "),
            stranger.name
        );
    }
    ensure!(
        config.conditioning == Recipe::None
            || prepared.entries().iter().any(|entry| entry.key.is_some()),
        "the model plays notes, but nothing tells those of the recordings: name them so (A4.wav, \
         069.wav) or list them in labels.csv"
    );
    Ok(())
}
