//! What this core can do at most, by loops of nothing else: the roofs that a step is held against.
//!
//! The roofline model (Williams, Waterman and Patterson 2009): a step that reads B bytes of weights
//! and makes P multiply-adds takes at least `max(B / bandwidth, P / peak rate)` seconds. How many it
//! reads and makes, `work.rs` counts; here are the bandwidth and the rate, each by a loop over the
//! same `Simd` traits that the products are written in, so compiled for the same instructions.
//! A call does a fixed amount of work and tells how much; [`best_rate`] holds the clock.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::Packed;
use super::aligned::Aligned;
use super::kernel::Kernel;
use super::simd::{BLOCK, Dots, Floats, Simd, Task};
use crate::config::Dtype;

/// The most sums that a loop keeps in registers.
const MOST_SUMS: usize = 16;
/// Multiply-adds of each sum in one call.
const ROUNDS: usize = 4096;
/// Blocks of int8 weights: 4 KiB, which no first cache is too small for.
const DOT_BLOCKS: usize = 64;
/// Inputs that one row of weights meets at once.
const INPUTS: usize = 4;

/// Loops for the instructions that a model was packed for.
#[derive(Debug)]
pub struct Roof {
    kernel: Kernel,
    buffer: Aligned<f32>,
    weights: Aligned<i8>,
    inputs: Aligned<u8>,
}

impl Roof {
    /// Loops for the kernel of `packed`, with a buffer of `bytes` (rounded up to whole KiB) to read.
    /// Allocates, and touches all of it.
    pub fn new(packed: &Packed, bytes: usize) -> Self {
        let per_pass = MOST_SUMS * BLOCK;
        let len = bytes.div_ceil(size_of::<f32>()).max(1).next_multiple_of(per_pass);
        let mut buffer = Aligned::zeros(len);
        buffer.fill(1.0);
        let mut weights = Aligned::zeros(DOT_BLOCKS * BLOCK * INPUTS);
        weights.fill(1);
        let mut inputs = Aligned::zeros(MOST_SUMS * INPUTS);
        inputs.fill(1);
        Self { kernel: packed.kernel, buffer, weights, inputs }
    }

    /// Reads the buffer once, from one end to the other; returns its bytes. Real-time safe.
    pub fn read(&self) -> u64 {
        self.kernel.run(Read(black_box(&self.buffer)));
        size_of_val(&self.buffer[..]) as u64
    }

    /// Multiplies and adds as often as the arithmetic allows, as products of this type of weights do;
    /// returns how often. Real-time safe.
    pub fn multiply_add(&self, dtype: Dtype) -> u64 {
        match dtype {
            // bf16 is widened, then multiplied as f32.
            Dtype::F32 | Dtype::Bf16 => self.kernel.run(FloatProducts),
            Dtype::Int8 => self.kernel.run(IntegerProducts {
                weights: black_box(&self.weights),
                inputs: black_box(&self.inputs),
            }),
        }
    }
}

/// One look at a rate: long beside a look at the clock, short beside the slices of time in which
/// programs share a core.
pub const LOOK: Duration = Duration::from_micros(500);

/// How much of some work is done a second: the best of all looks within `time`.
pub fn best_rate(time: Duration, work: impl Fn() -> u64) -> f64 {
    // Fills the caches.
    work();
    let (began, mut best) = (Instant::now(), 0.0_f64);
    loop {
        let (look, mut done) = (Instant::now(), 0);
        let elapsed = loop {
            done += work();
            let elapsed = look.elapsed();
            if elapsed >= LOOK {
                break elapsed;
            }
        };
        best = best.max(done as f64 / elapsed.as_secs_f64());
        if began.elapsed() >= time {
            return best;
        }
    }
}

/// Loads every float.
struct Read<'a>(&'a [f32]);

