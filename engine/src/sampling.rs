//! Randomness as an argument: counter-based draws, and the choice of a code from logits.
//!
//! Draws come from Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
//! 3"): a pure function of key and counter, so the draw of a note's n-th sample depends on neither
//! block size nor the voices beside it. The choice works on integer weights, whose sums are exact
//! in any order: a CPU loop and a GPU scan agree to the last code.

use crate::math::exp;

/// Draws of one stream. Two streams with different `seed` or `stream` are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
    stream: [u32; 2],
}

impl Philox {
    /// The stream of draws numbered `stream` under `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            stream: [stream as u32, (stream >> 32) as u32],
        }
    }

    /// The seed and the number of the stream.
    pub(crate) fn numbers(&self) -> (u64, u64) {
        let joined = |halves: [u32; 2]| u64::from(halves[0]) | u64::from(halves[1]) << 32;
        (joined(self.key), joined(self.stream))
    }

    /// The draw at an index, uniform over all of u32. Four neighbours share one block of Philox.
    #[inline]
    pub fn draw(&self, index: u64) -> u32 {
        let block = index >> 2;
        let counter = [block as u32, (block >> 32) as u32, self.stream[0], self.stream[1]];
        philox4x32_10(counter, self.key)[(index & 3) as usize]
    }

    /// The draw at an index as a float in [0, 1) of 24 bits.
    #[inline]
    pub fn uniform(&self, index: u64) -> f32 {
        (self.draw(index) >> 8) as f32 / (1 << 24) as f32
    }
}

/// Ten rounds of Philox4x32.
#[inline]
fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let left = u64::from(counter[0]) * 0xD251_1F53;
        let right = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (right >> 32) as u32 ^ counter[1] ^ key[0],
            right as u32,
            (left >> 32) as u32 ^ counter[3] ^ key[1],
            left as u32,
        ];
        key[0] = key[0].wrapping_add(0x9E37_79B9);
        key[1] = key[1].wrapping_add(0xBB67_AE85);
    }
    counter
}

/// How a code is chosen from the logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// T: 1 = as trained, below 1 = more certain, 0 = always the likeliest code.
    pub temperature: f32,
    /// Nucleus (Holtzman et al. 2020): only the likeliest codes that together reach this share.
    pub top_p: f32,
}

impl Sampling {
    /// The share of the nucleus in parts of 2^32; 2^32 where all codes are kept.
    pub(crate) fn share(&self) -> u64 {
        if self.top_p < 1.0 {
            (f64::from(self.top_p.max(0.0)) * 4_294_967_296.0) as u64
        } else {
            1 << 32
        }
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0 }
    }
}

/// One part in the fixed-point weights: 2^23.
const UNIT: f32 = 8_388_608.0;

/// Codes that are looked at together, so that loops over them become vector instructions.
const GROUP: usize = 16;
/// Most codes there are.
const CODES: usize = 256;

/// Chooses a code: `w_i = trunc(exp((l_i - max) / T) 2^23)`, then the first code whose prefix sum
/// exceeds `draw total / 2^32`. Ties of the maximum (T = 0) and of top-p go to the lower code.
///
/// Real-time safe. `logits` has at most 256 entries; logits that are not finite choose no code of
/// their own, and where none is left the answer is the first maximum.
#[inline(always)]
pub fn pick(logits: &[f32], sampling: Sampling, draw: u32) -> u8 {
    let logits = &logits[..logits.len().min(CODES)];
    let mut room = [0.0; CODES];
    let padded = padded(logits, &mut room);
    let max = maximum(padded);
    if sampling.temperature <= 0.0 || max == f32::NEG_INFINITY {
        return first_maximum(logits);
    }
    let mut weights = [0_u32; CODES];
    for (weight, &logit) in weights.iter_mut().zip(padded) {
        let mut distance = logit - max;
        if sampling.temperature != 1.0 {
            distance /= sampling.temperature;
        }
        *weight = truncate(exp(distance) * UNIT);
    }
    if sampling.top_p < 1.0 {
        keep_nucleus(&mut weights[..logits.len()], sampling.top_p);
    }
    // All sums are below 2^32: 256 times 2^23 at most.
    let mut sums = [0_u32; CODES / GROUP];
    for (sum, group) in sums.iter_mut().zip(weights.chunks_exact(GROUP)) {
        *sum = sum_of(group);
    }
    let total: u32 = sums.iter().sum();
    if total == 0 {
        return first_maximum(logits);
    }
    let target = ((u64::from(draw) * u64::from(total)) >> 32) as u32;
    let (group, target) = first_beyond(&sums, target);
    let mut weights_of_group = [0; GROUP];
    weights_of_group.copy_from_slice(&weights[group * GROUP..(group + 1) * GROUP]);
    let (code, _) = first_beyond(&weights_of_group, target);
    (group * GROUP + code) as u8
}

/// The logits followed by codes that do not exist, which weigh nothing.
#[inline(always)]
fn padded<'a>(logits: &'a [f32], room: &'a mut [f32; CODES]) -> &'a [f32; CODES] {
    match <&[f32; CODES]>::try_from(logits) {
        Ok(all) => all,
        Err(_) => {
            room.fill(f32::NEG_INFINITY);
            room[..logits.len()].copy_from_slice(logits);
            room
        }
    }
}

