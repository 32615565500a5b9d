//! What a step asks of the machine: the bytes of weights that it reads and the multiply-adds that it
//! makes, counted on the packed model, padding and all.
//!
//! The count is taken by a set of instructions that does nothing else: every product is run on
//! [`Tally`], once for one row of inputs, where it meets each of its weights once. Activations, tables
//! and queues are not products, and not counted.

use std::cell::Cell;

use super::loaded::Loaded;
use super::matrix::{Matrix, Product, Rows};
use super::simd::{BLOCK, Dots, Floats, Simd, Task};
use super::{Model, Packed};

/// Steps over which the work is averaged: a multiple of all numbers of samples computed ahead.
const STEPS: usize = 64;

/// The products of one step of a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes of all weights that products use.
    pub weight_bytes: u64,
    /// Bytes of weights that a step reads, however many voices share them, on average: those of past
    /// taps serve several samples once they are read.
    pub bytes_per_step: u64,
    /// Multiply-adds of a step, of one voice.
    pub multiply_adds_per_voice: u64,
}

impl Packed {
    /// Counts the products of a step whose voices are all at the same time. Allocates.
    pub fn work(&self) -> Work {
        match &self.model {
            Model::F32(model) => Work::of(model),
            Model::Bf16(model) => Work::of(model),
            Model::Int8(model) => Work::of(model),
        }
    }
}

impl Work {
    fn of<M: Matrix>(model: &Loaded<M>) -> Self {
        let weights = &model.weights;
        let mut work = Self::default();
        for (index, layer) in weights.layers.iter().enumerate() {
            let past_taps = layer.taps.len().saturating_sub(1);
            for (tap, matrix) in layer.taps.iter().enumerate() {
                let is_due = |time: &usize| model.ahead_shape.due(index, *time) > 0;
                let passes =
                    if tap < past_taps { (0..STEPS).filter(is_due).count() } else { STEPS };
                work.add(matrix, passes);
            }
            let residual = layer.residual.as_ref().map(|residual| &residual.matrix);
            for matrix in layer.conditioning.iter().chain(residual) {
                work.add(matrix, STEPS);
            }
        }
        let head = [&weights.skip, &weights.end1, &weights.end2].map(|affine| &affine.matrix);
        for matrix in head {
            work.add(matrix, STEPS);
        }
        work
    }

    /// Adds a matrix whose weights are read in so many of [`STEPS`] steps.
    fn add<M: Matrix>(&mut self, matrix: &M, passes: usize) {
        let tally = tally(matrix);
        self.weight_bytes += tally.bytes;
        // Exact: all matrices have whole blocks of 16 rows.
        self.bytes_per_step += tally.bytes * passes as u64 / STEPS as u64;
        self.multiply_adds_per_voice += tally.multiply_adds;
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    bytes: u64,
    multiply_adds: u64,
}

thread_local! {
    static COUNT: Cell<Count> = const { Cell::new(Count { bytes: 0, multiply_adds: 0 }) };
}

fn count(bytes: usize, multiply_adds: usize) {
    let mut count = COUNT.get();
    count.bytes += bytes as u64;
    count.multiply_adds += multiply_adds as u64;
    COUNT.set(count);
}

/// One product of one row of inputs.
fn tally<M: Matrix>(matrix: &M) -> Count {
    COUNT.take();
    let product = Product {
        matrix,
        inputs: Rows { memory: &vec![M::Value::default(); matrix.reach()], starts: &[0] },
        init: None,
        out: &mut vec![0.0; matrix.rows()],
        out_starts: &[0],
    };
    product.run::<Tally>();
    COUNT.take()
}

/// Instructions that count.
struct Tally;

impl Simd for Tally {
    type Floats = Sixteen;
    type Dots = Quads;
    const FLOAT_ROWS: usize = 1;
    const INT8_ROWS: usize = 1;

    fn float_tile(_: usize) -> usize {
        1
    }

    fn int8_tile(_: usize) -> usize {
        1
    }
}

// SAFETY (of every function below): no pointer is followed.

/// Sixteen floats, of which only the bytes that they were stored in are known.
#[derive(Debug, Clone, Copy)]
struct Sixteen {
    bytes: usize,
}

impl Floats for Sixteen {
    const LANES: usize = BLOCK;

