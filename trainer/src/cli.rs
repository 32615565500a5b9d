//! The words of the command line. Values are checked here as far as they can be without the data.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::export::{DtypeArg, ExportArgs};
use crate::network::{Device, Precision};
use crate::settings::Conditioning;
use crate::synth_recordings::Timbre;
use crate::training::Budget;

const TRAIN_NOTES: &str = "\
The model x.safetensors is the best on validation so far and plays at any moment. Beside it lie
x.state, from which --resume goes on, x.previous.state, in case that one is damaged, and the
samples in x.prepared, and at the end x.html, a report to open in a browser: curves, sounds beside
recordings, and what to look at. `export --model x.state --out y.safetensors --dtype f32`
gives the model of that very moment.
Ctrl-C saves the model and its state and ends with exit code 130; a second one ends at once.
Where the loss explodes the run goes back to its last checkpoint with half the learning rate, up to
three times.
--config file.toml, each line optional (here with the defaults):
  [model]
  residual_channels = 32  # gate_channels, skip_channels, dilations, sample_rate_hz ...
  [training]
  learning_rate = 0.003   # after warmup_steps = 100, down to final_share = 0.02 of it
  schedule = \"cosine\"     # or \"exponential\"
  batch = 4               # segments of window = 2048 samples
  validation_steps = 200
  shifts = [-2, -1, 0, 1, 2]                 # semitones, of recorded notes
  [training.augmentation]
  gain_db = [0.0, 0.0]
  flip_polarity = false
  pitch_cents = 0.0                          # of recordings without notes";

/// Turns a folder of recordings into a WaveNet that can be played.
#[derive(Debug, Parser)]
#[command(
    name = "wavenet-trainer",
    version,
    after_help = "Try it without recordings of your own:
  wavenet-trainer synth --out recordings
  wavenet-trainer train --data recordings/string --out string.safetensors --minutes 10
  wavenet render --model string.safetensors --note C4 --out string.wav"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write synthetic recordings: notes of a string and of a pad, birds, and simpler sounds
    Synth(SynthArgs),
    /// Decode, resample and trim a folder of recordings once, for training later
    Prepare(PrepareArgs),
    /// Train a model on a folder of recordings (or a prepared one)
    Train(Box<TrainArgs>),
    /// Measure how well a model knows some recordings
    Eval(EvalArgs),
    /// Write a model with smaller numbers, and the type that it is played in
    Export(ExportArgs),
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
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    pub seed: u64,
    /// Only these sounds, parted by commas [default: all]
    #[arg(long, value_name = "TIMBRE", value_enum, value_delimiter = ',')]
    pub timbre: Vec<Timbre>,
    /// Length of each file [default: 3 to 6 of notes, 4 of tones, 30 of birds]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub seconds: Option<f64>,
}

/// How recordings are read.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// Folder of recordings: wav, flac, mp3, ogg, aiff; sub-folders name classes
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Recordings to validate on; without it some files of --data (of few files, their ends) are set aside
    #[arg(long, value_name = "DIR")]
    pub valid: Option<PathBuf>,
    /// Table of notes and classes [default: labels.csv in --data, if there]
    #[arg(long, value_name = "FILE.csv")]
    pub labels: Option<PathBuf>,
    /// Share of files (of few files, of each) set aside for validation
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    #[arg(value_parser = share, allow_negative_numbers = true)]
    pub valid_fraction: f32,
    /// Keep silence at the recordings' ends
    #[arg(long)]
    pub no_trim: bool,
    /// Take recordings whole, also where a MIDI file beside one tells its notes
    #[arg(long)]
    pub no_midi: bool,
    /// Decides every random choice
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    pub seed: u64,
    /// Worker threads [default: one a core]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
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
    #[arg(long, value_name = "HZ", default_value_t = 16_000, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1_000..=192_000))]
    pub rate: u32,
}

/// `train`
#[derive(Debug, Args)]
#[command(after_help = TRAIN_NOTES)]
pub struct TrainArgs {
    /// The recordings
    #[command(flatten)]
    pub data: DataArgs,
    /// The model file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Shape of the model and training settings: a TOML file with the tables model and training
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Stop after so many steps
    #[arg(long, value_name = "N", conflicts_with_all = ["epochs", "minutes"])]
    #[arg(value_parser = clap::value_parser!(u64).range(1..), allow_negative_numbers = true)]
    pub steps: Option<u64>,
    /// Stop after hearing as many samples as the corpus has, so many times
    #[arg(long, value_name = "N", conflicts_with = "minutes")]
    #[arg(value_parser = above_zero, allow_negative_numbers = true)]
    pub epochs: Option<f64>,
    /// Stop after so many minutes [default: 10]
    #[arg(long, value_name = "M", value_parser = above_zero, allow_negative_numbers = true)]
    pub minutes: Option<f64>,
    /// What the model is told beside its past
    #[arg(long, value_enum, default_value_t = ConditioningArg::Auto)]
    pub conditioning: ConditioningArg,
    /// What computes the steps
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    pub device: Device,
    /// How the numbers of a step are rounded
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub precision: Precision,
    /// Start from this model (or .state): its shape, and its weights as far as they fit
    #[arg(long, value_name = "FROM")]
    pub finetune: Option<PathBuf>,
    /// Stop after so many validations in a row without a better one
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub patience: Option<u64>,
    /// Save every so many steps: as many are lost at most where the power fails
    #[arg(long, value_name = "N", default_value_t = 50, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub checkpoint_steps: u64,
    /// Folder for a log of the run: log.jsonl, and event files that TensorBoard opens
    #[arg(long, value_name = "DIR")]
    pub log: Option<PathBuf>,
    /// Steps between two lines of the log
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..), requires = "log")]
    pub log_steps: u64,
    /// Go on where an earlier run with the same settings stopped
    #[arg(long)]
    pub resume: bool,
    /// Begin anew, where an earlier run wrote the same model
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
}

