//! What runs in the audio callback, and what the rest of the program sees of it.
//!
//! A [`Deck`] holds all that the callback needs: the engine's player, the piece, the queue of live
//! events, and its buffers. It lies in a [`Seat`], one pointer that is swapped without a lock: the
//! callback takes it out, fills the block, and puts it back. Where a device has died, whoever is left
//! takes the deck out of its seat and carries it to the next device; a callback that finds nothing
//! plays silence. Nothing here allocates, frees, locks, prints or calls the system.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use cpal::{Data, FromSample, SampleFormat, SizedSample};
use crossbeam::atomic::AtomicCell;
use crossbeam::queue::ArrayQueue;
use wavenet_engine::stream::{Pace, Player};
use wavenet_engine::synth::{Event, EventKind};

use crate::piece::Piece;

/// Live events that may wait for the next block.
const MAX_LIVE: usize = 1024;
/// Events handed to the engine at once.
const BATCH: usize = 256;

/// Where a deck waits for its callback.
pub type Seat = Arc<AtomicCell<Option<Box<Deck>>>>;

/// Notes played by hand, on their way to the callback. Clones lead to the same queue.
#[derive(Debug, Clone)]
pub struct Live {
    queue: Arc<ArrayQueue<EventKind>>,
    dropped: Arc<AtomicU64>,
}

impl Default for Live {
    fn default() -> Self {
        Self { queue: Arc::new(ArrayQueue::new(MAX_LIVE)), dropped: Arc::default() }
    }
}

impl Live {
    /// Plays something at the beginning of the next block; counted where there is no room. Real-time
    /// safe.
    pub fn send(&self, kind: EventKind) {
        if self.queue.push(kind).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets the notes that nobody has played: they were meant for a moment that is gone. What ends
    /// notes stays.
    pub fn forget_notes(&self) {
        for _ in 0..self.queue.len() {
            match self.queue.pop() {
                Some(EventKind::NoteOn { velocity: 1.., .. } | EventKind::Drone) | None => {}
                Some(kind) => drop(self.queue.push(kind)),
            }
        }
    }

    /// Events for which there was no room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// What the callback tells.
#[derive(Debug, Default)]
pub struct Meters {
    /// Frames given to the device, the first latency not counted.
    pub frames: AtomicU64,
    /// Calls of the callback.
    pub calls: AtomicU64,
    /// The largest block that the device has asked for, in frames.
    pub largest_block: AtomicU32,
    /// From the callback to the loudspeaker, as the device says.
    pub device_latency_us: AtomicU32,
    /// All that was to be played has been given to the device.
    pub finished: AtomicBool,
}

/// All that the callback needs.
#[derive(Debug)]
pub struct Deck {
    player: Player,
    piece: Piece,
    live: Live,
    meters: Arc<Meters>,
    /// Frames asked of the player so far.
    frame: u64,
    /// The piece's frame at the player's beginning.
    origin: u64,
    /// Frame of the piece from which on there is silence.
    end: u64,
    events: Vec<Event>,
    mono: Vec<f32>,
}

impl Deck {
    /// A deck for blocks of `max_block_frames`. The piece begins at `origin`, and ends before `end`.
    pub fn new(
        player: Player,
        mut piece: Piece,
        live: Live,
        meters: Arc<Meters>,
        (origin, end): (u64, u64),
        max_block_frames: usize,
    ) -> Self {
        piece.skip_to(origin);
        let events = Vec::with_capacity(BATCH);
        let mono = vec![0.0; max_block_frames];
        Self { player, piece, live, meters, frame: 0, origin, end, events, mono }
    }

    /// Delay of the output, in frames.
    pub fn latency_frames(&self) -> usize {
        self.player.latency_frames()
    }

    /// Largest block that is filled without being cut.
    pub fn max_block_frames(&self) -> usize {
        self.mono.len()
    }

    /// Frame of the piece that is heard next.
    pub fn heard(&self) -> u64 {
        self.origin + self.frame.saturating_sub(self.latency_frames() as u64)
    }

    /// Fills a block of interleaved samples, the same on every channel. Real-time safe.
    pub fn fill<T: SizedSample + FromSample<f32>>(&mut self, out: &mut [T], channels: usize) {
        for out in out.chunks_mut(self.mono.len() * channels) {
            let frames = out.len() / channels;
            self.next(frames);
            for (out, &sample) in out.chunks_exact_mut(channels).zip(&self.mono) {
                out.fill(T::from_sample(sample));
            }
        }
    }

    /// Makes the next frames in the mono buffer.
    fn next(&mut self, frames: usize) {
        self.events.clear();
        while self.events.len() < BATCH
            && let Some(kind) = self.live.queue.pop()
        {
            self.events.push(Event { frame: 0, kind });
        }
        let mut made = 0;
        while made < frames {
            let made_before = self.origin + self.frame;
            let all_before = made_before + (frames - made) as u64;
            while self.events.len() < BATCH
                && let Some(event) = self.piece.next_before(all_before.min(self.end))
            {
                self.events.push(Event { frame: event.frame - made_before, kind: event.kind });
            }
            // Where the batch is full, the player is taken to the next event and no further.
            let full = self.events.len() == BATCH;
            let next = self.piece.peek().filter(|_| full).unwrap_or(u64::MAX);
            let part_frames = (next.clamp(made_before, all_before) - made_before) as usize;
            let part = &mut self.mono[made..made + part_frames];
            self.player.process(&self.events, part, Pace::Realtime);
            let length = self.end.saturating_sub(self.origin);
            let last_heard = length.saturating_add(self.player.latency_frames() as u64);
            for (sample, place) in part.iter_mut().zip(self.frame..) {
                if place >= last_heard {
                    *sample = 0.0;
                }
            }
            self.events.clear();
            self.frame += part_frames as u64;
            made += part_frames;
        }
        let heard = self.heard();
        self.meters.frames.store(heard.min(self.end), Ordering::Relaxed);
        if heard >= self.end {
            self.meters.finished.store(true, Ordering::Release);
        }
    }
}

/// The callback itself: fills `data` from the deck in the seat, or leaves the silence that it came
/// with. Real-time safe.
pub fn fill(seat: &Seat, meters: &Meters, data: &mut Data, channels: usize) {
    let frames = data.len() / channels.max(1);
    meters.largest_block.fetch_max(frames as u32, Ordering::Relaxed);
    meters.calls.fetch_add(1, Ordering::Relaxed);
    let Some(mut deck) = seat.take() else {
        return;
    };
    fill_any(&mut deck, data, channels.max(1));
    seat.store(Some(deck));
}

/// Whether [`fill`] can write such samples.
pub fn can_fill(format: SampleFormat) -> bool {
    !format.is_dsd()
}

fn fill_any(deck: &mut Deck, data: &mut Data, channels: usize) {
    /// The arm of each format: the same with another type.
    macro_rules! fill_as {
        ($($format:ident: $sample:ty),*) => {
            match data.sample_format() {
                $(SampleFormat::$format => {
                    if let Some(out) = data.as_slice_mut::<$sample>() {
                        deck.fill(out, channels);
                    }
                })*
                _ => {}
            }
        };
    }
    fill_as!(
        F32: f32, F64: f64,
        I8: i8, I16: i16, I24: cpal::I24, I32: i32, I64: i64,
        U8: u8, U16: u16, U24: cpal::U24, U32: u32, U64: u64
    );
}

#[cfg(test)]
mod tests;