    fn zero() -> Self {
        Self { bytes: 0 }
    }

    fn splat(_: f32) -> Self {
        Self { bytes: 0 }
    }

    unsafe fn load(_: *const f32) -> Self {
        Self { bytes: BLOCK * size_of::<f32>() }
    }

    unsafe fn load_bf16(_: *const u32) -> [Self; 2] {
        [Self { bytes: BLOCK * size_of::<u16>() }; 2]
    }

    unsafe fn store(self, _: *mut f32) {}

    /// What is multiplied with an input is weights.
    fn mul_add(self, _: Self, _: Self) -> Self {
        count(self.bytes, BLOCK);
        Self { bytes: 0 }
    }

    fn plus(self, _: Self) -> Self {
        Self { bytes: 0 }
    }
}

/// Sixteen sums of four products each.
#[derive(Debug, Clone, Copy)]
struct Quads;

impl Dots for Quads {
    type Inputs = ();

    fn zero() -> Self {
        Self
    }

    unsafe fn load_inputs(_: *const u8) {}

    unsafe fn add_products<const N: usize>(_: &mut [Self; N], _: *const i8, _: &[(); N]) {
        count(4 * BLOCK, 4 * BLOCK * N);
    }

    /// Each row has a correction and a scale.
    unsafe fn finish(self, _: *const i32, _: *const f32, _: f32, _: *const f32, _: *mut f32) {
        count(BLOCK * (size_of::<i32>() + size_of::<f32>()), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Dtype};
    use crate::kernels::kernel::Kernel;
    use crate::weights::Weights;

    /// Sums of rows x inputs and of rows, over matrices each read in some of eight steps.
    fn by_hand(matrices: &[(u64, u64, u64)]) -> [u64; 4] {
        matrices.iter().fold([0; 4], |[weights, rows, read, rows_read], &(r, i, passes)| {
            let (of_eight, rows_of_eight) = (r * i * passes / 8, r * passes / 8);
            [weights + r * i, rows + r, read + of_eight, rows_read + rows_of_eight]
        })
    }

    #[test]
    fn work_is_what_a_hand_counts() {
        // R = 20, G = 20, S = 40, A = 24, two classes of width 4; rows are padded to 16, inputs to 4
        // (int8 skips: each layer's 20 to 32). Layer 0 has tables.
        let config = Config {
            levels: 64,
            residual_channels: 20,
            gate_channels: 20,
            skip_channels: 40,
            end_channels: 24,
            dilations: vec![1, 2, 16],
            classes: vec!["a".into(), "b".into()],
            class_channels: 4,
            ..Config::default()
        };
        let weights = Weights::random(config, 1).unwrap();
        let layers = [
            // Past taps of dilation 2 serve 2 samples, of dilation 16 eight.
            (64, 20, 4),
            (64, 20, 1),
            // Present taps, conditioning, residuals.
            (64, 20, 8),
            (64, 20, 8),
            (64, 4, 8),
            (64, 4, 8),
            (64, 4, 8),
            (32, 20, 8),
            (32, 20, 8),
        ];
        let head = [(32, 40, 8), (64, 24, 8)];
        let float = by_hand(&[&layers[..], &head, &[(48, 3 * 20, 8)]].concat());
        let int8 = by_hand(&[&layers[..], &head, &[(48, 32 + 32 + 20, 8)]].concat());
        for kernel in Kernel::all() {
            let work = |dtype| Packed::with_kernel(&weights, dtype, kernel).work();
            for (dtype, size) in [(Dtype::F32, 4), (Dtype::Bf16, 2)] {
                let expected = Work {
                    weight_bytes: size * float[0],
                    bytes_per_step: size * float[2],
                    multiply_adds_per_voice: float[0],
                };
                assert_eq!(work(dtype), expected, "{dtype}");
            }
            let expected = Work {
                weight_bytes: int8[0] + 8 * int8[1],
                bytes_per_step: int8[2] + 8 * int8[3],
                multiply_adds_per_voice: int8[0],
            };
            assert_eq!(work(Dtype::Int8), expected);
        }
    }
}