impl Task for Read<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // As many sums as a product of one row keeps: four quarters of each vector.
        match S::float_tile(1) {
            4.. => read::<S::Floats, 16>(self.0),
            2..4 => read::<S::Floats, 8>(self.0),
            _ => read::<S::Floats, 4>(self.0),
        }
    }
}

#[inline(always)]
fn read<V: Floats, const N: usize>(buffer: &[f32]) {
    let mut sums = [V::zero(); N];
    for part in buffer.chunks_exact(N * V::LANES) {
        for (sum, values) in sums.iter_mut().zip(part.chunks_exact(V::LANES)) {
            // SAFETY: `values` has so many.
            *sum = unsafe { V::load(values.as_ptr()) }.plus(*sum);
        }
    }
    black_box(sums);
}

/// Fused multiply-adds of registers.
struct FloatProducts;

impl Task for FloatProducts {
    type Output = u64;

    #[inline(always)]
    fn run<S: Simd>(self) -> u64 {
        match S::float_tile(1) {
            4.. => float_products::<S::Floats, 16>(),
            2..4 => float_products::<S::Floats, 8>(),
            _ => float_products::<S::Floats, 4>(),
        }
    }
}

#[inline(always)]
fn float_products<V: Floats, const N: usize>() -> u64 {
    let (weight, input) = (V::splat(black_box(0.5)), V::splat(black_box(0.25)));
    // Each from another number, lest a compiler find that they are all the same.
    let mut sums: [V; N] = std::array::from_fn(|index| V::splat(black_box(index as f32)));
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = weight.mul_add(input, *sum);
        }
    }
    black_box(sums);
    (ROUNDS * N * V::LANES) as u64
}

/// Sums of products of bytes, whose weights come from the first cache, each for several inputs.
struct IntegerProducts<'a> {
    weights: &'a [i8],
    inputs: &'a [u8],
}

impl Task for IntegerProducts<'_> {
    type Output = u64;

    #[inline(always)]
    fn run<S: Simd>(self) -> u64 {
        // As many sums as a product of one row keeps.
        match S::int8_tile(1) {
            8.. => self.sums::<S::Dots, 8>(),
            4..8 => self.sums::<S::Dots, 4>(),
            2..4 => self.sums::<S::Dots, 2>(),
            _ => self.sums::<S::Dots, 1>(),
        }
    }
}

impl IntegerProducts<'_> {
    #[inline(always)]
    fn sums<D: Dots, const N: usize>(self) -> u64 {
        let (inputs, _) = self.inputs.as_chunks::<INPUTS>();
        let inputs: [D::Inputs; N] = std::array::from_fn(|index| {
            // SAFETY: there are four.
            unsafe { D::load_inputs(inputs[index].as_ptr()) }
        });
        let mut sums = [D::zero(); N];
        for _ in 0..ROUNDS / DOT_BLOCKS {
            for block in self.weights.chunks_exact(BLOCK * INPUTS) {
                // SAFETY: a block has 64 weights.
                unsafe { D::add_products(&mut sums, block.as_ptr(), &inputs) };
            }
        }
        black_box(sums);
        (ROUNDS * N * BLOCK * INPUTS) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::weights::Weights;

    #[test]
    fn every_kernel_tells_what_it_did() {
        let weights = Weights::random(Config::tiny(), 1).unwrap();
        for kernel in Kernel::all() {
            let packed = Packed::with_kernel(&weights, Dtype::F32, kernel);
            for (bytes, read) in [(0, 1024), (1, 1024), (1024, 1024), (100_000, 100_352)] {
                assert_eq!(Roof::new(&packed, bytes).read(), read);
            }
            let roof = Roof::new(&packed, 0);
            for dtype in [Dtype::F32, Dtype::Bf16, Dtype::Int8] {
                let (done, round) = (roof.multiply_add(dtype), ROUNDS as u64);
                assert!(done >= 16 * round && done.is_multiple_of(16 * round), "{done}");
            }
        }
    }
}
