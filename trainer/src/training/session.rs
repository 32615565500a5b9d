//! A run under way: one step after another, and between them what keeps it safe.
//!
//! ```text
//! at step n:   validate if due -> loss and gradient of batch n -> exploded? go back
//!              -> checkpoint if due -> move the weights: step n + 1
//! ```

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use wavenet_engine::{Config, Weights};

use super::progress::say;
use super::rollback::Verdict;
use super::watch::{Moment, Step, Watch};
use super::{Budget, Outcome, TrainOptions, best, resuming, rollback, settings_of, validation};
use crate::checkpoint::{Checkpoint, Checkpoints, RunSettings};
use crate::finetune::Finetune;
use crate::learner::Learner;
use crate::material::{Material, Prefetch, Stretch};
use crate::network::Segment;
use crate::optimizer::{AdamW, Schedule};

pub(super) struct Session<'a> {
    material: &'a Material,
    options: &'a TrainOptions,
    settings: RunSettings,
    total_steps: Option<u64>,
    learner: Learner,
    schedule: Schedule,
    validation: Vec<Stretch>,
    /// All that decides the rest of the run; its numbers are the learner's once they are fetched.
    now: Checkpoint,
    /// The segments of a step.
    batch: Vec<Segment>,
    /// Room for the weights that are measured or written as the model.
    averaged: Weights,
    checkpoints: Checkpoints,
    /// Whether a state of this run is on disk.
    is_saved: bool,
    /// Which model is on disk, where it is known to be of this run.
    written: Option<best::Mark>,
    watch: Watch,
    started: Instant,
    elapsed_before_s: f64,
}

impl<'a> Session<'a> {
    pub(super) fn begin(
        material: &'a Material,
        config: &Config,
        options: &'a TrainOptions,
    ) -> Result<Self> {
        let training = &options.training;
        let validation = validation::quick(material)?;
        let settings = settings_of(config, material.fingerprint(), options);
        let mut checkpoints = Checkpoints::new(&options.out);
        let resumed = if options.resume { checkpoints.resume()? } else { None };
        let is_saved = resumed.is_some();
        let now = match resumed {
            Some((checkpoint, remark)) => {
                let known = &checkpoint.run.settings;
                resuming::check(known, &settings, &options.out)?;
                remark.iter().for_each(|remark| say(remark));
                say(&format!("going on after step {}", checkpoint.step()));
                checkpoint
            }
            None => start(&settings, options.finetune.as_ref(), true)?,
        };
        let total_steps = match options.budget {
            Budget::Steps(steps) => Some(steps),
            Budget::Epochs(epochs) => {
                let samples = (training.batch * training.window) as f64;
                Some((epochs * material.train_frames() as f64 / samples).ceil() as u64)
            }
            Budget::Minutes(_) => None,
        };
        Ok(Self {
            material,
            options,
            total_steps,
            settings,
            learner: Learner::on(
                options.device,
                options.precision,
                config,
                AdamW {
                    weight_decay: training.weight_decay,
                    clip_norm: training.clip_norm,
                    average_decay: training.average_decay,
                    ..AdamW::default()
                },
                options.threads,
            )?,
            schedule: Schedule {
                peak: training.learning_rate,
                curve: training.schedule,
                warmup_steps: training.warmup_steps,
                final_share: training.final_share,
            },
            validation,
            batch: vec![Segment::default(); training.batch],
            averaged: now.weights.clone(),
            checkpoints,
            is_saved,
            written: None,
            watch: Watch::begin(material, options, total_steps, &now)?,
            started: Instant::now(),
            elapsed_before_s: now.run.elapsed_s,
            now,
        })
    }

    fn elapsed_s(&self) -> f64 {
        self.elapsed_before_s + self.started.elapsed().as_secs_f64()
    }

