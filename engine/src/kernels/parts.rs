//! Parts of a step alone, for `benches/step.rs`. No player needs them.

use super::Isa;
use super::float::{AsBf16, AsF32, FloatMatrix};
use super::int8::Int8Matrix;
use super::kernel::Kernel;
use super::matrix::{InputKind, Matrix, Product, Rows, Source, padded};
use super::simd::{Simd, Task};
use crate::config::Dtype;
use crate::error::Result;
use crate::sampling::Philox;

/// A piece of work that can be done again and again.
pub struct Part(Box<dyn FnMut()>);

impl Part {
    /// One product of a matrix `[rows, inputs]` with as many vectors as there are voices.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for an instruction set that this machine lacks.
    pub fn product(
        dtype: Dtype,
        isa: Isa,
        rows: usize,
        inputs: usize,
        voices: usize,
    ) -> Result<Self> {
        let kernel = Kernel::choose(isa)?;
        Ok(match dtype {
            Dtype::F32 => product::<FloatMatrix<AsF32>>(kernel, rows, inputs, voices),
            Dtype::Bf16 => product::<FloatMatrix<AsBf16>>(kernel, rows, inputs, voices),
            Dtype::Int8 => product::<Int8Matrix>(kernel, rows, inputs, voices),
        })
    }

    /// The activations of one layer of one voice: `tanh(filter) . sigmoid(gate)`.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for an instruction set that this machine lacks.
    pub fn gate(dtype: Dtype, isa: Isa, channels: usize) -> Result<Self> {
        let kernel = Kernel::choose(isa)?;
        Ok(match dtype {
            Dtype::F32 => gate::<FloatMatrix<AsF32>>(kernel, channels),
            Dtype::Bf16 => gate::<FloatMatrix<AsBf16>>(kernel, channels),
            Dtype::Int8 => gate::<Int8Matrix>(kernel, channels),
        })
    }

    /// Does it once.
    pub fn run(&mut self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Part")
    }
}

/// Numbers between -1 and 1.
fn numbers(count: usize) -> Vec<f32> {
    let draws = Philox::new(1, 1);
    (0..count as u64).map(|index| 2.0 * draws.uniform(index) - 1.0).collect()
}

fn product<M: Matrix + 'static>(kernel: Kernel, rows: usize, inputs: usize, voices: usize) -> Part {
    let weights = numbers(rows * inputs);
    let matrix = M::pack(kernel, &Source::stacked(&[&weights], inputs, InputKind::Any));
    let (width, out_width) = (M::width(inputs, InputKind::Any), padded(rows));
    let mut memory = vec![M::Value::default(); voices * width];
    for (row, values) in memory.chunks_exact_mut(width).zip(numbers(voices * inputs).chunks(inputs))
    {
        M::convert(values, row);
    }
    let every = |stride| (0..voices).map(|voice| voice * stride).collect::<Vec<_>>();
    let (starts, out_starts, bias_starts) = (every(width), every(out_width), every(0));
    let (bias, mut out) = (vec![0.0; out_width], vec![0.0; voices * out_width]);
    Part(Box::new(move || {
        kernel.run(Product {
            matrix: &matrix,
            inputs: Rows { memory: &memory, starts: &starts },
            init: Some(Rows { memory: &bias, starts: &bias_starts }),
            out: &mut out,
            out_starts: &out_starts,
        });
    }))
}

fn gate<M: Matrix + 'static>(kernel: Kernel, channels: usize) -> Part {
    let (filter, gate) = (numbers(padded(channels)), numbers(padded(channels)));
    let mut row = vec![M::Value::default(); M::width(channels, InputKind::Gated)];
    Part(Box::new(move || kernel.run(Gate::<M> { filter: &filter, gate: &gate, row: &mut row })))
}

struct Gate<'a, M: Matrix> {
    filter: &'a [f32],
    gate: &'a [f32],
    row: &'a mut [M::Value],
}

impl<M: Matrix> Task for Gate<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        M::gate(self.filter, self.gate, self.row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_odd_sizes_fit_their_memory() {
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::Int8] {
            Part::product(dtype, Isa::Auto, 17, 5, 3).unwrap().run();
            Part::gate(dtype, Isa::Auto, 5).unwrap().run();
        }
    }
}
