//! Running a model sample by sample: packed weights, the state of its lanes, the choice of kernel.
//!
//! [`Packed`] is a model ready to run on this machine; [`State`] is what it remembers, one lane a
//! voice. Both are built once, and may fail then; [`Packed::step`] and [`Packed::pick`] are real-time
//! safe: they never allocate, lock, wait or call the system, and never fail.
//!
//! Every kernel obeys one numeric contract, so all give the same bytes (ARCHITECTURE.md, "The
//! numeric contract"): a product of a weight row and an input is four chains of fused
//! multiply-adds, one for each contiguous quarter of the input, each from +0.0, added left to
//! right. `kernels/scalar.rs` is the readable truth; the one body is instantiated with and without
//! the machine's fused multiply-add.

mod packed;
mod scalar;

use crate::config::{Config, Dtype};
use crate::error::{Error, Result};
use crate::queue::{QueueShape, Queues};
use crate::sampling::{Sampling, pick};
use crate::weights::Weights;
use packed::PackedWeights;

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
    weights: PackedWeights,
    queue_shape: QueueShape,
    /// What each layer's queue holds after endless silence. Shape: `[layers][queue width]`.
    silence: Vec<f32>,
    kernel: Kernel,
}

/// An instantiation of the scalar body that this machine can run; held only once that was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    /// `mul_add` as the target's own instruction (aarch64), or as a slow, exact library call.
    Portable,
    /// `mul_add` as one x86 instruction, eight lanes wide.
    #[cfg(target_arch = "x86_64")]
    Fma,
}

impl Kernel {
    fn choose(isa: Isa) -> Result<Self> {
        match isa {
            Isa::Auto | Isa::Scalar => {
                #[cfg(target_arch = "x86_64")]
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    return Ok(Self::Fma);
                }
                Ok(Self::Portable)
            }
            Isa::Avx2 | Isa::Avx512 => Err(Error::Unsupported(
                "isa avx2 and avx512 have no kernel yet; use auto or scalar".into(),
            )),
        }
    }
}

/// What the lanes of one [`Packed`] remember.
#[derive(Debug)]
pub struct State {
    lanes: Vec<Queues>,
    scratch: scalar::Scratch,
}

impl Packed {
    /// Packs a model for this machine.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a weights' type or instruction set that has no kernel here.
    pub fn new(weights: &Weights, dtype: Dtype, isa: Isa) -> Result<Self> {
        if dtype != Dtype::F32 {
            return Err(Error::Unsupported(
                "dtype bf16 and int8 have no kernel yet; use f32".into(),
            ));
        }
        let kernel = Kernel::choose(isa)?;
        let config = weights.config().clone();
        let packed_weights = PackedWeights::new(weights);
        let queue_shape = QueueShape::new(&config, packed_weights.residual_width);
        let silence = vec![0.0; config.layers() * queue_shape.width];
        let mut packed = Self { config, weights: packed_weights, queue_shape, silence, kernel };
        packed.settle();
        Ok(packed)
    }