impl TrainArgs {
    /// When to stop.
    pub fn budget(&self) -> Budget {
        match (self.steps, self.epochs, self.minutes) {
            (Some(steps), ..) => Budget::Steps(steps),
            (None, Some(epochs), _) => Budget::Epochs(epochs),
            (None, None, minutes) => Budget::Minutes(minutes.unwrap_or(10.0)),
        }
    }
}

/// `--conditioning`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConditioningArg {
    /// Notes where one is known of every file, classes where there are several
    Auto,
    /// Nothing
    None,
    /// Pitch, velocity and age of the note, and the phases of its partials
    Note,
    /// The class of the recording
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
    /// Table of notes and classes [default: labels.csv in --data, if there]
    #[arg(long, value_name = "FILE.csv")]
    pub labels: Option<PathBuf>,
    /// Which part of it
    #[arg(long, value_enum, default_value_t = SplitArg::All)]
    pub split: SplitArg,
    /// Seed by which files were set aside for validation
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    pub seed: u64,
    /// Measure what a player with weights of this type computes (one thread; slower)
    #[arg(long, value_enum)]
    pub dtype: Option<DtypeArg>,
    /// Keep silence at the recordings' ends
    #[arg(long)]
    pub no_trim: bool,
    /// Worker threads [default: one a core]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
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
    #[arg(long, value_name = "R,S,A,LAYERS", default_value = "32,64,256,10")]
    #[arg(value_parser = shape, allow_negative_numbers = true)]
    pub shape: [usize; 4],
    /// Segments of a step
    #[arg(long, value_name = "N", default_value_t = 4, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Samples of a segment
    #[arg(long, value_name = "N", default_value_t = 8192, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub window: u32,
    /// What computes the steps
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    pub device: Device,
    /// How the numbers of a step are rounded
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub precision: Precision,
    /// Worker threads [default: one a core]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Steps to time
    #[arg(long, value_name = "N", default_value_t = 12, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub steps: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn shape(text: &str) -> Result<[usize; 4], String> {
    let numbers: Result<Vec<usize>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    let numbers = numbers.ok().and_then(|numbers| <[usize; 4]>::try_from(numbers).ok());
    match numbers {
        // The engine checks the rest; this keeps the list of dilations short until then.
        Some([.., layers]) if layers > 128 => Err("at most 128 layers".into()),
        Some(numbers) => Ok(numbers),
        None => Err("four whole numbers are needed, such as 32,64,256,10".into()),
    }
}

fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("a number above 0 is needed".into()),
    }
}

fn share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value > 0.0 && value < 1.0 => Ok(value),
        _ => Err("a number above 0 and below 1 is needed".into()),
    }
}

/// A command line's error without clap's paragraphs: what is wrong, and the tip where there is one.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim);
    let parts: Vec<&str> = lines
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .collect();
    let line = parts.join(" ");
    format!("{} (see --help)", line.strip_prefix("error: ").unwrap_or(&line))
}

/// What went wrong and why, each cause once: some say their own cause already. The names of temporary files
/// are nobody's business.
pub fn causes(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        let cause = cause.split(" at path \"").next().unwrap_or_default().to_owned();
        if !line.ends_with(&cause) {
            line += if line.is_empty() { "" } else { ": " };
            line += &cause;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(format!("wavenet-trainer {line}").split(' '))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn errors_are_one_line_that_names_the_option() {
        for (line, expected) in [
            ("train --data d", "--out"),
            ("train --data d --out m --steps 0", "--steps"),
            ("train --data d --out m --minutes -1", "'--minutes <M>': a number above 0"),
            ("train --data d --out m --epochs nan", "'--epochs <N>': a number above 0"),
            ("train --data d --out m --steps 1 --minutes 1", "cannot be used with"),
            ("train --data d --out m --valid-fraction 1", "above 0 and below 1"),
            ("train --data d --out m --patience 0", "--patience"),
            ("prepare --data d --out p --rate 999", "1000..=192000"),
            ("synth --out s --timbre sine,harp", "'harp' for '--timbre <TIMBRE>'"),
            ("bench --shape 1,2", "32,64,256,10"),
            ("bench --shape 1,2,3,99999999999", "128 layers"),
            ("bench --batch 0", "1..=4096"),
        ] {
            let message = one_line(&parse(line).unwrap_err());
            assert!(message.contains(expected), "{line}: {message}");
            assert_eq!(message.lines().count(), 1, "{line}: {message}");
            assert!(!message.starts_with("error"), "{line}: {message}");
        }
    }

    #[test]
    fn a_run_lasts_ten_minutes_unless_told() {
        for (options, expected) in [
            ("", Budget::Minutes(10.0)),
            (" --minutes 0.5", Budget::Minutes(0.5)),
            (" --epochs 3", Budget::Epochs(3.0)),
            (" --steps 7", Budget::Steps(7)),
        ] {
            let cli = parse(&format!("train --data d --out m{options}")).unwrap();
            let Command::Train(args) = cli.command else { panic!("{options}") };
            assert_eq!(args.budget(), expected);
        }
    }
}
