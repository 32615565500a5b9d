//! Playing live: a generator thread makes samples ahead of an audio callback, through lock-free rings.
//!
//! [`start`] gives a pair: the [`Player`] belongs to the audio thread, the [`Controls`] to everyone
//! else.
//!
//! # The real-time contract
//! [`Player::process`] and [`Player::reset`] never allocate, free, lock or wait, and make no system
//! call. The exceptions: told to wait by [`Pace::Offline`], or about to fall silent under a host that
//! runs faster than the clock and so renders to a file, `process` sleeps until samples come.
//! They wake nobody: the generator polls.
//!
//! # Time
//! Frames are counted from the start and never stop. Each call of `process` sends its events, then
//! the *horizon*: the frame up to which all events are now known. The generator never passes the
//! horizon (less the resampler's look-ahead), so an event always lands on its frame, and the output is
//! late by a constant: the largest block, the margin, and the look-ahead. Where samples are missing
//! the output fades, the underrun is counted, and what comes too late is dropped: the time line stays.

mod generator;
mod host_clock;
mod player;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use ringbuf::HeapRb;
use ringbuf::traits::{Producer, Split};

use crate::error::{Error, Result};
use crate::renderer::Renderer;
use crate::synth::EventKind;
use generator::{Generator, Message};
pub use player::{Pace, Player};

/// Commands that may be under way to the generator.
const COMMANDS: usize = 4096;

/// Sizes that fix the latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOptions {
    /// Largest block that the host asks for; larger ones are cut.
    pub max_block_frames: usize,
    /// How far ahead the generator works beyond that.
    pub margin_frames: usize,
}

/// What both threads see.
#[derive(Debug)]
struct Shared {
    /// Frame up to which all events were sent.
    horizon: AtomicU64,
    underruns: AtomicU64,
    missing_frames: AtomicU64,
    dropped_events: AtomicU64,
    /// Events that the renderer had no room for.
    unheard_events: AtomicU64,
    sounding: AtomicU32,
    /// Frames in the ring after the last block.
    fill_frames: AtomicU32,
    /// Bits of the loudest sample, as a magnitude, since somebody looked.
    peak_bits: AtomicU32,
    /// Share of real time that generating takes, in thousandths.
    load_permille: AtomicU32,
    stop: AtomicBool,
    dead: AtomicBool,
    /// Why the GPU was given up, by the generator.
    loss: OnceLock<String>,
}

impl Shared {
    fn new() -> Self {
        Self {
            horizon: AtomicU64::new(0),
            underruns: AtomicU64::new(0),
            missing_frames: AtomicU64::new(0),
            dropped_events: AtomicU64::new(0),
            unheard_events: AtomicU64::new(0),
            sounding: AtomicU32::new(0),
            fill_frames: AtomicU32::new(0),
            peak_bits: AtomicU32::new(0),
            load_permille: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            loss: OnceLock::new(),
        }
    }
}

/// How a stream is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Status {
    /// Times that samples were missing.
    pub underruns: u64,
    /// Frames that were silent for it.
    pub missing_frames: u64,
    /// Events for which there was no room.
    pub dropped_events: u64,
    /// Voices that sound.
    pub sounding: u32,
    /// Frames that were ready beyond the last block: what is left of the margin.
    pub fill_frames: u32,
    /// The loudest sample that was given out since the last look, 0 to 1.
    pub peak: f32,
    /// Share of real time that generating takes, 1 = all of it.
    pub load: f32,
    /// The generator failed; the output is silent.
    pub dead: bool,
}

/// The side that may wait: settings, notes from a screen, another model, and the stream's health.
/// Dropping it ends the generator.
#[derive(Debug)]
pub struct Controls {
    shared: Arc<Shared>,
    messages: Sender<Message>,
    /// Renderers that are no longer played come back here to be freed.
    trash: Receiver<Box<Renderer>>,
    thread: Option<JoinHandle<()>>,
    rate_hz: u32,
    lookahead_frames: u64,
}

