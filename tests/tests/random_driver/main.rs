//! The live engine driven at random: notes, parameters, resets, rates, blocks, models, and all of it
//! at moments that nobody chose. No panic, no sample that is not finite or above full scale, no
//! allocation on the audio thread and, by the clock, no system call; and no memory or thread is left.
//!
//! `WAVENET_DRIVER_SECONDS` says for how long (10). What each round does is a pure function of
//! `WAVENET_DRIVER_SEED`, which is printed; only when threads meet is up to the machine.

mod audio;
mod plan;
mod round;

use std::io::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use audio::StrictThread;
use round::Models;
use wavenet_tests::counting::{Counting, live_bytes};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// After so many rounds everything that is made only once has been made.
const FIRST_ROUNDS: u64 = 8;
/// What may come and go beyond the rounds: names, buffers of the test runner.
const SLACK_BYTES: usize = 4 << 10;

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Threads of this process, where the system tells.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

#[test]
fn whatever_happens_sound_stays_sound_and_nothing_is_left_behind() {
    let budget = Duration::from_secs(number_from("WAVENET_DRIVER_SECONDS").unwrap_or(10));
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let seed = number_from("WAVENET_DRIVER_SEED").unwrap_or_else(clock);
    // Past the test runner, which would keep it to itself if a system call ended the process.
    writeln!(std::io::stderr(), "{} s from WAVENET_DRIVER_SEED={seed}", budget.as_secs()).unwrap();

    let models = Models::new();
    let strict = StrictThread::start();
    let at_rest = threads();
    let began = Instant::now();
    let mut settled_bytes = usize::MAX;
    let (mut round, mut heard) = (0, 0);
    while round < FIRST_ROUNDS + 4 || began.elapsed() < budget {
        heard += u64::from(round::play(&models, &strict, seed, round));
        round += 1;

        let bytes = live_bytes();
        if round <= FIRST_ROUNDS {
            settled_bytes = bytes;
        }
        assert!(bytes <= settled_bytes + SLACK_BYTES, "{settled_bytes} bytes grew to {bytes}");
        // A thread that was joined may need a moment more to be gone.
        let patience = Instant::now() + Duration::from_secs(10);
        while threads() > at_rest && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(threads() <= at_rest, "round {round} left a thread");
    }
    assert!(heard > round / 4, "only {heard} of {round} rounds made a sound");
    writeln!(std::io::stderr(), "{round} rounds, {heard} heard, {} bytes held", live_bytes())
        .unwrap();
}
