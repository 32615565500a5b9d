//! The audio thread's side.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringbuf::traits::{Consumer, Observer, Producer};
use ringbuf::{HeapCons, HeapProd};

use super::Shared;
use super::host_clock::HostClock;
use crate::synth::{Event, EventKind};

/// A dead generator keeps an offline render waiting no longer than this.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for a host that says it plays but runs faster than the clock.
const SHORT_PATIENCE: Duration = Duration::from_millis(500);
/// Frames over which sound comes back after an underrun.
const FADE_IN: u32 = 256;
/// What is left of the last sample after each missing frame.
const FADE_OUT: f32 = 0.97;

/// Whether the host may be kept waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// The host plays: missing samples are an underrun.
    Realtime,
    /// The host renders to a file: wait for every sample.
    Offline,
}

/// Gives samples to an audio callback. See the module's docs for the real-time contract.
pub struct Player {
    audio: HeapCons<f32>,
    commands: HeapProd<Event>,
    shared: Arc<Shared>,
    latency: usize,
    max_block: usize,
    /// Frames asked for so far.
    frame: u64,
    host: HostClock,
    /// The clock, when it was read last, and how long the call then waited. Reading it is no system
    /// call on the systems we know.
    pub(super) now: fn() -> Instant,
    called: Option<Instant>,
    waited: Duration,
    /// Output frames before this one belong to the time before a reset.
    muted_before: u64,
    /// There was no room yet to tell the generator of a reset.
    reset_waits: bool,
    /// Frames that were missing and will come too late.
    late: usize,
    /// Whether a reset would change anything.
    fresh: bool,
    last: f32,
    fade_in: u32,
}

impl Player {
    pub(super) fn new(
        audio: HeapCons<f32>,
        commands: HeapProd<Event>,
        shared: Arc<Shared>,
        latency: usize,
        max_block: usize,
        rate_hz: u32,
    ) -> Self {
        Self {
            audio,
            commands,
            shared,
            latency,
            max_block,
            frame: 0,
            host: HostClock::new(rate_hz),
            now: Instant::now,
            called: None,
            waited: Duration::ZERO,
            muted_before: 0,
            reset_waits: false,
            late: 0,
            fresh: true,
            last: 0.0,
            fade_in: 0,
        }
    }

    /// Constant delay of the output, in frames.
    pub fn latency_frames(&self) -> usize {
        self.latency
    }

    /// Voices that sound, for a host that wants to sleep.
    pub fn sounding(&self) -> u32 {
        self.shared.sounding.load(Ordering::Relaxed)
    }

    /// Fills the next block, mono. `events` have their frames counted from the block's beginning, in
    /// order; those beyond the block happen at its end.
    ///
    /// A host that asks for more than [`Player::latency_frames`] at once asks faster than the clock.
    pub fn process(&mut self, events: &[Event], out: &mut [f32], pace: Pace) {
        self.fresh = false;
        let called = (self.now)();
        let since = self.called.replace(called).map(|before| called.duration_since(before));
        self.host.called(since.unwrap_or_default().saturating_sub(self.waited), out.len());
        self.waited = Duration::ZERO;
        let mut events = events.iter().peekable();
        let mut start = 0_u64;
        for out in out.chunks_mut(self.max_block) {
            let end = start + out.len() as u64;
            self.send_reset();
            while let Some(event) = events.next_if(|event| event.frame < end) {
                let frame = self.frame + event.frame.saturating_sub(start);
                self.send(Event { frame, kind: event.kind });
            }
            self.shared.horizon.store(self.frame + out.len() as u64, Ordering::Release);
            self.take(out, start as usize, pace);
            self.frame += out.len() as u64;
            start = end;
        }
        for event in events {
            self.send(Event { frame: self.frame, kind: event.kind });
        }
        self.report(out);
    }

    /// Silence from now on, for notes that began before. Calling it again changes nothing.
    pub fn reset(&mut self) {
        if self.fresh {
            return;
        }
        self.fresh = true;
        self.last = 0.0;
        self.reset_waits = true;
        self.muted_before = u64::MAX;
        self.send_reset();
    }

    /// Tells the generator of a reset that it was not told of; whether it knows all of them.
    fn send_reset(&mut self) -> bool {
        let reset = Event { frame: self.frame, kind: EventKind::Reset };
        if self.reset_waits && self.commands.try_push(reset).is_ok() {
            self.reset_waits = false;
            self.muted_before = self.frame + self.latency as u64;
        }
        !self.reset_waits
    }

    /// Tells the other side what was heard and what is left.
    fn report(&self, out: &[f32]) {
        let peak = out.iter().fold(0.0, |peak: f32, sample| peak.max(sample.abs()));
        // Magnitudes are ordered as their bits are.
        self.shared.peak_bits.fetch_max(peak.to_bits(), Ordering::Relaxed);
        self.shared.fill_frames.store(self.audio.occupied_len() as u32, Ordering::Relaxed);
    }

    fn send(&mut self, event: Event) {
        if !self.send_reset() || self.commands.try_push(event).is_err() {
            self.shared.dropped_events.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Fills a part of the present call's block, which begins `start` frames into it.
    fn take(&mut self, out: &mut [f32], start: usize, pace: Pace) {
        let patience = match pace {
            Pace::Offline => PATIENCE,
            Pace::Realtime if self.host.outruns_the_clock(start + out.len(), self.latency) => {
                SHORT_PATIENCE
            }
            Pace::Realtime => Duration::ZERO,
        };
        // What is late may be more than the ring holds: it goes in several turns.
        loop {
            self.late -= self.audio.skip(self.late);
            let wanted = out.len() + self.late;
            if self.audio.occupied_len() >= wanted || !self.wait_for(wanted, patience) {
                break;
            }
        }
        let taken = if self.late > 0 { 0 } else { self.audio.pop_slice(out) };
        let (heard, missing) = out.split_at_mut(taken);
        for (sample, place) in heard.iter_mut().zip(self.frame..) {
            if place < self.muted_before {
                *sample = 0.0;
            }
            if self.fade_in > 0 {
                *sample *= 1.0 - self.fade_in as f32 / FADE_IN as f32;
                self.fade_in -= 1;
            }
            self.last = *sample;
        }
        if missing.is_empty() {
            return;
        }
        self.late += missing.len();
        if self.fade_in < FADE_IN {
            self.shared.underruns.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.missing_frames.fetch_add(missing.len() as u64, Ordering::Relaxed);
        self.fade_in = FADE_IN;
        for sample in missing {
            self.last = if self.last.abs() > 1e-6 { self.last * FADE_OUT } else { 0.0 };
            *sample = self.last;
        }
    }

    /// Waits until so many frames are there, or as many as can be; whether they came in time.
    fn wait_for(&mut self, frames: usize, patience: Duration) -> bool {
        if patience.is_zero() {
            return false;
        }
        let frames = frames.min(self.audio.capacity().get());
        let began = Instant::now();
        // A generator that is slow is not dead: patience begins anew with every frame it makes.
        let (mut progress, mut occupied) = (began, self.audio.occupied_len());
        while occupied < frames
            && !self.shared.dead.load(Ordering::Acquire)
            && progress.elapsed() < patience
        {
            std::thread::sleep(Duration::from_micros(50));
            let now = self.audio.occupied_len();
            if now > occupied {
                (progress, occupied) = (Instant::now(), now);
            }
        }
        self.waited += began.elapsed();
        self.audio.occupied_len() >= frames
    }
}

impl std::fmt::Debug for Player {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Player").field("frame", &self.frame).finish_non_exhaustive()
    }
}
