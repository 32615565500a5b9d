//! A run from the first step to the last: steps, validation, checkpoints, and what the user sees.
//!
//! Step n draws its stretches from the seed and n alone, and the optimizer's state is saved with
//! the weights: the same settings give the same model, bit for bit, stopped and resumed or not
//! (with a budget of steps or epochs; a budget of minutes depends on the clock).

pub mod diagnosis;
pub mod history;
mod progress;
mod watch;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use wavenet_engine::{Config, Weights};

use crate::checkpoint::{self, Run};
use crate::log::{self, LogOptions};
use crate::material::{Material, Stretch};
use crate::network::{Loss, Network, Segment};
use crate::optimizer::{AdamW, Moments, Schedule};
use crate::prepared::Split;
use crate::settings::{Training, check_model};
use diagnosis::Finding;
use history::History;
use watch::{Step, Watch};

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
    /// Key of every random choice.
    pub seed: u64,
    /// Worker threads.
    pub threads: usize,
    /// Steps between two checkpoints.
    pub checkpoint_steps: u64,
    /// Go on from the last checkpoint.
    pub resume: bool,
    /// How to train.
    pub training: Training,
    /// Where and how often to log, if at all.
    pub log: Option<LogOptions>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Steps taken, over all sessions.
    pub steps: u64,
    /// Whether the run was stopped before its budget was spent.
    pub interrupted: bool,
    /// Loss on the validation part, by the averaged weights.
    pub valid_bits: f64,
    /// Entropy of the validation part's codes.
    pub unigram_bits: f64,
    /// The losses on the way, from the first step.
    pub history: History,
    /// What is to be looked at; nothing after a healthy run.
    pub findings: Vec<Finding>,
}

/// Frames of validation audio heard while training, and at the end.
const QUICK_VALIDATION: u64 = 40_000;
const FINAL_VALIDATION: u64 = 1_000_000;
/// Samples of a validation segment whose loss counts.
const VALIDATION_WINDOW: usize = 8192;

/// Checks what can be known before a recording is read: the settings, the place of the model, and
/// whether the state to resume from is that of a run like this. `config` is the model's as far as
/// the recordings do not decide it.
///
/// # Errors
/// One line.
pub fn check(config: &Config, options: &TrainOptions) -> Result<()> {
    options.training.validate()?;
    check_model(config)?;
    checkpoint::check_out(&options.out)?;
    if let Some(log) = &options.log {
        log::check(&log.folder, options.resume)?;
    }
    let state = checkpoint::state_path(&options.out);
    if !options.resume || !state.exists() {
        return Ok(());
    }
    let settings = checkpoint::load_run(&state)?.settings;
    let around = settings_of("\n", options)?;
    let known = around.split_once('\n').and_then(|(before, after)| {
        let json = settings.strip_prefix(before)?.strip_suffix(after)?;
        serde_json::from_str::<Config>(json).ok()
    });
    let is_like = |known: Config| {
        let Config { classes, conditioning, root_key, .. } = known.clone();
        known == Config { classes, conditioning, root_key, ..config.clone() }
    };
    ensure!(known.is_some_and(is_like), other_settings(options));
    Ok(())
}

/// Everything that decides the steps: resuming with other settings is refused.
fn settings_of(config_json: &str, options: &TrainOptions) -> Result<String> {
    let training = serde_json::to_string(&options.training)?;
    Ok(format!("seed {}, {config_json}, {training}", options.seed))
}

fn other_settings(options: &TrainOptions) -> String {
    format!(
        "{} was trained with other settings; use the same ones to go on, or train without --resume \
         to start afresh",
        options.out.display()
    )
}

