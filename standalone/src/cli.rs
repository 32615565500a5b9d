//! The command line. Values are checked here as far as they can be without a model.

mod play;
mod values;

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use wavenet_engine as engine;
use wavenet_engine::cuda::Mode;

pub use play::{DevicesArgs, OutputArgs, PlayArgs};
pub use values::Shape;
use values::{key, rate_hz, release_ms, seconds, shape, standard_output, temperature, top_p};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Green.on_default());

const EXAMPLES: &str = "\
Examples:
  wavenet play                                      by keyboard, live
  wavenet render --out a4.wav                       one note of the built-in piano
  wavenet render --class string --out string.wav    one of the built-in string
  wavenet render --midi song.mid --out song.wav     a whole piece
  wavenet render --model bird --seconds 60 --out bird.wav   the built-in bird
  wavenet inspect --model mine.safetensors          what is in a model
  wavenet bench                                     how fast it runs here

`wavenet render --help` shows everything that a render can be told.";

const RENDER_EXAMPLES: &str = "\
Examples:
  wavenet render --out a4.wav
  wavenet render --note 48 --velocity 120 --seconds 3 --out c3.wav --png c3.png
  wavenet render --midi song.mid --voices 32 --rate 48000 --out song.wav
  wavenet render --model voices.safetensors --class theo --temperature 0.8 --out theo.wav
  wavenet render --model birds.safetensors --streams 1000 --seconds 10 --out birds

The same model, seed and options give the same bytes on every machine and at every block size; with --fast only on
GPUs of one kind.";

const STREAM_EXAMPLES: &str = "\
Examples:
  wavenet stream --midi song.mid --out - | ffmpeg -i - -c:a libopus stream.opus
  wavenet stream --model wind.safetensors --out - --format s16le | aplay -f S16_LE -r 48000
  wavenet stream --midi song.mid --out - --no-pace --seconds 600 > ten-minutes.wav";

const BENCH_EXAMPLES: &str = "\
Examples:
  wavenet bench
  wavenet bench --shape 64,256,256,10 --seconds 5
  wavenet bench --sweep
  wavenet bench --model piano.safetensors --voices 8 --json
  wavenet bench --device cuda --sweep
  wavenet bench --device cuda --fast";

/// Plays WaveNet models: a neural network that makes sound, one sample at a time.
#[derive(Debug, Parser)]
#[command(name = "wavenet", version, styles = STYLES, after_help = EXAMPLES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `wavenet` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Play a note, a MIDI file or an endless sound into a WAV file.
    Render(RenderArgs),
    /// Play live: by MIDI keyboard, by the computer's keys, or a MIDI file, through a sound device.
    Play(PlayArgs),
    /// List the sound devices and MIDI inputs that `wavenet play` can use, and the GPU.
    Devices(DevicesArgs),
    /// Play without end into a pipe, for an encoder or a player.
    Stream(StreamArgs),
    /// Say what a model is: its shape, its rate, what it can be told.
    Inspect(InspectArgs),
    /// Measure how many samples a second a model makes on this machine.
    Bench(BenchArgs),
}

/// `wavenet render`.
#[derive(Debug, Args)]
#[command(after_help = RENDER_EXAMPLES)]
pub struct RenderArgs {
    /// The WAV file to write (16-bit, mono); an older one is replaced. With --streams a folder that does
    /// not exist yet.
    #[arg(long, value_name = "FILE.wav")]
    pub out: PathBuf,
    /// The model to play, a file or `bird` [default: the built-in instruments].
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Length of the sound; with --midi the most that is played [default: 5, or the whole piece].
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub seconds: Option<f64>,

