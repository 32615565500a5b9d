//! The words of the command line.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::settings::Conditioning;
use crate::training::Budget;

/// Turns a folder of recordings into a WaveNet that can be played.
#[derive(Debug, Parser)]
#[command(
    name = "wavenet-trainer",
    version,
    after_help = "Try it without recordings of your own:
  wavenet-trainer synth --out recordings
  wavenet-trainer train --data recordings/pluck --out pluck.safetensors --minutes 10
  wavenet render --model pluck.safetensors --note 60 --out pluck.wav"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write synthetic recordings to try with: sines, chords, sweeps, noise, plucks, birds
    Synth(SynthArgs),
    /// Decode, resample and trim a folder of recordings once, for training later
    Prepare(PrepareArgs),
    /// Train a model on a folder of recordings (or a prepared one)
    Train(Box<TrainArgs>),
    /// Measure how well a model knows some recordings
    Eval(EvalArgs),
    /// Measure how long a training step takes
    Bench(BenchArgs),
}

/// `synth`
#[derive(Debug, Args)]
pub struct SynthArgs {
    /// Folder to write; new or empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Decides every random choice
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Length of each file
    #[arg(long, value_name = "S", default_value_t = crate::synth_recordings::DEFAULT_SECONDS_PER_FILE)]
    pub seconds: f64,
}

/// How recordings are read.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// Folder of recordings: wav, flac, mp3, ogg, aiff; sub-folders name classes
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Recordings to validate on; without it some files of --data are set aside
    #[arg(long, value_name = "DIR")]
    pub valid: Option<PathBuf>,
    /// Share of files set aside for validation
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub valid_fraction: f32,
    /// Keep silence at the recordings' ends
    #[arg(long)]
    pub no_trim: bool,
    /// Decides every random choice
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Worker threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

impl DataArgs {
    /// Threads as asked, or one a core.
    pub fn threads(&self) -> usize {
        threads(self.threads)
    }
}

/// Threads as asked, or one a core.
pub fn threads(asked: Option<u16>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    asked.map_or_else(cores, usize::from)
}

/// `prepare`
#[derive(Debug, Args)]
pub struct PrepareArgs {
    /// The recordings
    #[command(flatten)]
    pub data: DataArgs,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Sample rate of the model to come
    #[arg(long, value_name = "HZ", default_value_t = 16_000)]
    pub rate: u32,
}

/// `train`
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The recordings
    #[command(flatten)]
    pub data: DataArgs,
    /// The model file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Shape of the model and training settings: TOML with [model] and [training]
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Stop after so many steps
    #[arg(long, value_name = "N", conflicts_with_all = ["epochs", "minutes"])]
    pub steps: Option<u64>,
    /// Stop after hearing as many samples as the corpus has, so many times
    #[arg(long, value_name = "N", conflicts_with = "minutes")]
    pub epochs: Option<f64>,
    /// Stop after so many minutes [default: 10]
    #[arg(long, value_name = "M")]
    pub minutes: Option<f64>,
    /// What the model is told beside its past
    #[arg(long, value_enum, default_value_t = ConditioningArg::Auto)]
    pub conditioning: ConditioningArg,
    /// Save (and validate) every so many steps
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    pub checkpoint_steps: u64,
    /// Go on where an earlier run with the same settings stopped
    #[arg(long)]
    pub resume: bool,
}

impl TrainArgs {
    /// When to stop.
    ///
    /// # Errors
    /// A budget that is not above zero.
    pub fn budget(&self) -> Result<Budget> {
        let positive = |name: &str, value: f64| {
            if value > 0.0 && value.is_finite() {
                Ok(value)
            } else {
                bail!("--{name} {value}: it must be above 0");
            }
        };
        Ok(match (self.steps, self.epochs, self.minutes) {
            (Some(0), _, _) => bail!("--steps 0: it must be above 0"),
            (Some(steps), _, _) => Budget::Steps(steps),
            (None, Some(epochs), _) => Budget::Epochs(positive("epochs", epochs)?),
            (None, None, minutes) => Budget::Minutes(positive("minutes", minutes.unwrap_or(10.0))?),
        })
    }
}

/// `--conditioning`
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ConditioningArg {
    /// Notes where every file's name tells one, classes where there are several folders
    Auto,
    /// Nothing
    None,
    /// Pitch, velocity and age of the note, and the phases of its partials
    Note,
    /// The folder of the recording
    Class,
}

impl From<ConditioningArg> for Conditioning {
    fn from(arg: ConditioningArg) -> Self {
        match arg {
            ConditioningArg::Auto => Self::Auto,
            ConditioningArg::None => Self::None,
            ConditioningArg::Note => Self::Note,
            ConditioningArg::Class => Self::Class,
        }
    }
}

/// `eval`
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The model file
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Folder of recordings, or a prepared one
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Which part of it
    #[arg(long, value_enum, default_value_t = SplitArg::All)]
    pub split: SplitArg,
    /// Seed by which files were set aside for validation
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Keep silence at the recordings' ends
    #[arg(long)]
    pub no_trim: bool,
    /// Worker threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `--split`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SplitArg {
    /// Everything
    All,
    /// What a model is fitted to
    Train,
    /// What was set aside
    Valid,
}

/// `bench`
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Residual, skip and end channels, and layers
    #[arg(long, value_name = "R,S,A,LAYERS", default_value = "32,64,256,10", value_parser = shape)]
    pub shape: [usize; 4],
    /// Segments of a step
    #[arg(long, default_value_t = 4)]
    pub batch: usize,
    /// Samples of a segment
    #[arg(long, default_value_t = 8192)]
    pub window: usize,
    /// Worker threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Steps to time
    #[arg(long, default_value_t = 12)]
    pub steps: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn shape(text: &str) -> Result<[usize; 4], String> {
    let numbers: Result<Vec<usize>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    let numbers = numbers.ok().and_then(|numbers| <[usize; 4]>::try_from(numbers).ok());
    numbers.ok_or_else(|| "write four whole numbers such as 32,64,256,10".into())
}
