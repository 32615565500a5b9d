//! Everything that sees a run without changing it: the bar, the history, the log, the diagnosis.
//!
//! None of it can end a run: a log that cannot be written is said once, and training goes on.

use std::time::{Duration, Instant};

use anyhow::Result;
use wavenet_engine::Weights;

use super::TrainOptions;
use super::diagnosis::{self, Finding};
use super::history::History;
use super::progress::{Progress, View};
use crate::checkpoint::Checkpoint;
use crate::clip::Clip;
use crate::listening::{Example, Flaw, examples, flaw};
use crate::log::{Line, Log};
use crate::material::Material;
use crate::network::Loss;
use crate::settings::Training;

/// What was rendered to listen to took at most this share of the time since.
const LISTENING_SHARE: u32 = 20;
/// Share of the run after which what is heard, twice in a row, should be neither silence nor noise.
const GROWN_UP: f64 = 0.5;

/// When something was seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Steps taken.
    pub(super) step: u64,
    pub(super) share_done: f64,
    /// Time spent training, over all sessions.
    pub(super) elapsed_s: f64,
}

/// One step, as it is watched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Steps taken, this one included.
    pub(super) step: u64,
    pub(super) share_done: f64,
    pub(super) loss: Loss,
    pub(super) learning_rate: f32,
    /// Length of the gradient before it was clipped.
    pub(super) gradient_norm: f64,
    /// Time spent training, over all sessions.
    pub(super) elapsed_s: f64,
}

/// The steps since the last line of the log.
#[derive(Debug, Default)]
struct Open {
    loss: Loss,
    spent: Duration,
}

/// The watcher of one run.
pub(super) struct Watch {
    levels: usize,
    training: Training,
    progress: Progress,
    /// The losses so far.
    pub(super) history: History,
    log: Option<Log>,
    log_steps: u64,
    open: Open,
    /// When the step under way began.
    began: Instant,
    last: Option<Step>,
    example: Option<Example>,
    /// When the last sound was rendered, and how long that took.
    listened: Option<(Instant, Duration)>,
    /// The step after which that was, and what was wrong with it.
    heard: Option<(u64, Option<Flaw>)>,
    of_data: Vec<Finding>,
    said: Vec<diagnosis::Kind>,
}

impl Watch {
    /// Begins to watch a run that goes on from `now`.
    pub(super) fn begin(
        material: &Material,
        options: &TrainOptions,
        total_steps: Option<u64>,
        now: &Checkpoint,
    ) -> Result<Self> {
        let config = &now.run.settings.model;
        let (step, history) = (now.step(), now.run.history.clone());
        let example = examples(material.prepared(), config)?.into_iter().next();
        let log = options.log.as_ref();
        let mut watch = Self {
            levels: config.levels,
            training: options.training.clone(),
            progress: Progress::new(total_steps, &history),
            history,
            log: log.map(|log| Log::open(&log.folder, step)).transpose()?,
            log_steps: log.map_or(1, |log| log.steps.max(1)),
            open: Open::default(),
            began: Instant::now(),
            last: None,
            example,
            listened: None,
            heard: None,
            of_data: [
                &options.findings[..],
                &diagnosis::of_data(material.prepared().index(), config),
            ]
            .concat(),
            said: Vec::new(),
        };
        for finding in watch.of_data.clone() {
            watch.tell(&finding);
        }
        if let Some(example) = watch.example.take() {
            if step == 0 {
                watch.write(|log| log.sound(0, "recording", &example.real));
            }
            watch.example = Some(example);
        }
        Ok(watch)
    }

    /// After every step.
    pub(super) fn step(&mut self, step: Step) {
        let bits = step.loss.bits_per_sample();
        self.history.step(step.step, step.elapsed_s, bits);
        self.open.spent += self.began.elapsed();
        self.open.loss.add(step.loss);
        self.progress.step(&View {
            step: step.step,
            share_done: step.share_done,
            bits,
            learning_rate: step.learning_rate,
            samples: step.loss.samples,
            spent: self.began.elapsed(),
            history: &self.history,
        });
        if step.step.is_multiple_of(self.log_steps) {
            let Open { loss, spent } = std::mem::take(&mut self.open);
            let line = Line::Trained {
                step: step.step,
                bits: loss.bits_per_sample(),
                learning_rate: step.learning_rate,
                gradient_norm: step.gradient_norm,
                samples_per_s: loss.samples as f64 / spent.as_secs_f64().max(1e-9),
                elapsed_s: step.elapsed_s,
            };
            self.write(|log| log.write(&line));
        }
        self.last = Some(step);
        self.began = Instant::now();
    }