    /// Key to play, by name or MIDI number: C4 or 60 is middle C, A4 or 69 is 440 Hz [default: A4, or
    /// the nearest that was recorded; a model that knows no notes drones until it is given one, and
    /// then is played faster or slower].
    #[arg(long, value_name = "KEY", help_heading = "What to play", allow_negative_numbers = true)]
    #[arg(value_parser = key)]
    pub note: Option<u8>,
    /// How hard the key is struck, 1 to 127 [default: 100].
    #[arg(long, value_name = "V", help_heading = "What to play", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=127))]
    pub velocity: Option<u8>,
    /// A MIDI file to play: all tracks and channels except drums (10), with sustain pedal and
    /// pitch wheel.
    #[arg(long, value_name = "FILE.mid", help_heading = "What to play")]
    #[arg(conflicts_with_all = ["note", "velocity"])]
    pub midi: Option<PathBuf>,
    /// How it sounds.
    #[command(flatten)]
    pub sound: SoundArgs,

    /// Sample rate of the file, 1000 to 768000 [default: the model's own].
    #[arg(long, value_name = "HZ", help_heading = "Output", allow_negative_numbers = true)]
    #[arg(value_parser = rate_hz)]
    pub rate: Option<u32>,
    /// Also draw the sound: its waveform and its spectrogram.
    #[arg(long, value_name = "FILE.png", help_heading = "Output")]
    pub png: Option<PathBuf>,

    /// Play so many independent streams at once, each with a seed of its own, counted up from --seed: the
    /// WAV file of each is named after its seed, in the new folder --out.
    #[arg(long, value_name = "N", help_heading = "Output", conflicts_with = "png")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000), allow_negative_numbers = true)]
    pub streams: Option<u32>,

    /// How the model is run.
    #[command(flatten)]
    pub run: RunArgs,
    /// And where.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Samples made at a time, 1 to 16384; changes nothing that can be heard.
    #[arg(long, value_name = "N", help_heading = "Running the model", default_value_t = 512)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=16_384), allow_negative_numbers = true)]
    pub block: u16,
}

/// How a model sounds, in a file or live.
#[derive(Debug, Args)]
pub struct SoundArgs {
    /// Which of the model's sounds, by name (`wavenet inspect` lists them) [default: the first].
    #[arg(long, value_name = "NAME", help_heading = "What to play")]
    pub class: Option<String>,

    /// Another seed is another take of the same thing.
    #[arg(long, value_name = "N", help_heading = "How it sounds", default_value_t = 1)]
    #[arg(allow_negative_numbers = true)]
    pub seed: u64,
    /// 1 = as trained, lower = tamer and less noisy, 0 = always the likeliest sample [default: 0.6
    /// for a model of notes (0.3 if it says the partials too), else 1].
    #[arg(long, value_name = "T", help_heading = "How it sounds")]
    #[arg(value_parser = temperature, allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Leave out the unlikeliest samples: only the likeliest that together reach this share.
    #[arg(long, value_name = "P", help_heading = "How it sounds", default_value_t = 1.0)]
    #[arg(value_parser = top_p, allow_negative_numbers = true)]
    pub top_p: f32,
    /// Fade after a key goes up.
    #[arg(long, value_name = "MS", help_heading = "How it sounds", default_value_t = 150.0)]
    #[arg(value_parser = release_ms, allow_negative_numbers = true)]
    pub release_ms: f32,
    /// Notes that can sound at once, 1 to 64; one more takes the place of the oldest.
    #[arg(long, value_name = "N", help_heading = "How it sounds", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=64), allow_negative_numbers = true)]
    pub voices: u8,
}

/// `wavenet stream`.
#[derive(Debug, Args)]
#[command(after_help = STREAM_EXAMPLES)]
pub struct StreamArgs {
    /// Where to: `-` is standard output, the only place; `> file.wav` makes a file of it.
    #[arg(long, value_name = "-", value_parser = standard_output, default_value = "-")]
    pub out: String,
    /// The model to play, a file or `bird` [default: the built-in instruments].
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// A MIDI file to play over and over; without it the model drones.
    #[arg(long, value_name = "FILE.mid")]
    pub midi: Option<PathBuf>,
    /// Stop after so long [default: never].
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub seconds: Option<f64>,
    /// How samples are written.
    #[arg(long, value_enum, default_value_t = StreamFormat::Wav)]
    pub format: StreamFormat,
    /// As fast as it can, not at the pace of a clock.
    #[arg(long)]
    pub no_pace: bool,
    /// Sample rate, 1000 to 768000.
    #[arg(long, value_name = "HZ", default_value_t = 48_000, allow_negative_numbers = true)]
    #[arg(value_parser = rate_hz)]
    pub rate: u32,
    /// How it sounds.
    #[command(flatten)]
    pub sound: SoundArgs,
    /// How the model is run.
    #[command(flatten)]
    pub run: RunArgs,
    /// And where.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// How samples leave on a pipe. All are mono.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StreamFormat {
    /// A WAV header, of unknown length without --seconds, then 16-bit samples.
    Wav,
    /// 16-bit little-endian samples.
    S16le,
    /// 32-bit little-endian floats.
    F32le,
}

