//! A packed model with its shapes and its start state: what the public types wrap, for each type of
//! weights.

use super::helper::Helper;
use super::kernel::Kernel;
use super::matrix::{InputKind, Matrix, Product, Rows};
use super::memory::{AheadShape, Memory, Silence};
use super::packed::PackedWeights;
use super::step::{Heard, Model, step};
use crate::mulaw::MuLaw;
use crate::queue::QueueShape;
use crate::weights::Weights;

/// Everything about a model that does not change.
#[derive(Debug)]
pub(super) struct Loaded<M: Matrix> {
    pub(super) weights: PackedWeights<M>,
    queue_shape: QueueShape,
    pub(super) ahead_shape: AheadShape,
    pub(super) silence: Silence<M::Value>,
}

impl<M: Matrix> Loaded<M> {
    pub(super) fn new(kernel: Kernel, weights: &Weights) -> Self {
        let config = weights.config();
        let packed = PackedWeights::<M>::new(kernel, weights);
        let queue_shape =
            QueueShape::new(config, M::width(config.residual_channels, InputKind::Any));
        let silence = Silence {
            code: MuLaw::new(config.levels).silence(),
            rows: vec![M::Value::default(); config.layers() * queue_shape.width],
            ahead: vec![0.0; config.layers() * packed.sums_width],
        };
        let ahead_shape = AheadShape::new(config, packed.sums_width);
        let mut loaded = Self { weights: packed, queue_shape, ahead_shape, silence };
        loaded.settle(kernel, config.conditioning_channels());
        loaded
    }

    /// Finds the state of endless silence: the code of 0.0 with an all-zero conditioning vector makes
    /// every layer's input constant, so stepping once a layer (each time with the pasts found so far)
    /// reaches the fixed point, to the bit the one that a receptive field of samples would reach.
    fn settle(&mut self, kernel: Kernel, conditioning_channels: usize) {
        let mut memory = self.memory(1);
        let conditioning = vec![0.0; conditioning_channels];
        let mut logits = vec![0.0; self.weights.levels];
        for layer in 1..self.weights.layers.len() {
            self.reset(&mut memory, 0);
            let codes = [self.silence.code];
            let heard = Heard { lanes: &[0], codes: &codes, conditioning: &conditioning };
            self.step(kernel, &mut memory, heard, &mut logits);
            let width = self.queue_shape.width;
            let start = memory.queues.row_before(&self.queue_shape, layer, 0);
            let row = &memory.queues.memory()[start..start + width];
            self.silence.rows[layer * width..(layer + 1) * width].copy_from_slice(row);

            let part = &self.weights.layers[layer];
            let width = self.weights.sums_width;
            let sums = &mut self.silence.ahead[layer * width..(layer + 1) * width];
            sums.copy_from_slice(&part.bias);
            for matrix in &part.taps[..part.taps.len() - 1] {
                let inputs = Rows { memory: row, starts: &[0] };
                kernel.run(Product { matrix, inputs, init: None, out: sums, out_starts: &[0] });
            }
        }
    }

    /// Memory for some lanes, each in the state of endless silence.
    pub(super) fn memory(&self, lanes: usize) -> Memory<M::Value> {
        let mut memory = Memory::new(&self.weights, &self.queue_shape, &self.ahead_shape, lanes);
        for lane in 0..lanes {
            self.reset(&mut memory, lane);
        }
        memory
    }

    /// Gives some lanes' memory a second thread, which has its own copy of the skips' weights.
    pub(super) fn start_helper(
        &self,
        kernel: Kernel,
        memory: &mut Memory<M::Value>,
    ) -> std::io::Result<()>
    where
        M: Send + 'static,
    {
        let lanes = memory.queues.lanes();
        memory.helper = Some(Helper::spawn(kernel, &self.weights, lanes)?);
        Ok(())
    }

    /// Puts a lane into the state of endless silence. Real-time safe.
    pub(super) fn reset(&self, memory: &mut Memory<M::Value>, lane: usize) {
        memory.reset(&self.queue_shape, &self.ahead_shape, &self.silence, lane);
    }

    /// One sample of some lanes. Real-time safe.
    pub(super) fn step(
        &self,
        kernel: Kernel,
        memory: &mut Memory<M::Value>,
        heard: Heard<'_>,
        logits: &mut [f32],
    ) {
        let Self { weights, queue_shape, ahead_shape, .. } = self;
        step(kernel, &Model { weights, queue_shape, ahead_shape }, memory, heard, logits);
    }
}