/// The first place whose prefix sum exceeds `target`, which the sum of all does, and how far `target`
/// lies above the places before it. It looks at all of them: where to stop could not be foretold.
#[inline(always)]
fn first_beyond(values: &[u32; GROUP], target: u32) -> (usize, u32) {
    let (mut place, mut before, mut sum) = (0, 0, 0);
    for value in values {
        sum += value;
        let is_before = sum <= target;
        place += usize::from(is_before);
        before = if is_before { sum } else { before };
    }
    (place.min(GROUP - 1), target - before)
}

/// The whole part of a value from 0 to 2^23; 0 for NaN. A cast would do, but it does not become
/// vector instructions.
#[inline(always)]
fn truncate(value: f32) -> u32 {
    let bits = value.to_bits();
    let mantissa = (bits & 0x7f_ffff) | 0x80_0000;
    // 150 = 127 + 23; larger exponents (NaN) wrap to a large shift, which leaves 0.
    mantissa >> 150_u32.wrapping_sub(bits >> 23).min(31)
}

/// The sum of 16 weights, halves added to halves.
#[inline(always)]
fn sum_of(group: &[u32]) -> u32 {
    let mut sums = [0; GROUP];
    sums.copy_from_slice(group);
    let mut half = GROUP / 2;
    while half > 0 {
        for index in 0..half {
            sums[index] += sums[index + half];
        }
        half /= 2;
    }
    sums[0]
}

/// The largest logit that is a number; -infinity where there is none.
#[inline(always)]
fn maximum(logits: &[f32; CODES]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut largest = [f32::NEG_INFINITY; GROUP];
    for group in logits.chunks_exact(GROUP) {
        for (largest, &logit) in largest.iter_mut().zip(group) {
            *largest = larger(*largest, logit);
        }
    }
    let mut half = GROUP / 2;
    while half > 0 {
        for index in 0..half {
            largest[index] = larger(largest[index], largest[index + half]);
        }
        half /= 2;
    }
    largest[0]
}

/// The lowest code of the largest logit.
fn first_maximum(logits: &[f32]) -> u8 {
    let mut best = 0;
    for (code, &logit) in logits.iter().enumerate() {
        if logit > logits[best] || logits[best].is_nan() {
            best = code;
        }
    }
    best as u8
}

/// Sets to zero what lies outside the nucleus.
fn keep_nucleus(weights: &mut [u32], top_p: f32) {
    let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    let share = (f64::from(top_p.max(0.0)) * 4_294_967_296.0) as u64;
    let goal = ((u128::from(share) * u128::from(total)) >> 32) as u64;
    // Heaviest first; among equals the lower code. Packing both in one integer makes the order
    // total, and an unstable sort (which allocates nothing) exact.
    let mut order = [0_u64; 256];
    for (code, (slot, &weight)) in order.iter_mut().zip(weights.iter()).enumerate() {
        *slot = u64::from(weight) << 8 | (255 - code as u64);
    }
    let order = &mut order[..weights.len()];
    order.sort_unstable_by(|a, b| b.cmp(a));
    let mut kept = 0;
    for &entry in order.iter() {
        let code = 255 - (entry & 255) as usize;
        if kept > 0 && kept >= goal {
            weights[code] = 0;
        } else {
            kept += entry >> 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_matches_the_published_vectors() {
        // Random123's known-answer tests for philox4x32-10.
        assert_eq!(
            philox4x32_10([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32_10([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32_10(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn zero_temperature_takes_the_first_maximum() {
        let greedy = Sampling { temperature: 0.0, top_p: 1.0 };
        assert_eq!(pick(&[0.0, 3.0, 3.0, 1.0], greedy, u32::MAX), 1);
        assert_eq!(pick(&[f32::NAN, 3.0, 4.0, 1.0], greedy, 0), 2);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits = [0.0, 1.0, 2.0, -1.0];
        let draws = Philox::new(7, 0);
        let mut counts = [0_u32; 4];
        for index in 0..100_000 {
            counts[usize::from(pick(&logits, Sampling::default(), draws.draw(index)))] += 1;
        }
        let sum: f64 = logits.iter().map(|&l| libm::exp(f64::from(l))).sum();
        for (code, &count) in counts.iter().enumerate() {
            let expected = libm::exp(f64::from(logits[code])) / sum;
            assert!((f64::from(count) / 1e5 - expected).abs() < 0.005, "{counts:?}");
        }
    }

    #[test]
    fn top_p_keeps_the_likeliest_and_at_least_one() {
        let logits = [0.0, 2.0, 2.0, -1.0];
        let draws = Philox::new(1, 2);
        let only = |top_p, allowed: &[u8]| {
            let sampling = Sampling { temperature: 1.0, top_p };
            let mut seen = [false; 4];
            for index in 0..2_000 {
                seen[usize::from(pick(&logits, sampling, draws.draw(index)))] = true;
            }
            for code in 0..4_u8 {
                assert_eq!(seen[usize::from(code)], allowed.contains(&code), "{top_p} {code}");
            }
        };
        only(0.0, &[1]);
        only(0.4, &[1]);
        only(0.6, &[1, 2]);
        only(0.95, &[0, 1, 2]);
        only(1.0, &[0, 1, 2, 3]);
    }

    #[test]
    fn every_draw_gives_a_code_whatever_the_logits() {
        let strange = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -1e30, 1e30];
        for a in strange {
            for b in strange {
                for draw in [0, 1, u32::MAX / 2, u32::MAX] {
                    for top_p in [0.0, 0.5, 1.0] {
                        let code = pick(&[a, b, 0.5], Sampling { temperature: 0.7, top_p }, draw);
                        assert!(code < 3);
                    }
                }
            }
        }
    }
}
