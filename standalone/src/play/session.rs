//! One evening: the model, the generator, and whatever device there is.

use std::io::{Write, stderr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use wavenet_engine::renderer::Renderer;
use wavenet_engine::stream::{self, Controls, Status, StreamOptions};
use wavenet_engine::synth::{EventKind, Parameter, Settings};
use wavenet_engine::{Error, cuda};

use super::callback::{Deck, Live, Meters};
use super::device::{Line, Output, quieten};
use super::drones;
use super::keys::Keyboard;
use super::midi_input::MidiInputs;
use super::priority::before_others;
use super::status::View;
use crate::cli::{Place, PlaceArgs, PlayArgs};
use crate::model::{LossNote, Model, check_place, help, of_gpu, slowness, synth_alone};
use crate::piece::Piece;
use crate::render::settings;
use crate::score::{Score, frames_of};

/// A device that asks for nothing for so long is gone.
const SILENT: Duration = Duration::from_secs(2);
/// Between two attempts to open a device.
const RETRY: Duration = Duration::from_secs(1);

/// What was counted.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    underruns: u64,
    missing_frames: u64,
    dropped_events: u64,
}

impl Totals {
    fn and(self, status: &Status) -> Self {
        Self {
            underruns: self.underruns + status.underruns,
            missing_frames: self.missing_frames + status.missing_frames,
            dropped_events: self.dropped_events + status.dropped_events,
        }
    }
}

/// Everything that plays.
pub(super) struct Session<'a> {
    args: &'a PlayArgs,
    model: Model,
    /// As they are now: keys change them.
    settings: Settings,
    pub(super) live: Live,
    meters: Arc<Meters>,
    controls: Controls,
    line: Option<Line>,
    /// The deck, where there is no device to play it.
    parked: Option<Box<Deck>>,
    rate_hz: u32,
    latency_frames: usize,
    /// Of generators before this one, and of devices before this one.
    before: Totals,
    xruns_before: u64,
    /// When the callback was seen at work, and its number of calls then.
    alive: (Instant, u64),
    tried: Instant,
    device_name: String,
    /// Where the sound is made: the processor once the GPU was given up.
    place: PlaceArgs,
    loss: LossNote,
}

impl<'a> Session<'a> {
    /// Opens the device and plays.
    pub(super) fn start(args: &'a PlayArgs) -> Result<Self> {
        let model = Model::load(args.model.as_deref())?;
        let settings = settings(&args.sound, model.weights.config())?;
        if let Some(path) = &args.midi {
            // A bad file is told before a device is touched.
            wavenet_midi::read(path, model.weights.config().sample_rate_hz)?;
        }
        let packed = model.pack(&args.run)?;
        if let Some(note) = slowness(&packed) {
            let _ = writeln!(stderr(), "note: {note}");
        }
        drop(packed);
        let place = args.place();
        check_place(place, &args.run)?;
        if place.device == Place::Cuda {
            of_gpu(cuda::card())?;
        }
        let (live, meters) = (Live::default(), Arc::new(Meters::default()));
        let line = Output::find(&args.output)?.open(Arc::clone(&meters))?;
        let fresh =
            Fresh { args, place, model: &model, settings: &settings, live: &live, meters: &meters };
        let (deck, controls) = fresh.deck(&line, 0)?;
        let latency_frames = deck.latency_frames();
        line.seat.store(Some(deck));
        Ok(Self {
            args,
            settings,
            live,
            controls,
            rate_hz: line.rate_hz,
            latency_frames,
            device_name: line.output.name.clone(),
            line: Some(line),
            parked: None,
            model,
            meters,
            before: Totals::default(),
            xruns_before: 0,
            alive: (Instant::now(), 0),
            tried: Instant::now(),
            place,
            loss: LossNote::new(place.mode()),
        })
    }

    /// Whether all has been played, and heard.
    pub(super) fn is_over(&self) -> bool {
        if !self.meters.finished.load(Ordering::Acquire) {
            return false;
        }
        // What the device still holds is played out.
        let block = self.line.as_ref().map_or(0, |line| line.block_frames);
        let rest = Duration::from_secs_f64(2.0 * block as f64 / f64::from(self.rate_hz));
        std::thread::sleep((rest + self.device_latency()).min(Duration::from_secs(1)));
        true
    }