    /// After every validation of the averaged weights.
    pub(super) fn validated(&mut self, moment: Moment, bits: f64, weights: &Weights) {
        let Moment { step, share_done, elapsed_s } = moment;
        self.history.validated(step, elapsed_s, bits);
        self.progress.validated(bits);
        self.write(|log| log.write(&Line::Validated { step, valid_bits: bits, elapsed_s }));
        for finding in self.of_losses() {
            self.tell(&finding);
        }
        let rested =
            self.listened.is_none_or(|(when, took)| when.elapsed() > LISTENING_SHARE * took);
        if rested && (self.log.is_some() || share_done >= GROWN_UP) {
            let before = self.heard.and_then(|(_, heard)| heard);
            let heard = self.listen(step, share_done, weights);
            // Heard once it may pass.
            if let Some(finding) = heard
                && before.is_some()
                && share_done >= GROWN_UP
            {
                self.tell(&finding);
            }
        }
        self.began = Instant::now();
    }

    /// After the run has gone back to `now`: what was seen of later steps is forgotten.
    pub(super) fn rolled_back(&mut self, now: &Checkpoint) {
        self.history = now.run.history.clone();
        self.open = Open::default();
        self.heard = None;
        let step = now.step();
        self.write(|log| log.reopen(step));
        self.began = Instant::now();
    }

    /// After the last step, with the model and its step. Gives what is to be looked at.
    pub(super) fn finished(
        &mut self,
        step: u64,
        weights: &Weights,
        valid_bits: f64,
        unigram_bits: f64,
    ) -> Vec<Finding> {
        self.progress.finish();
        let losses = self.of_losses();
        let end = diagnosis::of_end(&self.history, valid_bits, unigram_bits, &losses);
        let mut findings = self.of_data.clone();
        findings.extend(losses.into_iter().chain(end));
        findings.extend(self.listen(step, 1.0, weights));
        findings.iter().for_each(|finding| self.tell(finding));
        findings
    }

    /// After a run that was asked to stop: it may yet become all that it is not.
    pub(super) fn interrupted(&mut self) -> Vec<Finding> {
        self.progress.finish();
        let mut findings = self.of_data.clone();
        findings.extend(self.of_losses());
        findings.iter().for_each(|finding| self.tell(finding));
        findings
    }

    /// A line for the user, above the bar.
    pub(super) fn say(&self, line: &str) {
        self.progress.say(line);
    }

    fn of_losses(&self) -> Vec<Finding> {
        let Training { learning_rate, warmup_steps, .. } = self.training;
        diagnosis::of_losses(&self.history, self.levels, learning_rate, warmup_steps)
    }

    /// Says a finding, once.
    fn tell(&mut self, finding: &Finding) {
        if !self.said.contains(&finding.kind) {
            self.said.push(finding.kind);
            self.say(&format!("warning: {}", finding.text));
        }
    }

    /// Plays the example by the weights of a step, and says what is wrong with it.
    fn listen(&mut self, step: u64, share_done: f64, weights: &Weights) -> Option<Finding> {
        let heard = match self.heard {
            Some((at, heard)) if at == step => heard,
            _ => self.play(step, weights),
        };
        heard.map(|flaw| diagnosis::of_sound(flaw, share_done))
    }

    fn play(&mut self, step: u64, weights: &Weights) -> Option<Flaw> {
        let began = Instant::now();
        let example = self.example.take()?;
        let played = Clip::play(weights, &example.wanted).ok();
        // The best model may be of an earlier step than what was heard last.
        let is_new = self.heard.is_none_or(|(at, _)| at < step) && self.last.is_some();
        if let Some(clip) = played.as_ref().filter(|_| is_new) {
            self.write(|log| log.sound(step, "generated", clip));
        }
        let heard = played.and_then(|clip| flaw(&clip, &[&example.real]));
        self.example = Some(example);
        self.listened = Some((Instant::now(), began.elapsed()));
        self.heard = Some((step, heard));
        heard
    }

    /// Writes to the log, if there is one. The first failure is said, and is the end of the log.
    fn write(&mut self, write: impl FnOnce(&mut Log) -> Result<()>) {
        if let Some(log) = &mut self.log
            && let Err(error) = write(log)
        {
            self.log = None;
            self.say(&format!("warning: {error:#}; training goes on without the log"));
        }
    }
}
