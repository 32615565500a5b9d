//! Events in order of time, given out as time goes on: once, or over and over.
//!
//! Nothing is allocated after the beginning, so that an audio callback may ask.

use anyhow::{Result, ensure};
use wavenet_engine::synth::{Event, EventKind};

/// Rest between the end of a round and the beginning of the next.
const REST_MS: u64 = 2_000;

/// What is played by itself, without hands.
#[derive(Debug, Clone)]
pub struct Piece {
    /// In order of their frames, which count from the beginning of a round.
    events: Vec<Event>,
    next: usize,
    /// Frame at which the present round began.
    start: u64,
    /// Length of a round; a piece that is played once has none.
    round_frames: Option<u64>,
}

impl Piece {
    /// Events played once, in order.
    pub fn once(events: Vec<Event>) -> Self {
        Self { events, next: 0, start: 0, round_frames: None }
    }

    /// A sound without end.
    pub fn drone() -> Self {
        Self::once(vec![Event { frame: 0, kind: EventKind::Drone }])
    }

    /// Events played again after a short rest, and again.
    ///
    /// # Errors
    /// If one round lasts longer than a day.
    pub fn over_and_over(events: Vec<Event>, rate_hz: u32) -> Result<Self> {
        let last = events.last().map_or(0, |event| event.frame);
        let day = 24 * 3600 * u64::from(rate_hz);
        ensure!(last < day, "the MIDI file lasts longer than a day");
        let rest = (u64::from(rate_hz) * REST_MS / 1000).max(1);
        Ok(Self { round_frames: Some(last + rest), ..Self::once(events) })
    }

    /// The frame of the next event, if there is one.
    pub fn peek(&mut self) -> Option<u64> {
        if let (Some(length), true) = (self.round_frames, self.next == self.events.len()) {
            self.start += length;
            self.next = 0;
        }
        self.events.get(self.next).map(|event| self.start + event.frame)
    }

    /// The next event, if it comes before a frame. Real-time safe.
    pub fn next_before(&mut self, frame: u64) -> Option<Event> {
        let at = self.peek().filter(|&at| at < frame)?;
        let event = self.events.get(self.next)?;
        self.next += 1;
        Some(Event { frame: at, kind: event.kind })
    }

    /// Passes over what comes before a frame.
    pub fn skip_to(&mut self, frame: u64) {
        while self.next_before(frame).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(piece: &mut Piece, before: u64) -> Vec<u64> {
        std::iter::from_fn(|| piece.next_before(before)).map(|event| event.frame).collect()
    }

    fn events() -> Vec<Event> {
        [0, 0, 10].map(|frame| Event { frame, kind: EventKind::AllNotesOff }).to_vec()
    }

    #[test]
    fn once_is_once() {
        let mut piece = Piece::once(events());
        assert_eq!(frames(&mut piece, 10), [0, 0]);
        assert_eq!(frames(&mut piece, 1_000), [10]);
        assert_eq!(piece.peek(), None);
    }

    #[test]
    fn a_round_follows_the_other_after_a_rest() {
        let mut piece = Piece::over_and_over(events(), 1_000).unwrap();
        assert_eq!(frames(&mut piece, 2_010), [0, 0, 10]);
        assert_eq!(frames(&mut piece, 2_021), [2_010, 2_010, 2_020]);
        piece.skip_to(6_035);
        assert_eq!(piece.peek(), Some(6_040));
        assert!(Piece::over_and_over(vec![], 1_000).unwrap().next_before(9_999_999).is_none());
    }
}
