//! Attack, decay, sustain, release on top of what the model does itself.
//!
//! Straight lines up to the release, which falls as the square of a straight line: steep at first,
//! gentle at the end, and exactly zero after its time. Counted in frames of the model's rate.

/// The four times and levels, in frames and 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shape {
    pub(super) attack_frames: u32,
    pub(super) decay_frames: u32,
    pub(super) sustain: f32,
    pub(super) release_frames: u32,
}

/// One voice's envelope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Envelope {
    /// Frames since the beginning.
    age: u32,
    /// Level at which the release began, and frames of it still to come.
    release: Option<(f32, u32)>,
}

impl Envelope {
    pub(super) fn new() -> Self {
        Self { age: 0, release: None }
    }

    /// Begins the release, once.
    pub(super) fn release(&mut self, shape: &Shape) {
        if self.release.is_none() {
            self.release = Some((self.held_level(shape), shape.release_frames));
        }
    }

    pub(super) fn is_released(&self) -> bool {
        self.release.is_some()
    }

    /// Whether nothing more will be heard.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.release, Some((_, 0)))
    }

    /// The level of this frame; goes on to the next.
    pub(super) fn advance(&mut self, shape: &Shape) -> f32 {
        match &mut self.release {
            None => {
                let level = self.held_level(shape);
                self.age = self.age.saturating_add(1);
                level
            }
            Some((from, left)) => {
                *left = left.saturating_sub(1);
                let share = *left as f32 / shape.release_frames.max(1) as f32;
                *from * (share * share).min(1.0)
            }
        }
    }

    fn held_level(&self, shape: &Shape) -> f32 {
        if self.age < shape.attack_frames {
            return self.age as f32 / shape.attack_frames as f32;
        }
        let since = self.age - shape.attack_frames;
        if since < shape.decay_frames {
            let share = since as f32 / shape.decay_frames as f32;
            return 1.0 + (shape.sustain - 1.0) * share;
        }
        shape.sustain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_falls_stays_and_ends() {
        let shape = Shape { attack_frames: 4, decay_frames: 2, sustain: 0.5, release_frames: 2 };
        let mut envelope = Envelope::new();
        let held: Vec<f32> = (0..8).map(|_| envelope.advance(&shape)).collect();
        assert_eq!(held, [0.0, 0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.5]);
        envelope.release(&shape);
        assert!(envelope.is_released() && !envelope.is_over());
        assert_eq!(envelope.advance(&shape), 0.125);
        assert_eq!(envelope.advance(&shape), 0.0);
        assert!(envelope.is_over());
    }

    #[test]
    fn without_times_it_is_one_and_ends_at_once() {
        let shape = Shape { attack_frames: 0, decay_frames: 0, sustain: 1.0, release_frames: 0 };
        let mut envelope = Envelope::new();
        assert_eq!(envelope.advance(&shape), 1.0);
        envelope.release(&shape);
        assert!(envelope.is_over());
    }
}
