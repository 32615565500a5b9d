//! From a score to a file: blocks of the engine's renderer, into a WAV.
//!
//! Samples go to the disk as they are made, so hours need no memory; the file appears under its name
//! only when it is whole. An interruption is looked for after every block.

mod streams;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use wavenet_engine::renderer::Renderer;
use wavenet_engine::synth::Settings;
use wavenet_engine::{Config, Sampling};
use wavenet_picture::write_png;

use crate::cli::{RenderArgs, SoundArgs};
use crate::model::{LossNote, Model, slowness, synth_at};
use crate::output::{check, same_file};
use crate::score::Score;
use crate::wav::WavFile;

/// A picture needs the whole sound in memory: half a gibibyte of it at most.
const MAX_PICTURE_FRAMES: u64 = 1 << 27;
/// Who waits less needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Renders what `args` ask and returns a line that says what was written. `interrupted` stops it
/// soon after it becomes true.
///
/// # Errors
/// If an input is missing or damaged, an option does not fit the model, a file cannot be written,
/// or it was interrupted; then no file is left.
pub fn render(args: &RenderArgs, interrupted: &AtomicBool) -> Result<String> {
    if let Some(streams) = args.streams {
        return streams::render(args, streams, interrupted);
    }
    let places = Places::check(args)?;
    let model = Model::load(args.model.as_deref())?;
    let config = model.weights.config();
    let settings = settings(&args.sound, config)?;
    let out_hz = args.rate.unwrap_or(config.sample_rate_hz);
    let score = Score::new(args, config, out_hz)?;
    if places.png.is_some() {
        ensure!(
            score.frames <= MAX_PICTURE_FRAMES,
            "--png draws {} seconds at most at {out_hz} Hz; shorten the sound with --seconds, or leave out --png",
            MAX_PICTURE_FRAMES / u64::from(out_hz)
        );
    }
    let synth = synth_at(args.place, &model, settings, &args.run)?;
    if let Some(note) = slowness(synth.packed()) {
        let _ = writeln!(std::io::stderr(), "note: {note}");
    }
    let renderer = Renderer::new(synth, out_hz)?;
    let wav = WavFile::create(&places.out, out_hz, score.frames)?;

    let began = Instant::now();
    let mut sink = Sink { wav, peak: 0.0, picture: places.png.is_some().then(Vec::new) };
    play(args, &score, renderer, &mut sink, interrupted)?;
    let took_s = began.elapsed().as_secs_f64();

    if let (Some(png), Some(samples)) = (&places.png, &sink.picture) {
        let title = args.out.file_name().unwrap_or_default().to_string_lossy();
        write_png(png, samples, out_hz, &title)?;
    }
    sink.wav.finish()?;
    let seconds = score.frames as f64 / f64::from(out_hz);
    Ok(format!(
        "{}: {seconds:.2} s at {out_hz} Hz, {}, {:.1} times real time",
        args.out.display(),
        level(sink.peak),
        seconds / took_s
    ))
}

/// Where the results go, made sure of.
struct Places {
    out: PathBuf,
    png: Option<PathBuf>,
}

impl Places {
    fn check(args: &RenderArgs) -> Result<Self> {
        let out = check("--out", &args.out, "wav")?;
        let png = args.png.as_deref().map(|png| check("--png", png, "png")).transpose()?;
        let inputs = [("--model", &args.model), ("--midi", &args.midi)];
        for (option, input) in inputs.into_iter().filter_map(|(o, path)| Some((o, path.as_ref()?)))
        {
            let overwritten = |place: &Path| same_file(place, input);
            if overwritten(&out) || png.as_deref().is_some_and(overwritten) {
                bail!("{} is what {option} reads; write to another file", input.display());
            }
        }
        if png.as_ref() == Some(&out) {
            bail!("--out and --png are the same file; choose two names");
        }
        Ok(Self { out, png })
    }
}

/// The settings that the arguments ask of a model.
///
/// # Errors
/// If it has no such class.
pub(crate) fn settings(sound: &SoundArgs, config: &Config) -> Result<Settings> {
    let temperature = sound.temperature.unwrap_or(config.default_temperature());
    Ok(Settings {
        sampling: Sampling { temperature, top_p: sound.top_p },
        seed: sound.seed,
        class: sound.class.as_deref().map_or(Ok(0), |name| config.class_index(name))?,
        voices: usize::from(sound.voices),
        release_ms: sound.release_ms,
        ..Settings::default()
    })
}

/// Where samples go.
struct Sink {
    wav: WavFile,
    peak: f32,
    picture: Option<Vec<f32>>,
}

impl Sink {
    fn take(&mut self, samples: &[f32]) -> Result<()> {
        for sample in samples {
            self.peak = self.peak.max(sample.abs());
        }
        if let Some(picture) = &mut self.picture {
            picture.extend_from_slice(samples);
        }
        self.wav.write(samples)
    }
}

fn play(
    args: &RenderArgs,
    score: &Score,
    mut renderer: Renderer,
    sink: &mut Sink,
    interrupted: &AtomicBool,
) -> Result<()> {
    let mut bar = Bar::new(score.frames);
    let mut events = score.events.iter().copied().peekable();
    let mut samples = vec![0.0; usize::from(args.block)];
    let mut frame = 0;
    let mut loss = LossNote::new(args.place.mode());
    while frame < score.frames {
        let length = (score.frames - frame).min(samples.len() as u64);
        let known = frame + length + renderer.lookahead_frames();
        while let Some(event) = events.next_if(|event| event.frame < known) {
            renderer.push(event);
        }
        let samples = &mut samples[..length as usize];
        renderer.render(samples);
        loss.look(renderer.synth().loss());
        sink.take(samples)?;
        frame += length;
        bar.show(frame);
        if interrupted.load(Ordering::Relaxed) {
            bail!("interrupted; nothing was written");
        }
        ensure!(
            renderer.dropped() == 0,
            "the MIDI file has more events at once than can be played; thin it out"
        );
    }
    Ok(())
}

/// A progress bar, on a terminal only, that comes when the wait is long and leaves nothing behind.
struct Bar {
    bar: ProgressBar,
    began: Instant,
    shown: bool,
}

impl Bar {
    fn new(frames: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(frames), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{percent:>3}% {wide_bar} {eta} left") {
            bar.set_style(style);
        }
        Self { bar, began: Instant::now(), shown: false }
    }

    fn show(&mut self, frame: u64) {
        if !self.shown && self.began.elapsed() > PATIENCE {
            self.shown = true;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(frame);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn level(peak: f32) -> String {
    if peak <= 0.0 {
        return "silent".into();
    }
    format!("peak {:.1} dB", 20.0 * libm::log10f(peak))
}
