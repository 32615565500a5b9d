//! The sum of the voices: what is left of stolen ones, the master gain, the soft limit.

/// A stolen voice's last sample fades by this factor a sample, so that it does not click.
const STOLEN_FADE: f32 = 0.98;
/// Share of the way to a new gain that is gone each sample.
const GAIN_SPEED: f32 = 0.005;

/// What a sum of voices remembers from frame to frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mixer {
    /// What is left of stolen voices.
    stolen: f32,
    /// Master gain now, and the one it is on its way to.
    gain: f32,
    target_gain: f32,
}

impl Mixer {
    pub(super) fn new(gain: f32) -> Self {
        Self { stolen: 0.0, gain, target_gain: gain }
    }

    /// Forgets what is left of voices; the gain is there at once.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.target_gain);
    }

    /// Goes to another gain: slowly, or at once where nothing sounds that could click.
    pub(super) fn set_gain(&mut self, gain: f32, is_silent: bool) {
        self.target_gain = gain;
        if is_silent && !self.has_rest() {
            self.gain = gain;
        }
    }

    /// Takes over a voice that ends now, from what it last sounded.
    pub(super) fn steal(&mut self, last_output: f32) {
        self.stolen += last_output;
    }

    /// Whether a stolen voice is still heard.
    pub(super) fn has_rest(&self) -> bool {
        self.stolen != 0.0
    }

    /// What is left of stolen voices in this frame: the beginning of the sum.
    pub(super) fn rest(&mut self) -> f32 {
        let rest = self.stolen;
        self.stolen = if rest.abs() > 1e-6 { rest * STOLEN_FADE } else { 0.0 };
        rest
    }

    /// The sum of this frame as it is heard, in [-1, 1].
    pub(super) fn finish(&mut self, sum: f32) -> f32 {
        let change = self.target_gain - self.gain;
        self.gain =
            if change.abs() > 1e-5 { self.gain + change * GAIN_SPEED } else { self.target_gain };
        soft_clip(sum * self.gain)
    }
}

/// Straight up to 0.9, then bending towards 1 and never beyond: chords may be loud, not broken.
fn soft_clip(x: f32) -> f32 {
    const KNEE: f32 = 0.9;
    let over = x.abs() - KNEE;
    if over <= 0.0 {
        return x;
    }
    // over / (over + room): slope 1 at the knee, limit 1.
    let room = 1.0 - KNEE;
    (KNEE + room * (over / (over + room))).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_exceeds_full_scale() {
        for x in [0.0, 0.5, 0.9, 0.95, 1.0, 3.0, 64.0, -64.0, f32::MAX] {
            assert!(soft_clip(x).abs() <= 1.0);
        }
        assert_eq!(soft_clip(-0.7), -0.7);
    }
}
