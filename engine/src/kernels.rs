//! Running a model sample by sample: packed weights, the state of its lanes, the choice of kernel.
//!
//! [`Packed`] is a model ready to run on this machine; [`State`] is what it remembers, one lane a
//! voice. Both are built once, and may fail then; [`Packed::step`] and [`Packed::pick`] are real-time
//! safe: they never allocate, lock or call the system, and never fail. They wait for nobody, save that
//! a step with a second thread (`helper.rs`) spins a bounded, short while for it.
//!
//! Every kernel obeys one numeric contract, so all give the same bytes (docs/model-format.md,
//! section 9): a product of a weight row and an input is four chains of fused
//! multiply-adds, one for each contiguous quarter of the input, each from +0.0, added left to
//! right; int8 has exact integer sums. `step.rs` is the network, written once for every type of
//! weights (`float.rs`, `int8.rs`) and set of instructions (`scalar.rs`, the readable truth, `avx2.rs`,
//! `avx_vnni.rs`, `avx512.rs`).

mod aligned;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
mod float;
mod helper;
mod int8;
mod kernel;
mod loaded;
mod matrix;
mod memory;
mod packed;
#[doc(hidden)]
pub mod parts;
pub mod roof;
mod scalar;
mod simd;
mod step;
mod takeover;
mod work;

use crate::config::{Config, Dtype};
use crate::error::{Error, Result};
use crate::sampling::{Sampling, pick};
use crate::weights::Weights;
use float::{AsBf16, AsF32, FloatMatrix};
use int8::Int8Matrix;
use kernel::Kernel;
use loaded::Loaded;
use memory::Memory;
use simd::{Simd, Task};
use step::Heard;
pub(crate) use takeover::SilentRows;
pub use work::Work;

/// Which instructions a caller asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isa {
    /// The fastest that this machine has.
    #[default]
    Auto,
    /// The scalar kernel.
    Scalar,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512.
    Avx512,
}

/// A model packed for one kernel, with everything constant computed ahead.
#[derive(Debug)]
pub struct Packed {
    config: Config,
    /// Shape: `[classes][class_channels]`.
    class_embedding: Vec<f32>,
    kernel: Kernel,
    model: Model,
}

/// By the type of the weights.
#[derive(Debug)]
enum Model {
    F32(Box<Loaded<FloatMatrix<AsF32>>>),
    Bf16(Box<Loaded<FloatMatrix<AsBf16>>>),
    Int8(Box<Loaded<Int8Matrix>>),
}

/// What the lanes of one [`Packed`] remember; of no use with another one.
#[derive(Debug)]
pub struct State {
    past: Past,
}

#[derive(Debug)]
enum Past {
    Float(Memory<f32>),
    Int8(Memory<u8>),
}

impl Packed {
    /// Packs a model for this machine.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for an instruction set that this machine lacks.
    pub fn new(weights: &Weights, dtype: Dtype, isa: Isa) -> Result<Self> {
        let kernel = Kernel::choose(isa)?;
        // Tables are computed here, on a thread whose float mode is somebody else's.
        let before = swap_float_mode(DEFAULT_FLOAT_MODE);
        let packed = Self::with_kernel(weights, dtype, kernel);
        swap_float_mode(before);
        Ok(packed)
    }

    fn with_kernel(weights: &Weights, dtype: Dtype, kernel: Kernel) -> Self {
        let class_embedding = weights.layout().class_embedding.as_ref();
        Self {
            config: weights.config().clone(),
            class_embedding: class_embedding
                .map_or_else(Vec::new, |range| weights.get(range).to_vec()),
            kernel,
            model: match dtype {
                Dtype::F32 => Model::F32(Box::new(Loaded::new(kernel, weights))),
                Dtype::Bf16 => Model::Bf16(Box::new(Loaded::new(kernel, weights))),
                Dtype::Int8 => Model::Int8(Box::new(Loaded::new(kernel, weights))),
            },
        }
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether a fused multiply-add is one instruction here; where not, the result is the same and
    /// some 30 times slower.
    pub fn has_fast_fma(&self) -> bool {
        self.kernel != Kernel::Portable
            || cfg!(any(target_arch = "aarch64", target_feature = "fma"))
    }

    /// The head of a class's conditioning vector. Shape: `[config.class_width()]`.
    pub fn class_embedding(&self, class: usize) -> &[f32] {
        let width = self.config.class_width();
        let start = class.min(self.config.classes.len().saturating_sub(1)) * width;
        &self.class_embedding[start..start + width]
    }

    /// One sample for each of `lanes` (distinct, each below the state's number of lanes).
    ///
    /// `codes[i]` is the sample that lane `lanes[i]` made last; `conditioning` has shape
    /// `[lanes][H]`; the logits of the next code go to `logits`, shape `[lanes][levels]`.
    /// Real-time safe.
    pub fn step(
        &self,
        state: &mut State,
        lanes: &[usize],
        codes: &[u8],
        conditioning: &[f32],
        logits: &mut [f32],
    ) {
        let (heard, kernel) = (Heard { lanes, codes, conditioning }, self.kernel);
        match (&self.model, &mut state.past) {
            (Model::F32(model), Past::Float(past)) => model.step(kernel, past, heard, logits),
            (Model::Bf16(model), Past::Float(past)) => model.step(kernel, past, heard, logits),
            (Model::Int8(model), Past::Int8(past)) => model.step(kernel, past, heard, logits),
            _ => debug_assert!(false, "the state of another model"),
        }
    }

    /// Chooses a code as [`pick`] does, with this kernel's instructions. Real-time safe.
    pub fn pick(&self, logits: &[f32], sampling: Sampling, draw: u32) -> u8 {
        self.kernel.run(Pick { logits, sampling, draw })
    }
}

struct Pick<'a> {
    logits: &'a [f32],
    sampling: Sampling,
    draw: u32,
}

