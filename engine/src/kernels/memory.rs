//! What the lanes of one model remember, and the buffers of a step.

use super::aligned::{Aligned, Plain};
use super::helper::Helper;
use super::matrix::{InputKind, Matrix, padded};
use super::packed::PackedWeights;
use crate::config::Config;
use crate::queue::{QueueShape, Queues};

/// Samples whose past taps are computed at once, where the dilation allows.
const MOST_AHEAD: usize = 8;

/// Where what is computed ahead lies.
///
/// The past taps of a layer with dilation d are known d samples ahead. Every `slots` samples they
/// are computed for the next `slots` samples at once, so that their weights are read once for all of
/// them. Layers do so at different times, which spreads the work.
#[derive(Debug)]
pub(super) struct AheadShape {
    layers: Vec<Slots>,
    /// 2 G': floats of one slot.
    width: usize,
    /// Slots of one lane.
    count: usize,
}

#[derive(Debug)]
struct Slots {
    first: usize,
    count: usize,
}

impl AheadShape {
    pub(super) fn new(config: &Config, width: usize) -> Self {
        let mut first = 0;
        let slots = config.dilations.iter().enumerate().map(|(layer, &dilation)| {
            // A power of two, so that times may wrap; layer 0 has tables instead.
            let count = if layer == 0 { 0 } else { 1 << dilation.min(MOST_AHEAD).ilog2() };
            first += count;
            Slots { first: first - count, count }
        });
        let layers = slots.collect();
        Self { layers, width, count: first }
    }

    /// Samples to be computed ahead now: none until all slots are used up.
    #[inline(always)]
    pub(super) fn due(&self, layer: usize, time: usize) -> usize {
        let count = self.layers[layer].count;
        if time.wrapping_add(layer) & (count - 1) == 0 { count } else { 0 }
    }

    /// Where the sums for a lane's sample at `time` begin.
    #[inline(always)]
    pub(super) fn start(&self, layer: usize, lane: usize, time: usize) -> usize {
        let slots = &self.layers[layer];
        (lane * self.count + slots.first + (time & (slots.count - 1))) * self.width
    }
}

/// The state of endless silence.
#[derive(Debug)]
pub(super) struct Silence<T> {
    pub(super) code: u8,
    /// What each layer's queue holds. Shape: `[layers][queue width]`.
    pub(super) rows: Vec<T>,
    /// Bias and past taps of each layer. Shape: `[layers][2 G']`.
    pub(super) ahead: Vec<f32>,
}

/// The past of some lanes, and the buffers of a step.
#[derive(Debug)]
pub(super) struct Memory<T> {
    pub(super) queues: Queues<T>,
    /// Bias and past taps of samples to come. Shape: `[lanes]`, for each layer `[slots][2 G']`.
    pub(super) ahead: Aligned<f32>,
    pub(super) scratch: Scratch<T>,
    /// The second thread, if there is one.
    pub(super) helper: Option<Helper<T>>,
}

impl<T: Plain> Memory<T> {
    pub(super) fn new<M: Matrix<Value = T>>(
        weights: &PackedWeights<M>,
        queue_shape: &QueueShape,
        ahead_shape: &AheadShape,
        lanes: usize,
    ) -> Self {
        Self {
            queues: Queues::new(queue_shape, lanes),
            ahead: Aligned::zeros(lanes * ahead_shape.count * ahead_shape.width),
            scratch: Scratch::new(weights, lanes),
            helper: None,
        }
    }

    /// Puts a lane into the state of endless silence. Real-time safe.
    pub(super) fn reset(
        &mut self,
        queue_shape: &QueueShape,
        ahead_shape: &AheadShape,
        silence: &Silence<T>,
        lane: usize,
    ) {
        self.queues.fill(queue_shape, lane, silence.code, &silence.rows);
        let width = ahead_shape.width;
        for layer in 1..ahead_shape.layers.len() {
            for slot in 0..ahead_shape.layers[layer].count {
                let start = ahead_shape.start(layer, lane, slot);
                let sums = &silence.ahead[layer * width..(layer + 1) * width];
                self.ahead[start..start + width].copy_from_slice(sums);
            }
        }
    }
}

