//! How many voices a block of the batch kernel plays, or whether it plays at all, found out while it plays.
//!
//! Few voices a block leave its matrix units half empty, many wait longer for each other, and which of them is worse
//! depends on card, model and number of voices. The codes are the same, so the first slices try what is promising, and
//! the others take the fastest.

use std::time::Duration;

/// Slices of each, of which the fastest counts.
const TRIES: u32 = 2;
/// A shorter slice tells nothing.
const SHORTEST: Duration = Duration::from_millis(2);

/// What was found out, for numbers of orders that need the same blocks.
#[derive(Debug)]
pub(super) struct Tuning {
    /// [`SHORTEST`], but for tests.
    pub(super) shortest: Duration,
    /// Of so many multiples of the smallest block; and what they found.
    found: Vec<(u32, Vec<Candidate>)>,
    /// Which of both the slice that runs is: it is measured.
    running: Option<(usize, usize)>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { shortest: SHORTEST, found: Vec::new(), running: None }
    }
}

#[derive(Debug)]
struct Candidate {
    voices: u32,
    tries: u32,
    steps_per_second: f64,
}

impl Tuning {
    /// Voices a block for the next slice, of `promising` numbers, the best guess first. `share` stands for all numbers
    /// of orders that are as good as this one.
    pub(super) fn choose(&mut self, share: u32, promising: &[u32]) -> Option<u32> {
        let place = self.found.iter().position(|&(known, _)| known == share);
        let place = place.unwrap_or_else(|| {
            let candidate = |&voices| Candidate { voices, tries: 0, steps_per_second: 0.0 };
            self.found.push((share, promising.iter().map(candidate).collect()));
            self.found.len() - 1
        });
        let all = &self.found[place].1;
        // In turn, for the card's clock may still rise.
        let waiting = (0..all.len()).filter(|&index| all[index].tries < TRIES);
        let untried = waiting.min_by_key(|&index| all[index].tries);
        let fastest = || {
            let by_speed = |a: &usize, b: &usize| {
                all[*a].steps_per_second.total_cmp(&all[*b].steps_per_second)
            };
            (0..all.len()).max_by(by_speed)
        };
        let chosen = untried.or_else(fastest)?;
        self.running = untried.map(|untried| (place, untried));
        Some(all[chosen].voices)
    }

    /// How many samples the slice that was chosen for made of a voice, and in which time.
    pub(super) fn record(&mut self, steps: usize, took: Duration) {
        let Some((place, index)) = self.running.take().filter(|_| took >= self.shortest) else {
            return;
        };
        let candidate = &mut self.found[place].1[index];
        candidate.tries += 1;
        let speed = steps as f64 / took.as_secs_f64();
        candidate.steps_per_second = candidate.steps_per_second.max(speed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_is_taken_once_all_were_tried() {
        let mut tuning = Tuning::default();
        let speed = |voices| [(8, 5), (16, 9), (24, 7)].iter().find(|of| of.0 == voices).unwrap().1;
        let mut chosen = Vec::new();
        for _ in 0..9 {
            let voices = tuning.choose(3, &[24, 8, 16]).unwrap();
            chosen.push(voices);
            tuning.record(speed(voices), Duration::from_millis(10));
        }
        assert_eq!(chosen, [24, 8, 16, 24, 8, 16, 16, 16, 16]);
        // Another number of orders is another question, and a slice too short no answer.
        for _ in 0..3 {
            assert_eq!(tuning.choose(4, &[8, 16]), Some(8));
            tuning.record(1, Duration::from_millis(1));
        }
        assert_eq!(tuning.choose(5, &[]), None);
    }
}
