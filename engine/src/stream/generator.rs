//! The generator thread: takes commands, renders up to the horizon, sleeps.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender};
use ringbuf::traits::{Consumer, Observer, Producer};
use ringbuf::{HeapCons, HeapProd};

use super::Shared;
use crate::renderer::Renderer;
use crate::synth::{Event, EventKind};

/// What may be asked of the generator by those who may wait.
#[derive(Debug)]
pub(super) enum Message {
    /// Do something now.
    Do(EventKind),
    /// Play another renderer.
    Load(Box<Renderer>),
    /// Fail, to see that it is noticed.
    #[cfg(test)]
    Panic,
}

/// Frames rendered between two looks at the world.
const CHUNK: usize = 128;
/// Frames over which a renderer that is replaced fades.
const SWAP_FADE: u32 = 512;
/// The shortest nap: a thread that never sleeps is stopped by systems that let it go first.
const SHORTEST_NAP: Duration = Duration::from_micros(50);

pub(super) struct Generator {
    renderer: Box<Renderer>,
    fading: Option<Fading>,
    audio: HeapProd<f32>,
    commands: HeapCons<Event>,
    inbox: Receiver<Message>,
    /// Taken from the inbox, but too early.
    held: Option<Message>,
    trash: Sender<Box<Renderer>>,
    shared: Arc<Shared>,
    /// Frames made, over all renderers.
    made: u64,
    /// Frame of the stream at which the present renderer began.
    origin: u64,
    /// Events that the renderers before had no room for.
    unheard_before: u64,
    nap: Duration,
    load: f32,
}

/// The renderer before.
struct Fading {
    renderer: Box<Renderer>,
    /// Frames left to it.
    left: u32,
    /// As [`Generator::origin`].
    origin: u64,
}

impl Generator {
    pub(super) fn new(
        renderer: Renderer,
        audio: HeapProd<f32>,
        commands: HeapCons<Event>,
        inbox: Receiver<Message>,
        trash: Sender<Box<Renderer>>,
        shared: Arc<Shared>,
        margin_frames: usize,
    ) -> Self {
        let margin = Duration::from_secs_f64(margin_frames as f64 / f64::from(renderer.rate_hz()));
        // A quarter of the margin at most, so that a nap alone is never an underrun.
        let nap = (margin / 4).clamp(SHORTEST_NAP, Duration::from_millis(5));
        Self {
            renderer: Box::new(renderer),
            fading: None,
            audio,
            commands,
            inbox,
            held: None,
            trash,
            shared,
            made: 0,
            origin: 0,
            unheard_before: 0,
            nap,
            load: 0.0,
        }
    }

    /// Runs until told to stop. A panic inside is caught: the player learns of it and stays silent.
    pub(super) fn run(mut self) {
        // A host's rounding and denormal mode is inherited by the threads it starts.
        crate::kernels::set_float_mode();
        let shared = Arc::clone(&self.shared);
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
            while !self.shared.stop.load(Ordering::Acquire) {
                if !self.advance() {
                    self.rest();
                }
            }
        }));
        // Told to stop or failed: no more samples will come, and nobody should wait for them.
        drop(outcome);
        shared.sounding.store(0, Ordering::Relaxed);
        shared.dead.store(true, Ordering::Release);
    }

    /// Renders the next chunk, if there is something to render; whether there was.
    fn advance(&mut self) -> bool {
        // The horizon first: all events before it are in the ring already.
        let horizon = self.shared.horizon.load(Ordering::Acquire);
        while let Some(event) = self.commands.try_pop() {
            let frame = event.frame.saturating_sub(self.origin);
            self.renderer.push(Event { frame, ..event });
            if let Some(fading) = &mut self.fading
                && event.kind == EventKind::Reset
            {
                let frame = event.frame.saturating_sub(fading.origin);
                fading.renderer.push(Event { frame, ..event });
            }
        }
        while let Some(message) = self.held.take().or_else(|| self.inbox.try_recv().ok()) {
            // One renderer fades, the next is heard already: a third waits its turn.
            let busy = self.fading.is_some() && self.made != self.origin;
            if busy && matches!(message, Message::Load(_)) {
                self.held = Some(message);
                break;
            }
            self.take(message);
        }
        let known = horizon.saturating_sub(self.renderer.lookahead_frames());
        let wanted = known.saturating_sub(self.made).min(CHUNK as u64) as usize;
        let frames = wanted.min(self.audio.vacant_len());
        if frames == 0 {
            return false;
        }
        let began = Instant::now();
        let mut chunk = [0.0; CHUNK];
        let chunk = &mut chunk[..frames];
        self.renderer.render(chunk);
        self.made += frames as u64;
        self.add_fading(chunk);
        self.audio.push_slice(chunk);
        let share = began.elapsed().as_secs_f64() * f64::from(self.renderer.rate_hz());
        self.load += 0.02 * ((share / frames as f64) as f32 - self.load);
        self.shared.load_permille.store((self.load * 1000.0) as u32, Ordering::Relaxed);
        let sounding = self.renderer.synth().sounding();
        self.shared.sounding.store(sounding as u32, Ordering::Relaxed);
        let unheard = self.unheard_before + self.renderer.dropped();
        self.shared.unheard_events.store(unheard, Ordering::Relaxed);
        if let Some(why) = self.renderer.synth().loss() {
            self.shared.loss.get_or_init(|| why.into());
        }
        true
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Do(kind) => self.renderer.push_now(kind),
            #[cfg(test)]
            Message::Panic => panic!("asked to, by a test"),
            Message::Load(mut renderer) => {
                let (at_once, waiting) = self.renderer.hand_over();
                at_once.into_iter().for_each(|kind| renderer.push_now(kind));
                for event in waiting {
                    // Silence is for what fades, too.
                    if event.kind == EventKind::Reset {
                        self.renderer.push(event);
                    }
                    let frame = (event.frame + self.origin).saturating_sub(self.made);
                    renderer.push(Event { frame, ..event });
                }
                self.unheard_before += self.renderer.dropped();
                let before = std::mem::replace(&mut self.renderer, renderer);
                let origin = std::mem::replace(&mut self.origin, self.made);
                if self.fading.is_some() {
                    // Nobody heard it: what fades goes on fading, into the newer one.
                    let _ = self.trash.try_send(before);
                } else {
                    self.fading = Some(Fading { renderer: before, left: SWAP_FADE, origin });
                }
            }
        }
    }

    /// Mixes in what is left of the renderer before.
    fn add_fading(&mut self, chunk: &mut [f32]) {
        let Some(mut fading) = self.fading.take() else {
            return;
        };
        let mut tail = [0.0; CHUNK];
        let tail = &mut tail[..chunk.len()];
        fading.renderer.render(tail);
        for (sample, tail) in chunk.iter_mut().zip(tail) {
            fading.left = fading.left.saturating_sub(1);
            let level = fading.left as f32 / SWAP_FADE as f32;
            *sample = (*sample + *tail * level).clamp(-1.0, 1.0);
        }
        if fading.left > 0 {
            self.fading = Some(fading);
        } else {
            // Not freed here: it can take a while.
            let _ = self.trash.try_send(fading.renderer);
        }
    }

    fn rest(&self) {
        std::thread::sleep(self.nap);
    }
}