/// Buffers between the products, one row a lane, padded to whole blocks. What they hold between
/// steps does not matter.
#[derive(Debug)]
pub(super) struct Scratch<T> {
    /// Layer input. `[lanes][R']`
    pub(super) x: Aligned<f32>,
    /// What a residual block adds to it. `[lanes][R']`
    pub(super) change: Aligned<f32>,
    /// Sums of the filter, then of the gate. `[lanes][2 G']`
    pub(super) sums: Aligned<f32>,
    /// Conditioning vectors. `[lanes][H']`
    pub(super) h: Aligned<T>,
    /// Gated units of all layers. `[lanes][layers][G']`
    pub(super) units: Aligned<T>,
    /// Sums of the skips. `[lanes][S']`
    pub(super) skips: Aligned<f32>,
    /// The same after their relu.
    pub(super) skip_inputs: Aligned<T>,
    /// Hidden units of the head. `[lanes][A']`
    pub(super) hidden: Aligned<f32>,
    /// The same after their relu.
    pub(super) hidden_inputs: Aligned<T>,
    /// `[lanes][levels']`
    pub(super) logits: Aligned<f32>,
    pub(super) starts: Starts,
}

/// Where rows begin, one a lane.
#[derive(Debug)]
pub(super) struct Starts {
    /// In a bias: at 0, whichever the lane, and up to `MOST_AHEAD` a lane.
    pub(super) bias: Vec<usize>,
    pub(super) x: Vec<usize>,
    pub(super) sums: Vec<usize>,
    pub(super) h: Vec<usize>,
    pub(super) units: Vec<usize>,
    pub(super) skips: Vec<usize>,
    pub(super) skip_inputs: Vec<usize>,
    pub(super) hidden: Vec<usize>,
    pub(super) hidden_inputs: Vec<usize>,
    pub(super) logits: Vec<usize>,
    /// Rows of a queue, up to `MOST_AHEAD` a lane.
    pub(super) queue: Vec<usize>,
    /// Slots of what is computed ahead, likewise.
    pub(super) ahead: Vec<usize>,
}

impl<T: Plain> Scratch<T> {
    fn new<M: Matrix<Value = T>>(weights: &PackedWeights<M>, lanes: usize) -> Self {
        let x = padded(weights.residual_channels);
        let h = M::width(weights.conditioning_channels, InputKind::Any);
        let units = weights.layers.len() * weights.units_width;
        let (skips, hidden, logits) =
            (padded(weights.skip_channels), padded(weights.end_channels), padded(weights.levels));
        let (skip_inputs, hidden_inputs) = (
            M::width(weights.skip_channels, InputKind::Rectified),
            M::width(weights.end_channels, InputKind::Rectified),
        );
        let every = |stride| (0..lanes).map(|lane| lane * stride).collect::<Vec<_>>();
        Self {
            x: Aligned::zeros(lanes * x),
            change: Aligned::zeros(lanes * x),
            sums: Aligned::zeros(lanes * weights.sums_width),
            h: Aligned::zeros(lanes * h),
            units: Aligned::zeros(lanes * units),
            skips: Aligned::zeros(lanes * skips),
            skip_inputs: Aligned::zeros(lanes * skip_inputs),
            hidden: Aligned::zeros(lanes * hidden),
            hidden_inputs: Aligned::zeros(lanes * hidden_inputs),
            logits: Aligned::zeros(lanes * logits),
            starts: Starts {
                bias: vec![0; lanes * MOST_AHEAD],
                x: every(x),
                sums: every(weights.sums_width),
                h: every(h),
                units: every(units),
                skips: every(skips),
                skip_inputs: every(skip_inputs),
                hidden: every(hidden),
                hidden_inputs: every(hidden_inputs),
                logits: every(logits),
                queue: Vec::with_capacity(lanes * MOST_AHEAD),
                ahead: Vec::with_capacity(lanes * MOST_AHEAD),
            },
        }
    }

    /// Fills every buffer of floats.
    #[cfg(test)]
    pub(super) fn poison(&mut self, float: f32, value: T) {
        let Self { x, change, sums, skips, hidden, logits, .. } = self;
        for buffer in [x, change, sums, skips, hidden, logits] {
            buffer.fill(float);
        }
        let Self { h, units, skip_inputs, hidden_inputs, .. } = self;
        for buffer in [h, units, skip_inputs, hidden_inputs] {
            buffer.fill(value);
        }
    }
}
