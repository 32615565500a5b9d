//! The product whose cost `--micro` measures, and what it must give.

use super::super::params::Unit;
use crate::sampling::Philox;

/// A product of bytes: 256 rows of 256 columns, as in the last product of a model, for 16 voices.
pub(super) const WHAT: [usize; 3] = [256, 256, 16];
/// Columns of a step, in four units.
const COLUMNS_OF_STEP: usize = 64;

/// Random bytes for one product.
#[derive(Debug)]
pub(super) struct Product {
    rows: usize,
    columns: usize,
    voices: usize,
    /// Shape: `[rows][columns]`.
    weights: Vec<i8>,
    /// Shape: `[voices][columns]`.
    vectors: Vec<i8>,
}

impl Product {
    /// Rows, columns, a multiple of 64, and voices, a multiple of 8.
    pub(super) fn new([rows, columns, voices]: [usize; 3], seed: u64) -> Self {
        assert!(columns.is_multiple_of(COLUMNS_OF_STEP) && voices.is_multiple_of(8));
        let bytes = |stream: u64, count: usize| {
            let draws = Philox::new(seed, stream);
            (0..count as u64).map(|index| draws.draw(index) as i8).collect()
        };
        let (weights, vectors) = (bytes(0, rows * columns), bytes(1, voices * columns));
        Self { rows, columns, voices, weights, vectors }
    }

    /// As the kernel is told: a unit of numbers, the matrix, the vectors, each a unit longer than its bytes.
    pub(super) fn units(&self) -> Vec<Unit> {
        let steps = self.columns / COLUMNS_OF_STEP;
        let mut units = vec![[self.rows as u32, steps as u32, self.voices as u32, 0]];
        for unit in 0..steps * 4 {
            for row in self.weights.chunks_exact(self.columns) {
                units.push(unit_of(&row[unit * 16..(unit + 1) * 16]));
            }
        }
        for vector in self.vectors.chunks_exact(self.columns) {
            units.extend(vector.chunks_exact(16).map(unit_of));
            units.push([0; 4]);
        }
        units
    }

    /// Shared memory of a block, in bytes.
    pub(super) fn shared_bytes(&self, threads: u32) -> u32 {
        let units = self.voices * (self.columns / 16 + 1);
        (units * size_of::<Unit>()) as u32 + threads * size_of::<u32>() as u32
    }

    /// What the kernel's sum must be after so many turns.
    pub(super) fn sum(&self, turns: u32) -> u32 {
        let mut sum = 0_u32;
        for (row, weights) in self.weights.chunks_exact(self.columns).enumerate() {
            for (voice, vector) in self.vectors.chunks_exact(self.columns).enumerate() {
                let products =
                    weights.iter().zip(vector).map(|(&w, &x)| i32::from(w) * i32::from(x));
                let total = products.sum::<i32>() as u32;
                let place = (row * self.voices + voice) as u32;
                // The places of all turns, and 0 + 1 + 2 ...
                let all = u64::from(turns) * u64::from(turns.saturating_sub(1)) / 2;
                let places = turns.wrapping_mul(place).wrapping_add(all as u32);
                sum = sum.wrapping_add(total.wrapping_mul(places));
            }
        }
        sum
    }
}

fn unit_of(bytes: &[i8]) -> Unit {
    let word = |i: usize| u32::from_le_bytes(std::array::from_fn(|j| bytes[4 * i + j] as u8));
    std::array::from_fn(word)
}

#[cfg(test)]
mod tests {
    use super::super::super::shim::{self, Way};
    use super::*;

    #[test]
    fn every_way_gives_the_same_product() {
        for (seed, shape) in [[40, 64, 16], [16, 320, 8], [5, 128, 24]].into_iter().enumerate() {
            let product = Product::new(shape, seed as u64);
            for turns in [1, 3] {
                for way in [Way::Rows, Way::Tiles, Way::WideTiles] {
                    let found = shim::multiply(way, turns, &product.units(), seed as u64);
                    assert_eq!(found, product.sum(turns), "{way:?}, {shape:?}, {turns} turns");
                }
            }
        }
    }
}