/// Trains a model on a corpus until the budget is spent or `stop` is set.
///
/// # Errors
/// One line: nothing to train on, a loss that is no longer a number, a disk that fails.
pub fn train(
    material: &Material,
    config: &Config,
    options: &TrainOptions,
    stop: &AtomicBool,
) -> Result<Outcome> {
    check(config, options)?;
    ensure!(material.train_frames() > 0, "there is nothing to train on");
    let mut session = Session::begin(material, config, options)?;
    let mut interrupted = false;
    while !session.is_done() {
        if stop.load(Ordering::Relaxed) {
            ensure!(
                session.moments.step > 0,
                "interrupted before the first step; no model was written"
            );
            interrupted = true;
            break;
        }
        session.step()?;
    }
    session.finish(interrupted)
}

/// A run under way.
struct Session<'a> {
    material: &'a Material,
    options: &'a TrainOptions,
    total_steps: Option<u64>,
    settings: String,
    network: Network,
    weights: Weights,
    averaged: Weights,
    moments: Moments,
    gradient: Vec<f32>,
    adam: AdamW,
    schedule: Schedule,
    validation: Vec<Stretch>,
    /// Step of the checkpoint on disk, if it is of this run.
    saved_step: Option<u64>,
    watch: Watch,
    started: Instant,
    elapsed_before_s: f64,
}

impl<'a> Session<'a> {
    fn begin(material: &'a Material, config: &Config, options: &'a TrainOptions) -> Result<Self> {
        let training = &options.training;
        let total_steps = match options.budget {
            Budget::Steps(steps) => Some(steps),
            Budget::Epochs(epochs) => {
                let samples = (training.batch * training.window) as f64;
                Some((epochs * material.train_frames() as f64 / samples).ceil() as u64)
            }
            Budget::Minutes(_) => None,
        };
        let settings = settings_of(&serde_json::to_string(config)?, options)?;
        let mut weights = Weights::random(config.clone(), options.seed)?;
        let mut moments = Moments::new(weights.values());
        let (mut elapsed_before_s, mut saved_step) = (0.0, None);
        let (mut history, mut said) = (History::default(), None);
        let state = checkpoint::state_path(&options.out);
        if options.resume && state.exists() {
            // First, as other settings may mean another number of parameters.
            let known = checkpoint::load_run(&state)?;
            ensure!(known.settings == settings, other_settings(options));
            let (run, values, loaded) = checkpoint::load(&state, weights.values().len())?;
            weights.values_mut().copy_from_slice(&values);
            moments = loaded;
            elapsed_before_s = run.elapsed_s;
            saved_step = Some(run.step);
            said = Some(format!("going on after step {}", run.step));
            history = run.history;
        } else if options.resume {
            let state = state.display();
            said = Some(format!("there is no {state} to resume from: starting afresh"));
        }
        let averaged = weights.clone();
        let validation = material.cover(Some(Split::Valid), VALIDATION_WINDOW, QUICK_VALIDATION);
        ensure!(
            !validation.is_empty(),
            "no recording is left to validate on: name some with --valid, or add recordings"
        );
        let known = (moments.step, history);
        let log = options.log.as_ref();
        let watch = Watch::begin(material, config, training, log, total_steps, known)?;
        said.iter().for_each(|line| watch.say(line));
        Ok(Self {
            material,
            options,
            total_steps,
            settings,
            network: Network::new(config, options.threads),
            gradient: vec![0.0; weights.values().len()],
            averaged,
            weights,
            moments,
            adam: AdamW {
                weight_decay: training.weight_decay,
                clip_norm: training.clip_norm,
                average_decay: training.average_decay,
                ..AdamW::default()
            },
            schedule: Schedule {
                peak: training.learning_rate,
                warmup_steps: training.warmup_steps,
                final_share: training.final_share,
            },
            validation,
            saved_step,
            watch,
            started: Instant::now(),
            elapsed_before_s,
        })
    }

    fn elapsed_s(&self) -> f64 {
        self.elapsed_before_s + self.started.elapsed().as_secs_f64()
    }

    /// Share of the budget that is spent, 0 to 1.
    fn share_done(&self) -> f64 {
        match (self.options.budget, self.total_steps) {
            (Budget::Minutes(minutes), _) => self.elapsed_s() / (minutes * 60.0),
            (_, Some(total)) => self.moments.step as f64 / total.max(1) as f64,
            (_, None) => 1.0,
        }
    }

