//! Rounding to 8 bits with care: a weight's error is made good by the weights that are still to be
//! rounded.
//!
//! Rounding each weight to its nearest changes a product by `sum of e_i x_i`. What counts is how large
//! that is for the inputs x that really come, and those of the last product go together: few hidden
//! units are active, and the same ones. GPTQ (Frantar, Ashkboos, Hoefler, Alistarh 2022, algorithm 1)
//! knows them by `H = mean of x x^T`. It rounds a row's weights one after another, and after each moves
//! those that follow by what keeps `e^T H e` lowest; with U the upper Cholesky factor of `H^-1`:
//!
//! ```text
//! e = (w_i - rounded w_i) / U_ii        w_j -= e U_ij   for all j > i
//! ```
//!
//! The scales stay what rounding to nearest would take, so the player's rule finds them again.

use anyhow::{Context, Result, ensure};
use nalgebra::{Cholesky, DMatrix};
use wavenet_engine::Weights;
use wavenet_engine::rounding::row_scale;

use crate::material::Material;
use crate::network::{Network, Segment};
use crate::prepared::Split;

/// Samples heard: enough for a matrix of 256 x 256.
const SAMPLES: u64 = 100_000;
/// Share of H's mean diagonal that is added to it, so that units which were never active do no harm.
const DAMPING: f64 = 0.005;

/// Rounds the last product, where 8 bits cost most, to what int8 can hold, by how its inputs behave
/// over some recordings. Returns how many samples were heard.
///
/// # Errors
/// One line: nothing to hear, or the disk failed.
pub fn round_last_product(weights: &mut Weights, material: &Material) -> Result<u64> {
    let stretches = material.cover(Some(Split::Train), Network::HEARD_AT_ONCE, SAMPLES);
    ensure!(!stretches.is_empty(), "there is nothing to hear: --data has no training part");
    let fill = |index: usize, segment: &mut Segment| material.fill(stretches[index], segment);
    let inputs = weights.config().end_channels;
    let mut network = Network::new(weights.config(), 1);
    let (products, samples) = network.hidden_products(weights, stretches.len(), &fill)?;
    let matrix = weights.layout().end2.weight.clone();
    round_rows(&mut weights.values_mut()[matrix], inputs, &products)?;
    Ok(samples)
}

/// Rounds the rows of a matrix `[rows, inputs]`, given the sum of `x x^T` over some inputs x.
fn round_rows(matrix: &mut [f32], inputs: usize, products: &[f64]) -> Result<()> {
    let diagonal: Vec<f64> = products.iter().step_by(inputs + 1).copied().collect();
    // The busiest inputs first, while many others are left to make good.
    let mut order: Vec<usize> = (0..inputs).collect();
    order.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
    let damping = DAMPING * diagonal.iter().sum::<f64>() / inputs as f64 + f64::MIN_POSITIVE;
    let at = |row: usize, column: usize| {
        products[order[row] * inputs + order[column]] + if row == column { damping } else { 0.0 }
    };
    let factor = Cholesky::new(DMatrix::from_fn(inputs, inputs, at))
        .and_then(|cholesky| Cholesky::new(cholesky.inverse()))
        .context("the hidden units cannot be told apart: export without --data")?
        .l();
    for row in matrix.chunks_exact_mut(inputs) {
        round_row(row, &order, &factor);
    }
    Ok(())
}

