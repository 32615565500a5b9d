//! The shapes that kernels are compiled for.

use crate::config::Config;

/// Codes of the kernels that are compiled for a shape.
pub(super) const LEVELS: usize = 256;

/// The channels of a model that such a kernel knows: of the residual stream and the gated units, of the skips, and of
/// the layer before the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Channels {
    pub(super) residual: usize,
    pub(super) skip: usize,
    pub(super) end: usize,
}

impl Channels {
    pub(super) const fn new(residual: usize, skip: usize, end: usize) -> Self {
        Self { residual, skip, end }
    }

    /// Whether they, and the number of codes, are a model's.
    pub(super) fn are_of(self, config: &Config) -> bool {
        let Self { residual, skip, end } = self;
        config.levels == LEVELS
            && (config.residual_channels, config.gate_channels) == (residual, residual)
            && (config.skip_channels, config.end_channels) == (skip, end)
    }
}

impl std::fmt::Display for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.residual, self.skip, self.end)
    }
}

/// A shape that the batch kernel is compiled for: `batch/batch.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchShape(pub(super) Channels);

/// Those that there are: `SHAPES` in `tests/peers/nvrtc.py` has the same.
pub(super) const BATCH_SHAPES: [BatchShape; 3] = [
    BatchShape(Channels::new(32, 64, 128)),
    BatchShape(Channels::new(64, 256, 256)),
    BatchShape(Channels::new(128, 256, 256)),
];

impl BatchShape {
    /// Which of [`BATCH_SHAPES`] a model has.
    pub(super) fn of(config: &Config) -> Option<usize> {
        BATCH_SHAPES.iter().position(|shape| shape.0.are_of(config))
    }

    /// Threads of a block: a warp for 8 units.
    pub(super) fn threads(self) -> u32 {
        self.0.residual as u32 * 4
    }

    /// Blocks that a multiprocessor has registers for: `BLOCKS` in `batch/batch.cuh`.
    pub(super) fn side_by_side(self) -> u32 {
        if self.threads() < 256 { 3 } else { 512 / self.threads() }
    }
}

/// Which kernels are compiled for a model's shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfShape {
    /// One of [`SHAPES`](super::single::SHAPES).
    pub(super) single: Option<usize>,
    /// One of [`BATCH_SHAPES`].
    pub(super) batch: Option<usize>,
    /// One of [`SHAPES`](super::pipeline_int8::SHAPES).
    pub(super) pipeline_int8: Option<usize>,
    /// One of [`SHAPES`](super::pipeline_bf16::SHAPES): then nothing else plays.
    pub(super) pipeline_bf16: Option<usize>,
}

impl OfShape {
    /// Nothing is: the text for any shape plays.
    pub(super) const GENERAL: Self =
        Self { single: None, batch: None, pipeline_int8: None, pipeline_bf16: None };
}