    /// Share of the budget that is spent, 0 to 1.
    fn share_done(&self) -> f64 {
        match (self.options.budget, self.total_steps) {
            (Budget::Minutes(minutes), _) => self.elapsed_s() / (minutes * 60.0),
            (_, Some(total)) => self.now.step() as f64 / total.max(1) as f64,
            (_, None) => 1.0,
        }
    }

    fn is_out_of_patience(&self) -> bool {
        best::is_out_of_patience(&self.now.run.record, self.options.patience)
    }

    pub(super) fn is_done(&self) -> bool {
        self.share_done() >= 1.0 || self.is_out_of_patience()
    }

    /// Brings the numbers of this moment up to date.
    fn fetch(&mut self) -> Result<()> {
        let Checkpoint { weights, moments, .. } = &mut self.now;
        self.learner.fetch(weights, moments)
    }

    /// One step, or back to the last checkpoint.
    pub(super) fn step(&mut self, windows: &mut Prefetch<'_, '_>) -> Result<()> {
        let step = self.now.step();
        windows.fill(step * self.batch.len() as u64, &mut self.batch)?;
        let Checkpoint { weights, moments, .. } = &self.now;
        let (loss, norm) = self.learner.gradient(weights, moments, &mut self.batch)?;
        let levels = self.settings.model.levels;
        let (trend, is_good) = match rollback::judge(loss, norm, self.now.run.trend, levels) {
            Verdict::Exploded(problem) => return self.roll_back(&problem),
            Verdict::Fine(trend, is_good) => (trend, is_good),
        };
        let is_due = step.is_multiple_of(self.options.checkpoint_steps);
        if is_due && step != self.now.run.anchor_step {
            self.fetch()?;
            if !self.now.is_finite() {
                return self.roll_back("the loss is no longer a number");
            }
            self.save(is_good)?;
        }
        // After the checkpoint: a resumed run hears this batch again.
        self.now.run.trend = Some(trend);
        let rate = self.schedule.at(step, self.share_done())
            * rollback::rate_scale(self.now.run.rollbacks);
        let Checkpoint { weights, moments, .. } = &mut self.now;
        self.learner.step(weights, moments, rate)?;
        self.watch.step(Step {
            step: self.now.step(),
            share_done: self.share_done(),
            loss,
            learning_rate: rate,
            gradient_norm: norm,
            elapsed_s: self.elapsed_s(),
        });
        Ok(())
    }

    /// Validates where the step is a multiple of `validation_steps`.
    pub(super) fn validate_if_due(&mut self) -> Result<()> {
        let step = self.now.step();
        if step > 0 && step.is_multiple_of(self.options.training.validation_steps) {
            self.validate()?;
        }
        Ok(())
    }

    /// Measures the averaged weights, once a step. False where the run had to go back.
    fn validate(&mut self) -> Result<bool> {
        if self.now.run.record.validated_step == Some(self.now.step()) {
            return Ok(true);
        }
        self.fetch()?;
        self.averaged.values_mut().copy_from_slice(&self.now.moments.average);
        let learner = &mut self.learner;
        let loss = validation::measure(learner, &self.averaged, self.material, &self.validation)?;
        let bits = loss.bits_per_sample();
        if !bits.is_finite() || !self.now.is_finite() {
            self.roll_back("the loss is no longer a number")?;
            return Ok(false);
        }
        best::offer(&mut self.now, bits);
        let (step, share_done) = (self.now.step(), self.share_done());
        let moment = Moment { step, share_done, elapsed_s: self.elapsed_s() };
        self.watch.validated(moment, bits, &self.averaged);
        Ok(true)
    }

