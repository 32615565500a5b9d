//! Options of `wavenet play` and `wavenet devices`.

use std::path::PathBuf;

use clap::Args;

use super::values::{buffer_ms, rate_hz, seconds};
use super::{Place, PlaceArgs, RunArgs, SoundArgs};

const EXAMPLES: &str = "\
Examples:
  wavenet play                                  by MIDI keyboard, or by the keys a w s e d f ...
  wavenet play --midi song.mid                  a piece, once
  wavenet play --model bird                     sings without end
  wavenet play --host jack --buffer-ms 10       less delay, where the machine is fast enough
  wavenet devices                               what --device, --host and --midi-in can name";

/// `wavenet play`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PlayArgs {
    /// The model to play, a file or `bird` [default: the built-in instruments].
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Stop after so much sound [default: never, or at the end of --midi].
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub seconds: Option<f64>,

    /// A MIDI file to play.
    #[arg(long, value_name = "FILE.mid", help_heading = "What to play")]
    pub midi: Option<PathBuf>,
    /// Play the MIDI file over and over.
    #[arg(long = "loop", help_heading = "What to play", requires = "midi")]
    pub over_and_over: bool,
    /// Sound without end from the start; without --midi and --midi-in, a model that knows no notes
    /// does so by itself.
    #[arg(long, help_heading = "What to play", conflicts_with = "midi")]
    pub drone: bool,
    /// Listen to this MIDI input (a part of its name), to `all`, or to `none` [default: all, or none
    /// with --midi or --drone].
    #[arg(long, value_name = "NAME", help_heading = "What to play")]
    pub midi_in: Option<String>,
    /// How it sounds.
    #[command(flatten)]
    pub sound: SoundArgs,

    /// Where to.
    #[command(flatten)]
    pub output: OutputArgs,
    /// How the model is run.
    #[command(flatten)]
    pub run: RunArgs,
    /// The processor, or an NVIDIA GPU: the same sound. `auto` is the processor.
    #[arg(long, value_enum, default_value_t = Place::Auto, help_heading = "Running the model")]
    pub backend: Place,
    /// Compute in bf16 on the GPU, for speed of a voice alone: not the same bytes as elsewhere; needs
    /// --backend cuda, and a model and a GPU that have it.
    #[arg(long, help_heading = "Running the model")]
    pub fast: bool,
    /// Spread a voice that plays alone over a cluster of the GPU's multiprocessors, in int8: the same sound, meant to
    /// be faster, not yet measured; needs --backend cuda, and a model and a GPU that have it.
    #[arg(long, conflicts_with = "fast", help_heading = "Running the model")]
    pub pipeline: bool,
}

impl PlayArgs {
    /// Where the model is run: `--device` is the sound's here.
    pub fn place(&self) -> PlaceArgs {
        PlaceArgs { device: self.backend, fast: self.fast, pipeline: self.pipeline }
    }
}

/// The sound device and how it is used.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sound device")]
pub struct OutputArgs {
    /// A part of the device's name [default: the system's default device].
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// The sound system, such as alsa or jack [default: the first that has a device].
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Sample rate, 1000 to 768000 [default: the device's own].
    #[arg(long, value_name = "HZ", allow_negative_numbers = true)]
    #[arg(value_parser = rate_hz)]
    pub rate: Option<u32>,
    /// How far the sound is made ahead, 0 to 1000: more forgives a busy machine, less answers sooner.
    #[arg(long, value_name = "MS", default_value_t = 20.0, allow_negative_numbers = true)]
    #[arg(value_parser = buffer_ms)]
    pub buffer_ms: f32,
}

/// `wavenet devices`.
#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Print JSON instead of a list.
    #[arg(long)]
    pub json: bool,
}
