//! Telling a host that plays from one that renders to a file and says it plays.
//!
//! A host that plays asks for a block's frames once a block's time; one that renders asks again at
//! once. What was asked for beyond the clock is counted, and forgotten a little faster than the clock
//! runs, so that neither a sound card's own idea of a second nor a few blocks in advance add up.

use std::time::Duration;

/// The clock is taken to run this much faster than it does.
const LENIENCY: f64 = 1.02;

/// How far a host is ahead of the clock.
#[derive(Debug)]
pub(super) struct HostClock {
    rate_hz: f64,
    /// Frames asked for before the present call, beyond what the clock allowed.
    ahead: f64,
    /// Frames of the present call.
    present: f64,
}

impl HostClock {
    pub(super) fn new(rate_hz: u32) -> Self {
        Self { rate_hz: f64::from(rate_hz), ahead: 0.0, present: 0.0 }
    }

    /// The host asks for `frames`, `since` after its last call (less what that call made it wait).
    pub(super) fn called(&mut self, since: Duration, frames: usize) {
        let clock = since.as_secs_f64() * self.rate_hz * LENIENCY;
        self.ahead = (self.ahead + self.present - clock).max(0.0);
        self.present = frames as f64;
    }

    /// Whether the host, having taken `taken` frames in the present call, has emptied a buffer of
    /// `latency` frames faster than any clock could.
    pub(super) fn outruns_the_clock(&self, taken: usize, latency: usize) -> bool {
        self.ahead + taken as f64 > latency as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 480;
    const LATENCY: usize = 1_000;

    /// Calls `blocks` times, each `ms` after the last; whether it was ever said to outrun the clock.
    fn outruns(blocks: usize, ms: f64) -> bool {
        let mut clock = HostClock::new(48_000);
        (0..blocks).any(|_| {
            clock.called(Duration::from_secs_f64(ms / 1000.0), BLOCK);
            clock.outruns_the_clock(BLOCK, LATENCY)
        })
    }

    #[test]
    fn a_host_that_plays_is_known_for_hours_even_with_a_fast_card() {
        // A block lasts 10 ms; a card 1000 ppm fast asks a little sooner.
        assert!(!outruns(1_000_000, 10.0));
        assert!(!outruns(1_000_000, 9.99));
    }

    #[test]
    fn a_host_that_renders_is_known_when_the_buffer_is_empty() {
        assert!(outruns(3, 0.0));
        assert!(outruns(30, 5.0));
        assert!(!outruns(2, 0.0));
    }

    #[test]
    fn blocks_in_advance_are_forgotten() {
        let mut clock = HostClock::new(48_000);
        for _ in 0..3 {
            clock.called(Duration::ZERO, BLOCK);
        }
        for _ in 0..500 {
            clock.called(Duration::from_millis(10), BLOCK);
        }
        assert!(!clock.outruns_the_clock(BLOCK, LATENCY));
    }
}