    /// Sees to the GPU and the device, and tells what is new.
    ///
    /// # Errors
    /// If the generator failed.
    pub(super) fn look_after_devices(&mut self) -> Result<Option<String>> {
        ensure!(!self.controls.status().dead, "the generator failed; please report what it said");
        if let Some(news) = self.loss.news(self.controls.loss()) {
            self.place.device = Place::Cpu;
            return Ok(Some(news));
        }
        let Some(line) = &self.line else {
            return Ok(self.reopen());
        };
        let calls = self.meters.calls.load(Ordering::Relaxed);
        if calls != self.alive.1 {
            self.alive = (Instant::now(), calls);
        }
        let largest = self.meters.largest_block.load(Ordering::Relaxed) as usize;
        let reason = if let Some(reason) = line.lost() {
            reason
        } else if self.alive.0.elapsed() > SILENT {
            "it asks for no sound".into()
        } else if largest > line.block_frames {
            format!("its blocks grew to {largest} frames")
        } else {
            return Ok(None);
        };
        if let Some(line) = self.line.take() {
            self.xruns_before += line.xruns.load(Ordering::Relaxed);
            self.parked = line.close();
        }
        self.tried = Instant::now();
        let reason = reason.trim_end_matches('.');
        Ok(Some(format!("{} is gone ({reason}); waiting for it", self.device_name)))
    }

    /// Tries again, if it is time to; the news if a device is there.
    fn reopen(&mut self) -> Option<String> {
        if self.tried.elapsed() < RETRY {
            return None;
        }
        self.tried = Instant::now();
        quieten();
        let output = Output::find(&self.args.output).ok()?;
        let mut line = output.open(Arc::clone(&self.meters)).ok()?;
        let largest = self.meters.largest_block.swap(0, Ordering::Relaxed) as usize;
        line.block_frames = line.block_frames.max(largest);
        self.live.forget_notes();
        let fits = |deck: &Deck| {
            line.rate_hz == self.rate_hz && line.block_frames <= deck.max_block_frames()
        };
        let deck = match self.parked.take() {
            Some(deck) if fits(&deck) => deck,
            _ => {
                let heard = self.meters.frames.load(Ordering::Relaxed);
                let place = u128::from(heard) * u128::from(line.rate_hz) / u128::from(self.rate_hz);
                let fresh = Fresh {
                    args: self.args,
                    place: self.place,
                    model: &self.model,
                    settings: &self.settings,
                    live: &self.live,
                    meters: &self.meters,
                };
                let (deck, controls) = match fresh.deck(&line, place as u64) {
                    Ok(made) => made,
                    Err(error) => return self.give_up_gpu(&error),
                };
                self.before = self.before.and(&self.controls.status());
                self.controls = controls;
                deck
            }
        };
        self.rate_hz = line.rate_hz;
        self.latency_frames = deck.latency_frames();
        self.device_name = line.output.name.clone();
        self.alive = (Instant::now(), self.meters.calls.load(Ordering::Relaxed));
        line.seat.store(Some(deck));
        let news = format!("playing again through {}", line.output.name);
        self.line = Some(line);
        Some(news)
    }

    /// What is new if it was the GPU that failed: the next attempt is the processor's.
    fn give_up_gpu(&mut self, error: &anyhow::Error) -> Option<String> {
        let is_device = matches!(error.downcast_ref::<Error>(), Some(Error::Device(_)));
        if self.place.device != Place::Cuda || !is_device {
            return None;
        }
        self.place.device = Place::Cpu;
        self.loss.news(Some(&error.to_string()))
    }

    pub(super) fn change_temperature(&mut self, by: f32) {
        let temperature = &mut self.settings.sampling.temperature;
        // Whole hundredths, so that steps up and down meet.
        *temperature = ((*temperature + by) * 100.0).round().clamp(0.0, 1000.0) / 100.0;
        self.controls.send(EventKind::Set(Parameter::Temperature(*temperature)));
    }

    pub(super) fn change_seed(&mut self, by: i64) {
        self.settings.seed = self.settings.seed.saturating_add_signed(by);
        self.controls.send(EventKind::Set(Parameter::Seed(self.settings.seed)));
    }

    pub(super) fn change_class(&mut self, by: i64) {
        let classes = self.model.weights.config().classes.len().max(1) as i64;
        self.settings.class = (self.settings.class as i64 + by).rem_euclid(classes) as usize;
        self.controls.send(EventKind::Set(Parameter::Class(self.settings.class)));
    }

    pub(super) fn drone(&mut self) {
        self.live.send(EventKind::Drone);
    }

    fn device_latency(&self) -> Duration {
        Duration::from_micros(u64::from(self.meters.device_latency_us.load(Ordering::Relaxed)))
    }

    fn latency_ms(&self) -> f64 {
        let made_ahead = self.latency_frames as f64 / f64::from(self.rate_hz);
        1000.0 * (made_ahead + self.device_latency().as_secs_f64())
    }