    fn is_done(&self) -> bool {
        self.share_done() >= 1.0
    }

    fn step(&mut self) -> Result<()> {
        let (step, batch) = (self.moments.step, self.options.training.batch);
        let (material, seed) = (self.material, self.options.seed);
        let window = self.options.training.window;
        let fill = |index: usize, segment: &mut Segment| {
            let number = step * batch as u64 + index as u64;
            material.fill(material.train_stretch(seed, number, window)?, segment)
        };
        let loss = self.network.gradient(&self.weights, batch, &fill, &mut self.gradient)?;
        let rate = self.schedule.at(step, self.share_done());
        let norm =
            self.adam.step(&mut self.moments, rate, &mut self.gradient, self.weights.values_mut());
        if !loss.nats.is_finite() || !norm.is_finite() {
            return self.diverged();
        }
        self.watch.step(Step {
            step: self.moments.step,
            share_done: self.share_done(),
            loss,
            learning_rate: rate,
            gradient_norm: norm,
            elapsed_s: self.elapsed_s(),
        });
        if self.moments.step.is_multiple_of(self.options.checkpoint_steps) {
            self.checkpoint()?;
            let bits = self.validate()?.bits_per_sample();
            self.watch.validated(bits, &self.averaged);
        }
        Ok(())
    }

    /// Nothing is saved from here on: the files stay as they were when the numbers were good.
    fn diverged(&self) -> Result<()> {
        let kept = match self.saved_step {
            Some(step) => format!("the model of step {step} is kept"),
            None => "no model was written".into(),
        };
        bail!(
            "the loss is no longer a number at step {}; {kept}: start again with a learning_rate \
             below {}",
            self.moments.step,
            self.options.training.learning_rate
        );
    }

    /// Saves the state, then the averaged model: whichever moment the power fails, both are whole.
    fn checkpoint(&mut self) -> Result<()> {
        let Moments { mean, square, average, .. } = &self.moments;
        let mut values = [self.weights.values(), mean, square, average].into_iter().flatten();
        if !values.all(|value| value.is_finite()) {
            return self.diverged();
        }
        let mut run = Run::new(self.moments.step, self.elapsed_s(), self.settings.clone());
        run.history = self.watch.history.clone();
        let state = checkpoint::state_path(&self.options.out);
        checkpoint::save(&state, &run, self.weights.values(), &self.moments)?;
        self.averaged.values_mut().copy_from_slice(&self.moments.average);
        self.averaged.save(&self.options.out)?;
        self.saved_step = Some(run.step);
        Ok(())
    }

    fn validate(&mut self) -> Result<Loss> {
        self.averaged.values_mut().copy_from_slice(&self.moments.average);
        measure(&mut self.network, &self.averaged, self.material, &self.validation)
    }

    fn finish(mut self, interrupted: bool) -> Result<Outcome> {
        self.checkpoint()?;
        let limit = if interrupted { QUICK_VALIDATION } else { FINAL_VALIDATION };
        self.validation = self.material.cover(Some(Split::Valid), VALIDATION_WINDOW, limit);
        let valid_bits = self.validate()?.bits_per_sample();
        let unigram_bits = self.material.unigram_bits(&self.validation)?;
        let findings = self.watch.finished(&self.averaged, valid_bits, unigram_bits);
        Ok(Outcome {
            steps: self.moments.step,
            interrupted,
            valid_bits,
            unigram_bits,
            history: self.watch.history,
            findings,
        })
    }
}

/// Loss of a model on some stretches.
fn measure(
    network: &mut Network,
    weights: &Weights,
    material: &Material,
    stretches: &[Stretch],
) -> Result<Loss> {
    let fill = |index: usize, segment: &mut Segment| {
        let stretch = stretches.get(index).context("a stretch too many")?;
        material.fill(*stretch, segment)
    };
    network.loss(weights, stretches.len(), &fill)
}
