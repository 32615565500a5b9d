//! Windows made ahead of the step that needs them, so that it never waits for a disk or a resampler.
//!
//! Lane l of n makes the windows l, l + n, l + 2 n, ... and waits once it is some ahead: memory is
//! bounded, and the order needs no sorting. A window is a function of its number alone, so that how
//! many lanes there are changes nothing.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::Scope;

use anyhow::{Context, Result};

use crate::network::Segment;

/// Windows that wait in a lane, beside the one that is being made.
const AHEAD: usize = 2;

/// Makes the window of a number: overwrites a segment.
pub type Make<'a> = dyn Fn(u64, &mut Segment) -> Result<()> + Sync + 'a;

/// Numbered windows in their order. Dropped, it ends its threads.
pub struct Prefetch<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    make: &'env Make<'env>,
    count: usize,
    lanes: Vec<Lane>,
    /// Number of the window that comes next.
    next: u64,
    /// Lane that makes it.
    turn: usize,
}

struct Lane {
    made: Receiver<Result<Segment>>,
    /// Windows that have served, whose memory is used again.
    used: Sender<Segment>,
}

impl<'scope, 'env> Prefetch<'scope, 'env> {
    /// Windows made on `lanes` threads (at least one) of `scope`, which begin with the first batch.
    pub fn new(scope: &'scope Scope<'scope, 'env>, lanes: usize, make: &'env Make<'env>) -> Self {
        Self { scope, make, count: lanes.max(1), lanes: Vec::new(), next: 0, turn: 0 }
    }

    /// Exchanges the windows from number `first` on for those in `batch`, which have served. What
    /// comes after them is made meanwhile; another number than that costs waiting, nothing else.
    ///
    /// # Errors
    /// The first error of making them.
    pub fn fill(&mut self, first: u64, batch: &mut [Segment]) -> Result<()> {
        if self.lanes.is_empty() || first != self.next {
            self.begin(first);
        }
        for segment in batch {
            let lane = &self.lanes[self.turn];
            self.turn = (self.turn + 1) % self.lanes.len();
            self.next += 1;
            let made = lane.made.recv().context("a thread that makes windows ended early")??;
            // A lane that has ended needs no memory.
            let _ = lane.used.send(std::mem::replace(segment, made));
        }
        Ok(())
    }

    fn begin(&mut self, first: u64) {
        let (count, make) = (self.count, self.make);
        let lane = |lane: usize| {
            let (sender, made) = sync_channel(AHEAD);
            let (used, free) = channel();
            let numbers = (first + lane as u64..).step_by(count);
            self.scope.spawn(move || work(numbers, make, &sender, &free));
            Lane { made, used }
        };
        self.lanes = (0..count).map(lane).collect();
        (self.next, self.turn) = (first, 0);
    }
}

fn work(
    numbers: impl Iterator<Item = u64>,
    make: &Make<'_>,
    made: &SyncSender<Result<Segment>>,
    free: &Receiver<Segment>,
) {
    for number in numbers {
        let mut segment = free.try_recv().unwrap_or_default();
        let outcome = make(number, &mut segment).map(|()| segment);
        let failed = outcome.is_err();
        // The receiver is gone: no more are needed.
        if made.send(outcome).is_err() || failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use anyhow::ensure;

    use super::*;

    #[test]
    fn windows_come_in_order_however_many_make_them() {
        for lanes in [1, 2, 3, 7] {
            let made = AtomicU64::new(0);
            let make = |number: u64, segment: &mut Segment| {
                made.fetch_add(1, Ordering::Relaxed);
                segment.class = number as usize;
                Ok(())
            };
            std::thread::scope(|scope| {
                let mut windows = Prefetch::new(scope, lanes, &make);
                let mut batch = vec![Segment::default(); 4];
                // Onwards, then back to where it was before, as after a roll-back.
                for first in [20, 24, 28, 32, 24, 28] {
                    windows.fill(first, &mut batch).unwrap();
                    let numbers: Vec<usize> = batch.iter().map(|segment| segment.class).collect();
                    assert_eq!(numbers, [0, 1, 2, 3].map(|place| first as usize + place));
                }
            });
            // Bounded: no lane is further ahead than it may be, neither before nor after.
            assert!(made.into_inner() <= 24 + 2 * (lanes * (AHEAD + 1)) as u64);
        }
    }

    #[test]
    fn an_error_arrives_in_its_turn() {
        let make = |number: u64, _: &mut Segment| {
            ensure!(number != 6, "the disk failed");
            Ok(())
        };
        std::thread::scope(|scope| {
            let mut windows = Prefetch::new(scope, 2, &make);
            let mut batch = vec![Segment::default(); 3];
            windows.fill(0, &mut batch).unwrap();
            windows.fill(3, &mut batch).unwrap();
            assert_eq!(windows.fill(6, &mut batch).unwrap_err().to_string(), "the disk failed");
        });
    }
}
