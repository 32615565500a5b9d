//! Mu-law companding (ITU-T G.711's curve, van den Oord 2016 section 2.2): a sample in [-1, 1]
//! becomes one of `levels` codes, finer near zero, where the ear is.
//!
//! With mu = levels - 1:
//!
//! ```text
//! compress(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu)
//! code        = floor((compress(x) + 1) / 2 * mu + 1/2)
//! expand(y)   = sign(y) ((1 + mu)^|y| - 1) / mu,   y = 2 code / mu - 1
//! ```
//!
//! -1 is the lowest code, 1 the highest, and 0 the code `levels / 2`. An even number of levels has
//! no code for exactly 0.0: silence decodes to the smallest positive value (-81 dB at 256 levels),
//! as in every WaveNet.
//!
//! Both directions go through one table computed with `libm`, so they agree on every machine.

/// Encoder and decoder for one number of levels.
#[derive(Debug, Clone)]
pub struct MuLaw {
    /// Value of each code, rising. Shape: `[levels]`.
    values: Vec<f32>,
    mu: f64,
    /// ln(1 + mu).
    log_levels: f64,
}

impl MuLaw {
    /// Builds the tables for `levels` codes (2 to 256; the config has checked it).
    pub fn new(levels: usize) -> Self {
        let mu = (levels.clamp(2, 256) - 1) as f64;
        let values = (0..levels.clamp(2, 256))
            .map(|code| {
                let y = 2.0 * code as f64 / mu - 1.0;
                let magnitude = (libm::pow(1.0 + mu, y.abs()) - 1.0) / mu;
                magnitude.copysign(y) as f32
            })
            .collect();
        Self { values, mu, log_levels: libm::log1p(mu) }
    }

    /// The code of a sample; values beyond [-1, 1] take the end codes, NaN that of silence.
    pub fn encode(&self, sample: f32) -> u8 {
        let compressed = self.compressed(sample);
        let code = (compressed + 1.0) / 2.0 * self.mu + 0.5;
        (code as usize).min(self.values.len() - 1) as u8
    }

    /// Where a sample lies on the scale of the codes: -1 is the lowest, 1 the highest. Real-time safe.
    pub fn compress(&self, sample: f32) -> f32 {
        self.compressed(sample) as f32
    }

    fn compressed(&self, sample: f32) -> f64 {
        let x = if sample.is_nan() { 0.0 } else { f64::from(sample.clamp(-1.0, 1.0)) };
        (libm::log1p(self.mu * x.abs()) / self.log_levels).copysign(x)
    }

    /// The sample that a code stands for, in [-1, 1]. Real-time safe: one table read.
    #[inline]
    pub fn decode(&self, code: u8) -> f32 {
        self.values[usize::from(code).min(self.values.len() - 1)]
    }

    /// The code of 0.0: what a silent past is made of.
    pub fn silence(&self) -> u8 {
        (self.values.len() / 2) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encode_undoes_decode_for_every_code_and_level_count() {
        for levels in 2..=256 {
            let mulaw = MuLaw::new(levels);
            for code in 0..levels {
                let code = code as u8;
                assert_eq!(mulaw.encode(mulaw.decode(code)), code, "{levels} levels");
            }
        }
    }

    #[test]
    fn ends_and_middle_land_where_they_must() {
        let mulaw = MuLaw::new(256);
        assert_eq!(mulaw.encode(-1.0), 0);
        assert_eq!(mulaw.encode(0.0), 128);
        assert_eq!(mulaw.encode(-0.0), 128);
        assert_eq!(mulaw.encode(1.0), 255);
        assert_eq!(mulaw.decode(0), -1.0);
        assert_eq!(mulaw.decode(255), 1.0);
        assert!(mulaw.decode(128) > 0.0 && mulaw.decode(128) < 1e-4);
        assert_eq!(mulaw.decode(127), -mulaw.decode(128));
        assert_eq!(mulaw.silence(), 128);
    }

    #[test]
    fn every_float_has_a_code() {
        let mulaw = MuLaw::new(256);
        assert_eq!(mulaw.encode(f32::NAN), 128);
        assert_eq!(mulaw.encode(f32::INFINITY), 255);
        assert_eq!(mulaw.encode(f32::NEG_INFINITY), 0);
        assert_eq!(mulaw.encode(7.0), 255);
    }

    #[test]
    fn codes_rise_with_the_sample() {
        let mulaw = MuLaw::new(256);
        let mut last = 0;
        for step in -1000..=1000 {
            let code = mulaw.encode(step as f32 / 1000.0);
            assert!(code >= last);
            last = code;
        }
    }
}