    fn seconds(&self) -> f64 {
        self.meters.frames.load(Ordering::Relaxed) as f64 / f64::from(self.rate_hz)
    }

    /// One line that says what plays through what.
    pub(super) fn announcement(&self) -> String {
        let host = self.line.as_ref().map_or("no host", |line| line.output.host);
        format!(
            "playing {} through {} ({host}) at {} Hz, {} ms ahead, latency {:.0} ms",
            self.model.name,
            self.device_name,
            self.rate_hz,
            self.args.output.buffer_ms,
            self.latency_ms()
        )
    }

    /// What a display shows.
    pub(super) fn view(&self, inputs: &MidiInputs, keyboard: &Keyboard) -> View {
        let status = self.controls.status();
        let config = self.model.weights.config();
        View {
            model: self.model.name.clone(),
            device: self.line.is_some().then(|| self.device_name.clone()),
            rate_hz: self.rate_hz,
            latency_ms: self.latency_ms(),
            margin_ms: 1000.0 * f64::from(status.fill_frames) / f64::from(self.rate_hz),
            seconds: self.seconds(),
            peak: status.peak,
            load: status.load,
            voices: status.sounding,
            underruns: self.before.underruns + status.underruns,
            temperature: self.settings.sampling.temperature,
            seed: self.settings.seed,
            class: config.classes.get(self.settings.class).cloned(),
            inputs: inputs.names().map(str::to_owned).collect(),
            keyboard: keyboard.clone(),
        }
    }

    /// Stops, and says what it was.
    pub(super) fn end(mut self) -> String {
        let xruns = |line: &Line| line.xruns.load(Ordering::Relaxed);
        let xruns = self.xruns_before + self.line.as_ref().map_or(0, xruns);
        let totals = self.before.and(&self.controls.status());
        let frames = self.meters.frames.load(Ordering::Relaxed);
        let seconds = self.seconds();
        self.line.take().map(Line::close);
        let count = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let mut line = format!(
            "played {seconds:.1} s ({}): {}, {}, {}",
            count(frames, "frame"),
            count(totals.underruns, "underrun"),
            count(totals.missing_frames, "missing frame"),
            count(totals.dropped_events + self.live.dropped(), "dropped event"),
        );
        if xruns > 0 {
            line += &format!("; the device was late {}", count(xruns, "time"));
        }
        line
    }
}

/// What a new generator is made of.
struct Fresh<'a> {
    args: &'a PlayArgs,
    place: PlaceArgs,
    model: &'a Model,
    settings: &'a Settings,
    live: &'a Live,
    meters: &'a Arc<Meters>,
}

impl Fresh<'_> {
    /// A generator for a device, and the deck to play it, from a frame of the piece on.
    fn deck(&self, line: &Line, origin: u64) -> Result<(Box<Deck>, Controls)> {
        let rate_hz = line.rate_hz;
        let run = &self.args.run;
        let mut synth = synth_alone(self.place, self.model, self.settings.clone(), run)?;
        // Its second thread goes first as the generator does.
        before_others(|| help(&mut synth, run))?;
        let renderer = Renderer::new(synth, rate_hz)?;
        let (piece, end) = self.piece(rate_hz)?;
        let margin = f64::from(self.args.output.buffer_ms) / 1000.0 * f64::from(rate_hz);
        let options = StreamOptions {
            max_block_frames: line.block_frames,
            margin_frames: margin.round() as usize,
        };
        let (player, controls) = before_others(|| stream::start(renderer, options))?;
        if drones(self.args, &self.model.weights.config().conditioning) {
            controls.send(EventKind::Drone);
        }
        let (live, meters) = (self.live.clone(), Arc::clone(self.meters));
        let deck = Deck::new(player, piece, live, meters, (origin, end), line.block_frames);
        Ok((Box::new(deck), controls))
    }

    /// What is played by itself, and the frame of its end.
    fn piece(&self, rate_hz: u32) -> Result<(Piece, u64)> {
        let args = self.args;
        let asked = args.seconds.map(|seconds| frames_of(seconds, rate_hz));
        if asked == Some(0) {
            bail!("that is shorter than one frame; ask for more with --seconds");
        }
        Ok(match &args.midi {
            Some(path) if args.over_and_over => {
                let events = wavenet_midi::read(path, rate_hz)?;
                (Piece::over_and_over(events, rate_hz)?, asked.unwrap_or(u64::MAX))
            }
            Some(path) => {
                let score =
                    Score::of_midi_file(path, rate_hz, args.sound.release_ms, args.seconds)?;
                (Piece::once(score.events), score.frames)
            }
            None => (Piece::once(Vec::new()), asked.unwrap_or(u64::MAX)),
        })
    }
}