/// Starts a generator thread for a renderer that has not rendered yet: frames count from its first.
///
/// # Errors
/// [`Error::Unsupported`] for blocks or margins out of range, [`Error::Device`] where no thread can be
/// started.
pub fn start(renderer: Renderer, options: StreamOptions) -> Result<(Player, Controls)> {
    let StreamOptions { max_block_frames, margin_frames } = options;
    if !(1..=65_536).contains(&max_block_frames) || margin_frames > 1 << 20 {
        return Err(Error::Unsupported(format!(
            "blocks of {max_block_frames} frames with a margin of {margin_frames}"
        )));
    }
    let rate_hz = renderer.rate_hz();
    let lookahead_frames = renderer.lookahead_frames();
    let latency = max_block_frames + margin_frames + lookahead_frames as usize;
    let (mut audio, audio_out) = HeapRb::<f32>::new(latency + 2 * max_block_frames).split();
    // The first frames are heard one latency late; until then there is silence.
    audio.push_iter(std::iter::repeat_n(0.0, latency));
    let (commands, commands_in) = HeapRb::new(COMMANDS).split();
    let (messages, inbox) = bounded(1024);
    let (trash, trash_out) = bounded(16);
    let shared = Arc::new(Shared::new());

    let generator = Generator::new(
        renderer,
        audio,
        commands_in,
        inbox,
        trash,
        Arc::clone(&shared),
        margin_frames,
    );
    let thread = std::thread::Builder::new()
        .name("wavenet generator".into())
        .spawn(move || generator.run())
        .map_err(|error| Error::Device(format!("no thread for the generator ({error})")))?;
    let player =
        Player::new(audio_out, commands, Arc::clone(&shared), latency, max_block_frames, rate_hz);
    let thread = Some(thread);
    let controls =
        Controls { shared, messages, trash: trash_out, thread, rate_hz, lookahead_frames };
    Ok((player, controls))
}

impl Controls {
    /// Does something as soon as the generator gets to it. False where it does not keep up.
    pub fn send(&self, kind: EventKind) -> bool {
        self.messages.try_send(Message::Do(kind)).is_ok()
    }

    /// Plays another renderer, that has not rendered yet, from now on: the old one fades, the new one
    /// begins. It must have the same rate and no more look-ahead, so that the latency stays.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where it has not.
    pub fn load(&self, renderer: Renderer) -> Result<()> {
        self.empty_trash();
        if renderer.rate_hz() != self.rate_hz || renderer.lookahead_frames() > self.lookahead_frames
        {
            return Err(Error::Unsupported(
                "another rate or a longer look-ahead in a running stream; start it anew".into(),
            ));
        }
        let message = Message::Load(Box::new(renderer));
        self.messages
            .send_timeout(message, Duration::from_secs(2))
            .map_err(|_| Error::Device("the generator does not answer".into()))
    }

    /// How the stream is doing. Looking starts the peak anew.
    pub fn status(&self) -> Status {
        self.empty_trash();
        let shared = &self.shared;
        Status {
            underruns: shared.underruns.load(Ordering::Relaxed),
            missing_frames: shared.missing_frames.load(Ordering::Relaxed),
            dropped_events: shared.dropped_events.load(Ordering::Relaxed)
                + shared.unheard_events.load(Ordering::Relaxed),
            sounding: shared.sounding.load(Ordering::Relaxed),
            fill_frames: shared.fill_frames.load(Ordering::Relaxed),
            peak: f32::from_bits(shared.peak_bits.swap(0, Ordering::Relaxed)),
            load: shared.load_permille.load(Ordering::Relaxed) as f32 / 1000.0,
            dead: shared.dead.load(Ordering::Acquire),
        }
    }

    /// Why a GPU that made the sound was given up, if one was: the processor goes on with the
    /// same sound, or after the fast mode in its own arithmetic.
    pub fn loss(&self) -> Option<&str> {
        self.shared.loss.get().map(String::as_str)
    }

    fn empty_trash(&self) {
        while self.trash.try_recv().is_ok() {}
    }
}

impl Drop for Controls {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A generator that panicked has said so already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
