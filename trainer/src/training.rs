//! A run from the first step to the last: steps, validation, checkpoints, and what the user sees.
//!
//! Step n draws its stretches from the seed and n alone, validations and checkpoints happen at fixed
//! steps, and all that a decision rests on is saved with the weights: the same settings give the same
//! model, bit for bit, stopped and resumed or not (with a budget of steps or epochs; a budget of
//! minutes depends on the clock).
//!
//! The model file is the best of the averaged weights: every `validation_steps`, and at the end, they
//! are measured on the same part of the validation data (`best.rs`). Until the first validation it is
//! the averaged weights of the last checkpoint. A run whose loss explodes goes back and learns more
//! slowly (`rollback.rs`).

mod best;
pub mod diagnosis;
pub mod history;
mod progress;
mod resuming;
mod rollback;
mod session;
mod validation;
mod watch;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use wavenet_engine::Config;

use crate::checkpoint::{self, Checkpoints, RunSettings};
use crate::finetune::Finetune;
use crate::log::{self, LogOptions};
use crate::material::{Material, Prefetch};
use crate::network::{Device, Precision, Segment};
use crate::settings::{Training, check_model};
use diagnosis::Finding;
use history::History;
use session::Session;

/// When a run is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// After so many steps.
    Steps(u64),
    /// After having heard as many samples as the corpus has, so many times.
    Epochs(f64),
    /// After so many minutes of training.
    Minutes(f64),
}

/// One run.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Where the model goes.
    pub out: PathBuf,
    /// When to stop.
    pub budget: Budget,
    /// Stop earlier, after so many validations in a row without a better one.
    pub patience: Option<u64>,
    /// Key of every random choice.
    pub seed: u64,
    /// What computes the steps.
    pub device: Device,
    /// How its numbers are rounded.
    pub precision: Precision,
    /// Worker threads.
    pub threads: usize,
    /// Steps between two checkpoints.
    pub checkpoint_steps: u64,
    /// Go on from the last checkpoint.
    pub resume: bool,
    /// Start from this model.
    pub finetune: Option<Finetune>,
    /// How to train.
    pub training: Training,
    /// What is to be looked at in the recordings, as far as whoever put them together saw it.
    pub findings: Vec<Finding>,
    /// Where and how often to log, if at all.
    pub log: Option<LogOptions>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Steps taken, over all sessions.
    pub steps: u64,
    /// The step whose averaged weights are the model.
    pub best_step: u64,
    /// Whether the run was stopped before its budget was spent.
    pub interrupted: bool,
    /// Whether it stopped because nothing was gained any more.
    pub is_out_of_patience: bool,
    /// Loss of the model on the validation part.
    pub valid_bits: f64,
    /// Entropy of the validation part's codes.
    pub unigram_bits: f64,
    /// The losses on the way, from the first step.
    pub history: History,
    /// What is to be looked at; nothing after a healthy run.
    pub findings: Vec<Finding>,
}

/// Checks what can be known before a recording is read: the settings, the place of the model, and
/// whether the state to resume from is that of a run like this. `config` is the model's as far as
/// the recordings do not decide it.
///
/// # Errors
/// One line.
pub fn check(config: &Config, options: &TrainOptions) -> Result<()> {
    check_run(config, None, options)
}

/// The same, with the fingerprint of the recordings where they are read by now.
fn check_run(config: &Config, corpus: Option<&str>, options: &TrainOptions) -> Result<()> {
    options.device.check()?;
    options.precision.check(options.device)?;
    options.training.validate()?;
    check_model(config)?;
    checkpoint::check_out(&options.out)?;
    if let Some(log) = &options.log {
        log::check(&log.folder, options.resume)?;
    }
    if let Some(finetune) = &options.finetune {
        finetune.check(config)?;
    }
    if !options.resume {
        return Ok(());
    }
    let Some((checkpoint, _)) = Checkpoints::new(&options.out).resume()? else {
        // It starts afresh: what lies in the log's folder is not of this run.
        return options.log.as_ref().map_or(Ok(()), |log| log::check(&log.folder, false));
    };
    // What the recordings decide is compared when they are read; what the user left unsaid is what it became.
    let known = checkpoint.run.settings;
    let Config { classes, conditioning, root_key, .. } = known.model.clone();
    let training = options.training.clone().completed(conditioning.told());
    let model = Config { classes, conditioning, root_key, ..config.clone() };
    let corpus = corpus.unwrap_or(&known.corpus);
    let settings = RunSettings { model, training, ..settings_of(config, corpus, options) };
    resuming::check(&known, &settings, &options.out)
}

fn settings_of(config: &Config, corpus: &str, options: &TrainOptions) -> RunSettings {
    RunSettings {
        seed: options.seed,
        model: config.clone(),
        training: options.training.clone(),
        corpus: corpus.into(),
        finetuned_from: options.finetune.as_ref().map(Finetune::fingerprint),
    }
}

/// Trains a model on a corpus until the budget is spent, nothing is gained any more or `stop` is set.
///
/// # Errors
/// One line: nothing to train on, a loss that explodes again and again, a disk that fails.
pub fn train(
    material: &Material,
    config: &Config,
    options: &TrainOptions,
    stop: &AtomicBool,
) -> Result<Outcome> {
    check_run(config, Some(material.fingerprint()), options)?;
    ensure!(material.train_frames() > 0, "there is nothing to train on");
    let mut session = Session::begin(material, config, options)?;
    let make = |number: u64, segment: &mut Segment| {
        let window = options.training.window;
        material.fill(material.train_stretch(options.seed, number, window)?, segment)
    };
    std::thread::scope(|scope| {
        let lanes = options.threads.min(options.training.batch);
        let mut windows = Prefetch::new(scope, lanes, &make);
        loop {
            if stop.load(Ordering::Relaxed) {
                return session.interrupt();
            }
            session.validate_if_due()?;
            if !session.is_done() {
                session.step(&mut windows)?;
            } else if session.conclude()? {
                return session.finish(false);
            }
        }
    })
}
