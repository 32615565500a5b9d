//! Bird-like calls: phrases of short whistles whose pitch glides, some of them trilled.
//!
//! A syllable of T seconds has the frequency f0 (f1/f0)^(t/T) 2^(d sin(2 pi r t)), with a trill of
//! depth d (octaves) and rate r, and the envelope sin^2(pi t/T); its phase is the running sum.

use std::f64::consts::TAU;

use super::random::Random;
use super::{Clip, RATE_HZ};

struct Syllable {
    seconds: f64,
    from_hz: f64,
    to_hz: f64,
    trill_octaves: f64,
    trill_hz: f64,
    level: f64,
}

impl Syllable {
    fn draw(random: &mut Random) -> Self {
        let from_hz = 1_800.0 * libm::exp2(random.between(0.0, 1.2));
        let trilled = random.below(3) == 0;
        Self {
            seconds: if trilled { random.between(0.20, 0.45) } else { random.between(0.05, 0.16) },
            from_hz,
            to_hz: from_hz * libm::exp2(random.between(-0.6, 0.6)),
            trill_octaves: if trilled { random.between(0.04, 0.15) } else { 0.0 },
            trill_hz: random.between(18.0, 38.0),
            level: random.between(0.5, 1.0),
        }
    }

    fn sing(&self, clip: &mut [f64]) {
        let frames = ((self.seconds * f64::from(RATE_HZ)) as usize).min(clip.len());
        let glide = libm::log2(self.to_hz / self.from_hz);
        let mut turns = 0.0;
        for (n, x) in clip[..frames].iter_mut().enumerate() {
            let done = n as f64 / frames as f64;
            let t = n as f64 / f64::from(RATE_HZ);
            let trill = self.trill_octaves * libm::sin(TAU * self.trill_hz * t);
            turns += self.from_hz * libm::exp2(glide * done + trill) / f64::from(RATE_HZ);
            let envelope = libm::pow(libm::sin(0.5 * TAU * done), 2.0);
            // A whistle is nearly a sine: a little second harmonic.
            let tone = libm::sin(TAU * turns) + 0.1 * libm::sin(2.0 * TAU * turns);
            *x += self.level * envelope * tone;
        }
    }
}

/// Phrases of two to four syllables out of a repertoire of four, with rests between.
pub(super) fn call(frames: usize, random: &mut Random) -> Clip {
    let repertoire: Vec<Syllable> = (0..4).map(|_| Syllable::draw(random)).collect();
    let in_frames = |seconds: f64| (seconds * f64::from(RATE_HZ)) as usize;
    let mut clip = vec![0.0; frames];
    let mut at = in_frames(0.05);
    while at < frames {
        for _ in 0..2 + random.below(3) {
            let syllable = &repertoire[random.below(repertoire.len())];
            syllable.sing(&mut clip[at.min(frames)..]);
            at += in_frames(syllable.seconds + random.between(0.02, 0.08));
        }
        at += in_frames(random.between(0.2, 0.6));
    }
    clip
}