/// `wavenet inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The model to look at, a file or `bird` [default: the built-in instruments].
    #[arg(value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// The same, as the other commands take it.
    #[arg(long = "model", value_name = "FILE", conflicts_with = "model")]
    pub option: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Where it shall run: with `cuda`, the GPU is described too.
    #[arg(long, visible_alias = "backend", value_enum, default_value_t = Place::Auto)]
    pub device: Place,
}

/// `wavenet bench`.
#[derive(Debug, Args)]
#[command(after_help = BENCH_EXAMPLES)]
pub struct BenchArgs {
    /// The model to measure, a file or `bird` [default: the built-in instruments].
    #[arg(long, value_name = "FILE", conflicts_with = "shape")]
    pub model: Option<PathBuf>,
    /// Measure random weights of this shape: residual, skip and end channels, layers.
    #[arg(long, value_name = "R,S,A,LAYERS", value_parser = shape, allow_negative_numbers = true)]
    pub shape: Option<Shape>,
    /// Voices that step together, 1 to 64; on a GPU up to 65536.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub voices: u32,
    /// Measure a table of shapes, types of weights, instruction sets and voices, a minute in all.
    #[arg(long, conflicts_with_all = ["shape", "voices", "isa", "dtype", "fast", "pipeline"])]
    pub sweep: bool,
    /// Measure what handing on a word costs on the GPU, and products with the matrix units and without; needs
    /// --device cuda.
    #[arg(long, conflicts_with_all = ["sweep", "shape", "voices", "model", "json", "fast", "pipeline", "dtype", "seconds", "isa"])]
    pub micro: bool,
    /// How long to measure [default: 3; with --sweep 0.5 a figure, 1 on a GPU].
    #[arg(long, value_name = "S")]
    #[arg(value_parser = seconds, allow_negative_numbers = true)]
    pub seconds: Option<f64>,
    /// Print JSON instead of a sentence.
    #[arg(long)]
    pub json: bool,
    /// How the model is run.
    #[command(flatten)]
    pub run: RunArgs,
    /// And where.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Where a model is run.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Running the model")]
pub struct PlaceArgs {
    /// The processor, or an NVIDIA GPU: the same sound. `auto` is the GPU for --streams where there is one,
    /// else the processor.
    #[arg(long, visible_alias = "backend", value_enum, default_value_t = Place::Auto)]
    pub device: Place,
    /// Compute in bf16 on the GPU, for speed of a voice alone: not the same bytes as elsewhere; needs
    /// --device cuda, and a model and a GPU that have it.
    #[arg(long)]
    pub fast: bool,
    /// Spread a voice that plays alone over a cluster of the GPU's multiprocessors, in int8: the same sound, meant to
    /// be faster, not yet measured; needs --device cuda, and a model and a GPU that have it.
    #[arg(long, conflicts_with = "fast")]
    pub pipeline: bool,
}

impl PlaceArgs {
    /// How a GPU shall compute.
    pub fn mode(self) -> Mode {
        match (self.fast, self.pipeline) {
            (true, _) => Mode::Fast,
            (_, true) => Mode::Pipeline,
            _ => Mode::Exact,
        }
    }
}

/// Where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lowercase")]
pub enum Place {
    /// As it fits.
    Auto,
    /// The processor.
    Cpu,
    /// The GPU.
    Cuda,
}

/// How a model is run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Running the model")]
pub struct RunArgs {
    /// Which instructions of the processor to use.
    #[arg(long, value_enum, default_value_t = Isa::Auto)]
    pub isa: Isa,
    /// How weights are stored and multiplied [default: what the model asks for].
    #[arg(long, value_enum)]
    pub dtype: Option<Dtype>,
    /// Threads that share the work, 1 or 2: the same sound, sooner where a model is large and a
    /// core is idle.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=2))]
    pub threads: u8,
}

/// Names of [`engine::Isa`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[value(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the engine's enum documents each")]
pub enum Isa {
    Auto,
    Scalar,
    Avx2,
    Avx512,
}

impl From<Isa> for engine::Isa {
    fn from(isa: Isa) -> Self {
        match isa {
            Isa::Auto => Self::Auto,
            Isa::Scalar => Self::Scalar,
            Isa::Avx2 => Self::Avx2,
            Isa::Avx512 => Self::Avx512,
        }
    }
}

/// Names of [`engine::Dtype`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the engine's enum documents each")]
pub enum Dtype {
    F32,
    Bf16,
    Int8,
}

impl From<Dtype> for engine::Dtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::Bf16,
            Dtype::Int8 => Self::Int8,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn refused(line: &str) -> String {
        one_line(&Cli::try_parse_from(line.split(' ')).unwrap_err())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn errors_are_one_line_that_names_the_option() {
        for (line, expected) in [
            ("wavenet render", "--out"),
            ("wavenet render --out x.wav --seconds -1", "24 hours"),
            ("wavenet render --out x.wav --seconds nan", "24 hours"),
            ("wavenet render --out x.wav --seconds 1e9", "24 hours"),
            ("wavenet render --out x.wav --voices 0", "1..=64"),
            ("wavenet render --out x.wav --rate 999", "1000 to 768000 Hz"),
            ("wavenet render --out x.wav --rate 44.1k", "such as 44100"),
            ("wavenet render --out x.wav --isa sse", "avx512"),
            ("wavenet render --out x.wav --top-p 1.5", "from 0 to 1"),
            ("wavenet render --out x.wav --not 3", "--note"),
            ("wavenet render --out x.wav --note 60 --midi a.mid", "cannot be used with"),
            ("wavenet render --out x --streams 0", "1..=100000"),
            ("wavenet render --out x --streams 2 --png x.png", "cannot be used with"),
            ("wavenet render --out x.wav --device tpu", "cuda"),
            ("wavenet bench --shape 1,2,3", "64,256,256,10"),
            ("wavenet bench --shape 1,2,3,99999999999", "128 layers"),
            ("wavenet bench --model a --shape 1,2,3,4", "cannot be used with"),
            ("wavenet bench --device cuda --fast --sweep", "cannot be used with"),
            ("wavenet bench --device cuda --fast --micro", "cannot be used with"),
            ("wavenet inspect --device cuda --fast", "--fast"),
        ] {
            let message = refused(line);
            assert!(message.contains(expected), "{line}: {message}");
            assert_eq!(message.lines().count(), 1, "{line}: {message}");
            assert!(!message.starts_with("error"), "{line}: {message}");
        }
    }

    #[test]
    fn a_gpu_is_exact_unless_it_shall_be_fast() {
        for line in [
            "wavenet render --out x.wav --device cuda",
            "wavenet stream --device cuda",
            "wavenet play --backend cuda",
            "wavenet bench --device cuda",
        ] {
            for (fast, expected) in
                [("", Mode::Exact), (" --fast", Mode::Fast), (" --pipeline", Mode::Pipeline)]
            {
                let line = format!("{line}{fast}");
                let place = match Cli::try_parse_from(line.split(' ')).unwrap().command {
                    Command::Render(args) => args.place,
                    Command::Stream(args) => args.place,
                    Command::Play(args) => args.place(),
                    Command::Bench(args) => args.place,
                    other => panic!("{other:?}"),
                };
                assert_eq!((place.device, place.mode()), (Place::Cuda, expected), "{line}");
            }
        }
    }
}
