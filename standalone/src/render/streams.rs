//! Many independent streams of one model, rendered at once: `wavenet render --streams`.
//!
//! Stream i is what `wavenet render --seed S+i` makes, byte for byte; the GPU plays thousands together, the
//! processor a few. The folder appears under its name only when every file in it is whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use wavenet_engine::Packed;
use wavenet_engine::cuda::{self, Lanes};
use wavenet_engine::resample::Resampler;
use wavenet_engine::synth::{Band, Event, Settings};

use super::{Bar, settings};
use crate::cli::{Place, PlaceArgs, RenderArgs};
use crate::model::{LossNote, Model, check_place, of_gpu, slowness};
use crate::output::full_folder_of;
use crate::score::Score;
use crate::wav::WavFile;

/// Frames of the model between two looks at the clock.
const BLOCK: usize = 1024;
/// Streams that the processor plays together: so many share a pass over the weights.
const TOGETHER: usize = 16;
/// What the samples of all streams that are played together may take.
const MOST_BYTES: u64 = 2 << 30;
/// And how many they may be.
const MOST_TOGETHER: usize = 8192;

/// Renders so many streams into a folder, and returns a line that says what was written.
///
/// # Errors
/// As `render`; then there is no folder.
pub(super) fn render(args: &RenderArgs, streams: u32, interrupted: &AtomicBool) -> Result<String> {
    let place = Folder::check(&args.out)?;
    let model = Model::load(args.model.as_deref())?;
    let config = model.weights.config();
    let mut settings = settings(&args.sound, config)?;
    if args.midi.is_none() {
        // There is one voice: room for more would be in vain.
        settings.voices = 1;
    }
    let out_hz = args.rate.unwrap_or(config.sample_rate_hz);
    let score = Score::new(args, config, out_hz)?;
    ensure!(args.run.threads == 1, "--threads is for one stream; leave it out with --streams");
    check_place(args.place, &args.run)?;
    let resampler = Resampler::new(config.sample_rate_hz, out_hz)?;
    let packed = Arc::new(model.pack(&args.run)?);
    if let Some(note) = slowness(&packed) {
        eprintln!("note: {note}");
    }
    let card = card(args.place.device)?;
    let fitting = (MOST_BYTES / (score.frames * 4).max(1)).clamp(1, MOST_TOGETHER as u64) as usize;
    let together = if card.is_some() { fitting } else { fitting.min(TOGETHER) };
    let seeds: Vec<u64> =
        (0..u64::from(streams)).map(|index| args.sound.seed.wrapping_add(index)).collect();
    let width = seeds.iter().max().map_or(1, |largest| largest.to_string().len());

    let began = Instant::now();
    let mut bar = Bar::new(score.frames * u64::from(streams));
    let mut loss = LossNote::new(args.place.mode());
    let mut makers = Makers::default();
    for (batch, seeds) in seeds.chunks(together).enumerate() {
        let each = |&seed: &u64| Settings { seed, ..settings.clone() };
        let settings: Vec<Settings> = seeds.iter().map(each).collect();
        let voices = settings.iter().map(|settings| settings.voices).sum();
        let lanes = lanes(args.place, card.is_some(), batch == 0, &model, &packed, voices)?;
        let done = (batch * together) as u64 * score.frames;
        let mut band = Band::new(lanes, &settings)?;
        let samples = play(
            &mut band,
            &score,
            &resampler,
            |frames| {
                bar.show(done + frames * seeds.len() as u64);
                ensure!(!interrupted.load(Ordering::Relaxed), "interrupted; nothing was written");
                Ok(())
            },
            &mut loss,
            &mut makers,
        )?;
        for (seed, samples) in seeds.iter().zip(samples) {
            let path = place.path().join(format!("{seed:0width$}.wav"));
            let mut wav = WavFile::create(&path, out_hz, score.frames)?;
            wav.write(&samples)?;
            wav.finish()?;
        }
    }
    drop(bar);
    place.finish()?;
    let seconds = score.frames as f64 / f64::from(out_hz);
    let gpu = card.filter(|_| makers.is_by_gpu).map(|card| card.name);
    let processor = makers.is_by_processor.then(|| "the processor".into());
    let on = gpu.into_iter().chain(processor).collect::<Vec<String>>().join(" and ");
    let times = seconds * f64::from(streams) / began.elapsed().as_secs_f64();
    Ok(format!(
        "{}: {streams} files of {seconds:.2} s at {out_hz} Hz, on {on}, {times:.1} times real time in all",
        args.out.display()
    ))
}

