//! A small generator of random numbers: SplitMix64, started from the seed and a file's name.

/// Draws in their order; the same seed and name give the same draws.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64, name: &str) -> Self {
        let mut random = Self(seed);
        for byte in name.bytes() {
            random.0 = random.next() ^ u64::from(byte);
        }
        random
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Even in [low, high).
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        // 53 bits, all that an f64 holds.
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        low + (high - low) * unit
    }

    /// One of 0 .. count.
    pub(super) fn below(&mut self, count: usize) -> usize {
        self.between(0.0, count as f64) as usize
    }

    /// White noise in [-1, 1).
    pub(super) fn noise(&mut self) -> f64 {
        self.between(-1.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_draws_are_splitmix64s() {
        // Of seed 0, from the generator's reference code.
        let mut random = Random(0);
        assert_eq!(random.next(), 0xE220_A839_7B1D_CDAF);
        assert_eq!(random.next(), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn draws_are_even_and_depend_on_seed_and_name() {
        let mut random = Random::new(1, "a");
        let draws: Vec<f64> = (0..10_000).map(|_| random.noise()).collect();
        let mean = draws.iter().sum::<f64>() / 10_000.0;
        let power = draws.iter().map(|x| x * x).sum::<f64>() / 10_000.0;
        assert!(mean.abs() < 0.03 && (power - 1.0 / 3.0).abs() < 0.02, "{mean} {power}");
        assert!(draws.iter().all(|x| (-1.0..1.0).contains(x)));
        let first = |seed, name| Random::new(seed, name).noise();
        assert_ne!(first(1, "a"), first(2, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
    }
}