/// Rounds one row. Column i of `factor` is row i of U.
fn round_row(row: &mut [f32], order: &[usize], factor: &DMatrix<f64>) {
    let (widest, largest) = row.iter().enumerate().fold((0, 0.0_f32), |most, (index, weight)| {
        if weight.abs() > most.1 { (index, weight.abs()) } else { most }
    });
    let scale = f64::from(row_scale(largest));
    if scale <= 0.0 {
        return;
    }
    let mut wanted: Vec<f64> = order.iter().map(|&column| f64::from(row[column])).collect();
    for (index, &column) in order.iter().enumerate() {
        let multiple = if column == widest {
            // It decides the scale.
            127.0_f64.copysign(f64::from(row[column]))
        } else {
            (wanted[index] / scale).round_ties_even().clamp(-127.0, 127.0)
        };
        let rounded = multiple * scale;
        row[column] = rounded as f32;
        let error = (wanted[index] - rounded) / factor[(index, index)];
        for (later, wanted) in wanted.iter_mut().enumerate().skip(index + 1) {
            *wanted -= error * factor[(later, index)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wavenet_engine::Philox;

    const INPUTS: usize = 24;

    /// Inputs as a relu leaves them, of only four causes.
    fn inputs(count: usize) -> Vec<[f64; INPUTS]> {
        let draws = Philox::new(5, 0);
        let mut at = 0;
        let mut draw = || {
            at += 1;
            f64::from(draws.uniform(at)) - 0.5
        };
        let causes: Vec<[f64; 4]> = (0..INPUTS).map(|_| std::array::from_fn(|_| draw())).collect();
        let one = |_| {
            let strengths: [f64; 4] = std::array::from_fn(|_| draw());
            let sum = |unit: usize| -> f64 {
                causes[unit].iter().zip(&strengths).map(|(cause, strength)| cause * strength).sum()
            };
            std::array::from_fn(|unit| sum(unit).max(0.0))
        };
        (0..count).map(one).collect()
    }

    fn error(row: &[f32], wide: &[f32], inputs: &[[f64; INPUTS]]) -> f64 {
        let of = |x: &[f64; INPUTS]| -> f64 {
            row.iter().zip(wide).zip(x).map(|((a, b), x)| f64::from(a - b) * x).sum()
        };
        (inputs.iter().map(|x| of(x) * of(x)).sum::<f64>() / inputs.len() as f64).sqrt()
    }

    #[test]
    fn products_keep_nearer_than_by_rounding_to_nearest() {
        let inputs = inputs(2000);
        let mut products = vec![0.0; INPUTS * INPUTS];
        for x in &inputs {
            for (index, sum) in products.iter_mut().enumerate() {
                *sum += x[index / INPUTS] * x[index % INPUTS];
            }
        }
        let draws = Philox::new(6, 0);
        let rows = 40;
        let wide: Vec<f32> =
            (0..rows * INPUTS).map(|index| draws.uniform(index as u64) - 0.5).collect();
        let mut careful = wide.clone();
        round_rows(&mut careful, INPUTS, &products).unwrap();
        let (mut by_care, mut by_nearest) = (0.0, 0.0);
        for (careful, wide) in careful.chunks(INPUTS).zip(wide.chunks(INPUTS)) {
            let scale = row_scale(wide.iter().fold(0.0, |max, w| max.max(w.abs())));
            // The player finds the same scale, and whole multiples of it.
            assert_eq!(row_scale(careful.iter().fold(0.0, |max, w| max.max(w.abs()))), scale);
            assert!(careful.iter().all(|w| (w / scale).fract() == 0.0));
            let nearest: Vec<f32> =
                wide.iter().map(|w| (w / scale).round_ties_even() * scale).collect();
            by_care += error(careful, wide, &inputs);
            by_nearest += error(&nearest, wide, &inputs);
        }
        assert!(by_care < 0.6 * by_nearest, "{by_care} against {by_nearest}");
    }

    #[test]
    fn units_that_were_never_active_are_rounded_to_nearest() {
        let wide = [1.0_f32, 0.301, -0.7, 0.0];
        let mut row = wide;
        round_rows(&mut row, 4, &[0.0; 16]).unwrap();
        assert!(row.iter().zip(&wide).all(|(a, b)| (a - b).abs() <= 0.5 / 126.9));
        let mut zeros = [0.0_f32; 4];
        round_rows(&mut zeros, 4, &[0.0; 16]).unwrap();
        assert_eq!(zeros, [0.0; 4]);
    }
}