/// The GPU, if it shall be and is there.
fn card(place: Place) -> Result<Option<cuda::Card>> {
    match place {
        Place::Cpu => Ok(None),
        Place::Auto => Ok(cuda::card().ok()),
        Place::Cuda => Ok(Some(of_gpu(cuda::card())?)),
    }
}

/// Lanes on the GPU; on the processor where there is none, `auto` finds it too small, or it failed after the first
/// streams.
fn lanes(
    place: PlaceArgs,
    is_on_gpu: bool,
    is_first: bool,
    model: &Model,
    packed: &Arc<Packed>,
    voices: usize,
) -> Result<Lanes> {
    if is_on_gpu {
        match cuda::lanes(&model.weights, packed.clone(), voices, place.mode()) {
            Err(error) if place.device == Place::Auto || !is_first => {
                eprintln!("note: {error}; the processor plays");
            }
            lanes => return Ok(of_gpu(lanes)?),
        }
    }
    Ok(Lanes::on_processor(packed.clone(), voices))
}

/// Plays the score on every synth of a band. Shape of the result: `[synths][frames]`.
fn play(
    band: &mut Band,
    score: &Score,
    resampler: &Resampler,
    mut progress: impl FnMut(u64) -> Result<()>,
    loss: &mut LossNote,
    makers: &mut Makers,
) -> Result<Vec<Vec<f32>>> {
    let mut resamplers = vec![resampler.clone(); band.len()];
    let mut out = vec![Vec::with_capacity(score.frames as usize); band.len()];
    // As `Renderer` has it: an event happens at the first model frame at or after its place.
    let at = |event: &Event| Event { frame: resampler.input_frame(event.frame), ..*event };
    let events: Vec<Event> = score.events.iter().map(at).collect();
    let needed = resampler.frames_needed(score.frames as usize);
    let mut frame = 0;
    while frame < needed {
        let count = (needed - frame).min(BLOCK as u64);
        let mut made = vec![vec![0.0; count as usize]; band.len()];
        let (first, last) = (
            events.partition_point(|event| event.frame < frame),
            events.partition_point(|event| event.frame < frame + count),
        );
        band.render(&events[first..last], &mut made);
        loss.look(band.lanes().loss());
        makers.look(band.lanes());
        for ((resampler, made), out) in resamplers.iter_mut().zip(&made).zip(&mut out) {
            resampler.process(made, out);
        }
        frame += count;
        progress(score.frames * frame / needed)?;
    }
    for samples in &mut out {
        samples.truncate(score.frames as usize);
        samples.iter_mut().for_each(|sample| *sample = sample.clamp(-1.0, 1.0));
    }
    Ok(out)
}

/// Who made the streams.
#[derive(Debug, Default)]
struct Makers {
    is_by_gpu: bool,
    is_by_processor: bool,
}

impl Makers {
    /// After each block: a GPU that was given up made nothing of it.
    fn look(&mut self, lanes: &Lanes) {
        self.is_by_gpu |= lanes.is_on_device();
        self.is_by_processor |= !lanes.is_on_device();
    }
}

/// A folder that is made beside its place, and goes there when it is whole.
struct Folder {
    made: tempfile::TempDir,
    place: PathBuf,
}

impl Folder {
    fn check(place: &Path) -> Result<Self> {
        let shown = format!("--out {}", place.display());
        if place.exists() || place.is_symlink() {
            bail!("{shown} is there already; --streams makes a new folder, name another");
        }
        let Some(name) = place.file_name() else { bail!("{shown} names no folder") };
        let is_file = place.extension().is_some_and(|given| given.eq_ignore_ascii_case("wav"));
        ensure!(!is_file, "{shown} names a file; --streams makes a folder of them, name one");
        let parent = full_folder_of(&shown, place)?;
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As any new folder, less what the user's umask takes.
            builder.permissions(std::fs::Permissions::from_mode(0o777));
        }
        let made = builder.prefix(".wavenet-").tempdir_in(&parent);
        let made = made.with_context(|| format!("cannot write {shown}"))?;
        Ok(Self { made, place: parent.join(name) })
    }

    fn path(&self) -> &Path {
        self.made.path()
    }

    fn finish(self) -> Result<()> {
        let made = self.made.keep();
        std::fs::rename(&made, &self.place).or_else(|error| {
            let _ = std::fs::remove_dir_all(&made);
            Err(error).with_context(|| format!("cannot write {}", self.place.display()))
        })
    }
}