    /// Goes back to the last checkpoint, or to the start, and learns half as fast from there on.
    fn roll_back(&mut self, problem: &str) -> Result<()> {
        let (step, rollbacks) = (self.now.step(), self.now.run.rollbacks);
        let rate = self.options.training.learning_rate * rollback::rate_scale(rollbacks + 1);
        if rollbacks == rollback::MOST_ROLLBACKS {
            let kept = if self.is_saved {
                format!("{} is the best until then", self.options.out.display())
            } else {
                "no model was written".into()
            };
            bail!(
                "{problem} at step {step}, for the {}th time; {kept}: start again with a \
                 learning_rate of {rate:.1e} or less",
                rollbacks + 1
            );
        }
        let anchor = self.now.run.anchor_step;
        self.watch.say(&format!(
            "{problem} at step {step}: back to step {anchor}, with half the learning rate \
             ({rate:.1e})"
        ));
        let (best, record) = (self.now.best.take(), self.now.run.record.best);
        self.now = match anchor {
            0 => start(&self.settings, self.options.finetune.as_ref(), false)?,
            _ => self.checkpoints.load_step(anchor)?,
        };
        self.now.run.rollbacks = rollbacks + 1;
        self.learner.forget();
        // The best was measured, wherever it led to.
        self.now.best = best;
        self.now.run.record.best = record;
        self.written = None;
        self.watch.rolled_back(&self.now);
        Ok(())
    }

    /// Saves the state, then the model: whichever moment the power fails, both are whole, and the
    /// state knows the model that belongs to it. An anchor is what the run may go back to.
    fn save(&mut self, is_anchor: bool) -> Result<()> {
        self.fetch()?;
        self.now.run.elapsed_s = self.elapsed_s();
        self.now.run.history = self.watch.history.clone();
        self.checkpoints.save(&mut self.now, is_anchor)?;
        self.is_saved = true;
        let (weights, mark) = best::model_of(&self.now);
        if self.written != Some(mark) {
            self.averaged.values_mut().copy_from_slice(weights);
            self.averaged.save(&self.options.out)?;
            self.written = Some(mark);
        }
        Ok(())
    }

    /// Validates the last weights. False where the run had to go back, and goes on.
    pub(super) fn conclude(&mut self) -> Result<bool> {
        self.validate()
    }

    /// Ends a run that was asked to stop, so that it can go on as though it had not been.
    pub(super) fn interrupt(mut self) -> Result<Outcome> {
        ensure!(self.now.step() > 0, "interrupted before the first step; no model was written");
        self.fetch()?;
        ensure!(
            self.now.is_finite(),
            "interrupted while the loss exploded; nothing more was saved"
        );
        self.finish(true)
    }

    /// Saves what there is and measures the model.
    pub(super) fn finish(mut self, interrupted: bool) -> Result<Outcome> {
        self.save(false)?;
        if !interrupted {
            self.validation = validation::thorough(self.material);
        }
        let (weights, best::Mark { step: best_step, .. }) = best::model_of(&self.now);
        self.averaged.values_mut().copy_from_slice(weights);
        let learner = &mut self.learner;
        let loss = validation::measure(learner, &self.averaged, self.material, &self.validation)?;
        let valid_bits = loss.bits_per_sample();
        let unigram_bits = self.material.unigram_bits(&self.validation)?;
        let is_out_of_patience = self.is_out_of_patience();
        let findings = if interrupted {
            self.watch.interrupted()
        } else {
            self.watch.finished(best_step, &self.averaged, valid_bits, unigram_bits)
        };
        Ok(Outcome {
            steps: self.now.step(),
            best_step,
            interrupted,
            is_out_of_patience,
            valid_bits,
            unigram_bits,
            history: self.watch.history,
            findings,
        })
    }
}

/// A run before its first step, from random weights or another model's.
fn start(settings: &RunSettings, finetune: Option<&Finetune>, tells: bool) -> Result<Checkpoint> {
    let weights = match finetune {
        None => Weights::random(settings.model.clone(), settings.seed)?,
        Some(finetune) => {
            let (weights, summary) = finetune.start(&settings.model, settings.seed)?;
            if tells {
                say(&summary.to_string());
            }
            weights
        }
    };
    Ok(Checkpoint::start(weights, settings.clone()))
}