impl Task for Pick<'_> {
    type Output = u8;

    #[inline(always)]
    fn run<S: Simd>(self) -> u8 {
        pick(self.logits, self.sampling, self.draw)
    }
}

impl State {
    /// Memory for `lanes` voices, each in the state of endless silence.
    pub fn new(packed: &Packed, lanes: usize) -> Self {
        let past = match &packed.model {
            Model::F32(model) => Past::Float(model.memory(lanes)),
            Model::Bf16(model) => Past::Float(model.memory(lanes)),
            Model::Int8(model) => Past::Int8(model.memory(lanes)),
        };
        Self { past }
    }

    /// Puts a lane back to the state of endless silence. Real-time safe.
    pub fn reset(&mut self, packed: &Packed, lane: usize) {
        match (&packed.model, &mut self.past) {
            (Model::F32(model), Past::Float(past)) => model.reset(past, lane),
            (Model::Bf16(model), Past::Float(past)) => model.reset(past, lane),
            (Model::Int8(model), Past::Int8(past)) => model.reset(past, lane),
            _ => debug_assert!(false, "the state of another model"),
        }
    }

    /// Gives these lanes a second thread, of their own, that computes the skips while the step goes
    /// on with the next layers; the bytes stay the same. It pays for large models on a machine with
    /// an idle core: the thread spins while steps come, and naps when none do. It ends with the state.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the system has no thread to give.
    pub fn start_helper(&mut self, packed: &Packed) -> Result<()> {
        let kernel = packed.kernel;
        let started = match (&packed.model, &mut self.past) {
            (Model::F32(model), Past::Float(past)) => model.start_helper(kernel, past),
            (Model::Bf16(model), Past::Float(past)) => model.start_helper(kernel, past),
            (Model::Int8(model), Past::Int8(past)) => model.start_helper(kernel, past),
            _ => {
                debug_assert!(false, "the state of another model");
                Ok(())
            }
        };
        started.map_err(|error| Error::Device(format!("no second thread ({error}); use one")))
    }

    /// Number of lanes.
    pub fn lanes(&self) -> usize {
        match &self.past {
            Past::Float(past) => past.queues.lanes(),
            Past::Int8(past) => past.queues.lanes(),
        }
    }
}

/// Sets this thread to the numeric contract's arithmetic: round to nearest even, denormals kept,
/// nothing trapped.
pub(crate) fn set_float_mode() {
    swap_float_mode(DEFAULT_FLOAT_MODE);
}

/// The control register's state after reset: MXCSR of x86-64, FPCR of aarch64.
const DEFAULT_FLOAT_MODE: u64 = if cfg!(target_arch = "x86_64") { 0x1f80 } else { 0 };

/// Sets this thread's float mode, and returns the one before.
fn swap_float_mode(mode: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        let (mode, mut before) = (mode as u32, 0_u32);
        // SAFETY: `mode` is MXCSR's state after reset, or one that it had; no Rust code relies on
        // another one.
        unsafe {
            std::arch::asm!(
                "stmxcsr [{}]",
                "ldmxcsr [{}]",
                in(reg) &raw mut before,
                in(reg) &raw const mode,
                options(nostack)
            );
        }
        u64::from(before)
    }
    #[cfg(target_arch = "aarch64")]
    {
        let before: u64;
        // SAFETY: `mode` is FPCR's state after reset, or one that it had; no Rust code relies on
        // another one.
        unsafe {
            std::arch::asm!(
                "mrs {}, fpcr",
                "msr fpcr, {}",
                out(reg) before,
                in(reg) mode,
                options(nostack, nomem)
            );
        }
        before
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    mode
}

#[cfg(test)]
pub(crate) mod tests;
