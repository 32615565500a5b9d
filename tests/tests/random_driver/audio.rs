//! The audio side of a round, on threads of its own.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wavenet_engine::stream::{Pace, Player};
use wavenet_tests::counting::calls;
use wavenet_tests::system_calls::forbid_system_calls;

use super::plan::{Drive, Score};

/// What the audio side is given, and gives back.
pub(crate) struct Performance {
    pub(crate) player: Player,
    pub(crate) drive: Drive,
    pub(crate) rate_hz: u32,
    pub(crate) score: Score,
    /// One sample a frame of the score. What is not written stays NaN.
    pub(crate) out: Vec<f32>,
    /// Allocations and frees while it played.
    pub(crate) allocations: usize,
}

impl Performance {
    pub(crate) fn new(player: Player, drive: Drive, rate_hz: u32, score: Score) -> Self {
        let frames = score.calls.iter().map(|call| call.frames).sum();
        Self { player, drive, rate_hz, score, out: vec![f32::NAN; frames], allocations: 0 }
    }

    /// Plays the score. Touches no system call of its own: time is waited for by looking at the clock.
    fn play(&mut self) {
        let Self { player, drive, score, out, .. } = self;
        let pace = match drive {
            Drive::Clock | Drive::Hurry => Pace::Realtime,
            Drive::Offline | Drive::Bounce => Pace::Offline,
        };
        let mut rest = out.as_mut_slice();
        for call in &score.calls {
            let block;
            (block, rest) = rest.split_at_mut(call.frames);
            for _ in 0..call.resets {
                player.reset();
            }
            player.process(&score.events[call.events.clone()], block, pace);
            let due = match drive {
                Drive::Clock => {
                    Duration::from_secs_f64(block.len() as f64 / f64::from(self.rate_hz))
                }
                _ => Duration::ZERO,
            } + Duration::from_micros(call.pause_us.into());
            let began = Instant::now();
            while began.elapsed() < due {
                std::hint::spin_loop();
            }
        }
    }

    fn play_counted(mut self) -> Self {
        self.allocations = calls(|| self.play());
        self
    }
}

/// A thread that may not call the system and so never ends: it yields between performances.
pub(crate) struct StrictThread {
    /// With room for one: handing over takes no memory and, as nobody waits inside, wakes nobody.
    to: SyncSender<Performance>,
    from: Receiver<Performance>,
}

impl StrictThread {
    pub(crate) fn start() -> Self {
        let (to, inbox) = sync_channel::<Performance>(1);
        let (outbox, from) = sync_channel(1);
        std::thread::spawn(move || {
            forbid_system_calls();
            loop {
                match inbox.try_recv() {
                    Ok(performance) => {
                        // The only one under way: there is room.
                        let _ = outbox.try_send(performance.play_counted());
                    }
                    Err(_) => std::thread::yield_now(),
                }
            }
        });
        Self { to, from }
    }
}

/// A performance under way.
pub(crate) enum UnderWay<'a> {
    Strict(&'a Receiver<Performance>),
    /// On a thread of its own, that may sleep.
    Patient(JoinHandle<Performance>),
}

impl StrictThread {
    /// Begins a performance, here where it is forbidden to wait.
    pub(crate) fn begin(&self, performance: Performance) -> UnderWay<'_> {
        match performance.drive {
            Drive::Clock => {
                self.to.try_send(performance).expect("one at a time");
                UnderWay::Strict(&self.from)
            }
            _ => UnderWay::Patient(std::thread::spawn(move || performance.play_counted())),
        }
    }
}

impl UnderWay<'_> {
    /// Waits for the end, of the strict thread without asking to be woken.
    pub(crate) fn end(self) -> Performance {
        match self {
            Self::Patient(thread) => thread.join().expect("the player panicked"),
            Self::Strict(from) => loop {
                match from.try_recv() {
                    Ok(performance) => return performance,
                    Err(TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(1)),
                    Err(TryRecvError::Disconnected) => panic!("the audio thread is gone"),
                }
            },
        }
    }
}