    /// Finds the state of endless silence: the code of 0.0 with an all-zero conditioning vector makes
    /// every layer's input constant, so stepping once a layer (each time with the pasts found so far)
    /// reaches the fixed point, to the bit the one that a receptive field of samples would reach.
    fn settle(&mut self) {
        let mut state = State::new(self, 1);
        let silence = crate::mulaw::MuLaw::new(self.config.levels).silence();
        let conditioning = vec![0.0; self.config.conditioning_channels()];
        let mut logits = vec![0.0; self.config.levels];
        for layer in 0..self.config.layers() {
            state.reset(self, 0);
            self.step(&mut state, &[0], &[silence], &conditioning, &mut logits);
            let width = self.queue_shape.width;
            // The row just pushed is the newest: one sample back is time 0.
            let newest = state.lanes[0].newest(&self.queue_shape, layer);
            self.silence[layer * width..(layer + 1) * width].copy_from_slice(newest);
        }
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether a fused multiply-add is one instruction here; where not, the result is the same and
    /// some 30 times slower.
    pub fn has_fast_fma(&self) -> bool {
        match self.kernel {
            Kernel::Portable => cfg!(any(target_arch = "aarch64", target_feature = "fma")),
            #[cfg(target_arch = "x86_64")]
            Kernel::Fma => true,
        }
    }

    /// The head of a class's conditioning vector. Shape: `[config.class_width()]`.
    pub fn class_embedding(&self, class: usize) -> &[f32] {
        let width = self.config.class_width();
        let start = class.min(self.config.classes.len().saturating_sub(1)) * width;
        &self.weights.class_embedding[start..start + width]
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
        let (h, levels) = (self.config.conditioning_channels(), self.config.levels);
        for (index, (&lane, &code)) in lanes.iter().zip(codes).enumerate() {
            let conditioning = &conditioning[index * h..(index + 1) * h];
            let logits = &mut logits[index * levels..(index + 1) * levels];
            let queues = &mut state.lanes[lane];
            let scratch = &mut state.scratch;
            match self.kernel {
                Kernel::Portable => scalar::step(
                    &self.weights,
                    &self.queue_shape,
                    queues,
                    scratch,
                    code,
                    conditioning,
                    logits,
                ),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `Kernel::choose` gives `Fma` only where AVX2 and FMA were detected.
                Kernel::Fma => unsafe {
                    step_fma(
                        &self.weights,
                        &self.queue_shape,
                        queues,
                        scratch,
                        code,
                        conditioning,
                        logits,
                    );
                },
            }
        }
    }

    /// Chooses a code as [`pick`] does, with this kernel's instructions. Real-time safe.
    pub fn pick(&self, logits: &[f32], sampling: Sampling, draw: u32) -> u8 {
        match self.kernel {
            Kernel::Portable => pick(logits, sampling, draw),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Kernel::choose` gives `Fma` only where AVX2 and FMA were detected.
            Kernel::Fma => unsafe { pick_fma(logits, sampling, draw) },
        }
    }
}

/// Sets this thread to the numeric contract's arithmetic: round to nearest even, denormals kept,
/// nothing trapped.
pub(crate) fn set_float_mode() {
    #[cfg(target_arch = "x86_64")]
    {
        const DEFAULT_MXCSR: u32 = 0x1f80;
        // SAFETY: MXCSR takes this value, its state after reset, on every x86-64; no Rust code relies
        // on another one.
        unsafe {
            std::arch::asm!("ldmxcsr [{}]", in(reg) &DEFAULT_MXCSR, options(nostack, readonly))
        }
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: FPCR = 0 is its state after reset; no Rust code relies on another one.
    unsafe {
        std::arch::asm!("msr fpcr, {}", in(reg) 0_u64, options(nostack, nomem))
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn step_fma(
    weights: &PackedWeights,
    shape: &QueueShape,
    queues: &mut Queues,
    scratch: &mut scalar::Scratch,
    code: u8,
    conditioning: &[f32],
    logits: &mut [f32],
) {
    scalar::step(weights, shape, queues, scratch, code, conditioning, logits);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn pick_fma(logits: &[f32], sampling: Sampling, draw: u32) -> u8 {
    pick(logits, sampling, draw)
}

impl State {
    /// Memory for `lanes` voices, each in the state of endless silence.
    pub fn new(packed: &Packed, lanes: usize) -> Self {
        let mut state = Self {
            lanes: vec![Queues::new(&packed.queue_shape); lanes],
            scratch: scalar::Scratch::new(&packed.weights),
        };
        for lane in 0..lanes {
            state.reset(packed, lane);
        }
        state
    }

    /// Puts a lane back to the state of endless silence. Real-time safe.
    pub fn reset(&mut self, packed: &Packed, lane: usize) {
        self.lanes[lane].fill(&packed.queue_shape, &packed.silence);
    }

    /// Number of lanes.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits of some steps on random inputs, as bits.
    fn logits(packed: &Packed) -> Vec<u32> {
        let config = packed.config();
        let mut state = State::new(packed, 2);
        let mut out = Vec::new();
        let mut logits = vec![0.0; 2 * config.levels];
        for step in 0..40_u8 {
            let codes = [step.wrapping_mul(37), step.wrapping_mul(91)];
            let h = vec![f32::from(step) * 0.05 - 1.0; 2 * config.conditioning_channels()];
            packed.step(&mut state, &[0, 1], &codes, &h, &mut logits);
            out.extend(logits.iter().map(|logit| logit.to_bits()));
        }
        out
    }

    #[test]
    fn every_instantiation_gives_the_same_bytes() {
        let config = Config {
            residual_channels: 20,
            gate_channels: 12,
            skip_channels: 33,
            end_channels: 18,
            kernel_size: 3,
            dilations: vec![1, 2, 5],
            classes: vec!["a".into()],
            ..Config::default()
        };
        let weights = Weights::random(config, 8).unwrap();
        let mut packed = Packed::new(&weights, Dtype::F32, Isa::Scalar).unwrap();
        let expected = logits(&packed);
        packed.kernel = Kernel::Portable;
        assert_eq!(logits(&packed), expected);
        let draws = crate::sampling::Philox::new(1, 2);
        let row: Vec<f32> =
            expected[..256].iter().map(|&bits| f32::from_bits(bits) * 9.0).collect();
        let sampling = Sampling { temperature: 0.8, top_p: 0.9 };
        let picks = |packed: &Packed| -> Vec<u8> {
            (0..500).map(|n| packed.pick(&row, sampling, draws.draw(n))).collect()
        };
        let portable = picks(&packed);
        packed.kernel = Kernel::choose(Isa::Auto).unwrap();
        assert_eq!(picks(&packed), portable);
    }

    #[test]
    fn what_scratch_buffers_held_changes_nothing() {
        let weights = Weights::random(Config::default(), 8).unwrap();
        let packed = Packed::new(&weights, Dtype::F32, Isa::Auto).unwrap();
        let mut logits = [vec![0.0; 256], vec![0.0; 256]];
        for (poison, logits) in [0.0, f32::NAN].into_iter().zip(&mut logits) {
            let mut state = State::new(&packed, 1);
            state.scratch.poison(poison);
            packed.step(&mut state, &[0], &[17], &[], logits);
        }
        assert_eq!(logits[0], logits[1]);
    }
}
