//! Work on many things of a kind, dealt out among the processor's threads where there is enough of it.
//!
//! What is done to one thing depends on no other, so the result is the same for any number of threads. Not real-time
//! safe: threads are started and waited for.

use std::num::NonZero;
use std::sync::OnceLock;
use std::thread;

/// No more than these: memory, not arithmetic, is what more would wait for.
const MOST_THREADS: usize = 16;

/// Threads that this machine runs side by side.
fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS
        .get_or_init(|| thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS))
}

/// How many of `things` one thread gets, at least `fewest`: so that a thread has work for longer than its start takes.
pub(crate) fn share_of(things: usize, fewest: usize) -> usize {
    things.div_ceil(threads()).max(fewest).max(1)
}

/// Calls `work` with stretches of so many `things`, and the place of the first of each, side by side.
pub(crate) fn in_shares<T: Send>(
    things: &mut [T],
    share: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    if things.len() <= share {
        return work(0, things);
    }
    let work = &work;
    thread::scope(|scope| {
        let mut shares = things.chunks_mut(share).enumerate();
        let own = shares.next();
        for (index, things) in shares {
            scope.spawn(move || work(index * share, things));
        }
        // The first is this thread's.
        if let Some((_, things)) = own {
            work(0, things);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_done_once_and_knows_its_place() {
        for (count, share) in [(0, 1), (1, 1), (7, 3), (8, 2), (5, 9)] {
            let mut things = vec![0; count];
            in_shares(&mut things, share, |first, things| {
                things.iter_mut().enumerate().for_each(|(i, thing)| *thing += first + i + 1);
            });
            assert!(things.iter().enumerate().all(|(i, &thing)| thing == i + 1));
        }
    }

    #[test]
    fn little_work_is_one_threads() {
        assert_eq!(share_of(8, 16), 16);
        assert!(share_of(100_000, 16) >= 100_000 / MOST_THREADS);
    }
}
