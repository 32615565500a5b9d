//! One sample of some lanes, all at once.
//!
//! van den Oord 2016, equation 5 with local conditioning, for layer l at time t:
//!
//! ```text
//! z = tanh(W_f * x + V_f h) . sigmoid(W_g * x + V_g h)
//! x' = x + W_r z + b_r
//! s = sum over l of W_s z + b_s
//! logits = W_2 relu(W_1 relu(s) + b_1) + b_2
//! ```
//!
//! Written once for all types of weights and sets of instructions. Each product serves all lanes
//! with one pass over its weights; a lane's sums are its own, so neighbours change nothing.

use super::kernel::Kernel;
use super::matrix::{InputKind, Matrix, Product, Rows, padded};
use super::memory::{AheadShape, Memory, Scratch};
use super::packed::PackedWeights;
use super::simd::{Simd, Task};
use crate::queue::QueueShape;

/// A model and where its lanes' memory lies.
#[derive(Debug)]
pub(super) struct Model<'a, M> {
    pub(super) weights: &'a PackedWeights<M>,
    pub(super) queue_shape: &'a QueueShape,
    pub(super) ahead_shape: &'a AheadShape,
}

/// What the lanes hear. `codes[i]` and row i of `conditioning` are for lane `lanes[i]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard<'a> {
    pub(super) lanes: &'a [usize],
    pub(super) codes: &'a [u8],
    pub(super) conditioning: &'a [f32],
}

/// Computes the logits of the next codes and stores every layer's input in its queue.
pub(super) fn step<M: Matrix>(
    kernel: Kernel,
    model: &Model<'_, M>,
    memory: &mut Memory<M::Value>,
    heard: Heard<'_>,
    logits: &mut [f32],
) {
    let weights = model.weights;
    let count = heard.lanes.len();
    kernel.run(Begin { model, memory, heard });
    if let Some(helper) = &mut memory.helper {
        helper.begin(count);
    }
    for layer in 0..weights.layers.len() {
        if layer > 0 {
            compute_ahead(kernel, model, memory, heard.lanes, layer);
            kernel.run(Enter { model, memory, lanes: heard.lanes, layer });
        }
        let Memory { queues, ahead, scratch, helper } = memory;
        let Scratch { sums, h, units, change, starts, .. } = scratch;
        let part = &weights.layers[layer];
        let mut init = Some(Rows { memory: ahead, starts: &starts.ahead }).filter(|_| layer > 0);
        if let Some(matrix) = &part.conditioning {
            let inputs = Rows { memory: h, starts: &starts.h[..count] };
            let out_starts = &starts.sums[..count];
            kernel.run(Product { matrix, inputs, init, out: sums, out_starts });
            init = None;
        }
        if layer == 0 {
            kernel.run(HearCodes { weights, sums, codes: heard.codes });
        } else if let Some(matrix) = part.taps.last() {
            let inputs = Rows { memory: queues.memory(), starts: &starts.queue };
            let out_starts = &starts.sums[..count];
            kernel.run(Product { matrix, inputs, init, out: sums, out_starts });
        }
        kernel.run(Gate { weights, sums, units, layer, count });
        let offset = layer * weights.units_width;
        if let Some(helper) = helper {
            for &start in &starts.units[..count] {
                helper.send(&units[start + offset..][..weights.units_width]);
            }
        }
        if let Some(residual) = &part.residual {
            kernel.run(Product {
                matrix: &residual.matrix,
                inputs: Rows { memory: &units[offset..], starts: &starts.units[..count] },
                init: Some(Rows { memory: &residual.bias, starts: &starts.bias[..count] }),
                out: change,
                out_starts: &starts.x[..count],
            });
        }
    }
    for &lane in heard.lanes {
        memory.queues.advance(lane);
    }
    let Memory { scratch, helper, .. } = memory;
    if !helper.as_mut().is_some_and(|helper| helper.receive(&mut scratch.skips)) {
        add_skips(kernel, weights, scratch, count);
    }
    head(kernel, weights, scratch, count, logits);
}

/// The skips of all layers.
fn add_skips<M: Matrix>(
    kernel: Kernel,
    weights: &PackedWeights<M>,
    scratch: &mut Scratch<M::Value>,
    count: usize,
) {
    let starts = &scratch.starts;
    kernel.run(Product {
        matrix: &weights.skip.matrix,
        inputs: Rows { memory: &scratch.units, starts: &starts.units[..count] },
        init: Some(Rows { memory: &weights.skip.bias, starts: &starts.bias[..count] }),
        out: &mut scratch.skips,
        out_starts: &starts.skips[..count],
    });
}

/// The two products after the skips.
fn head<M: Matrix>(
    kernel: Kernel,
    weights: &PackedWeights<M>,
    scratch: &mut Scratch<M::Value>,
    count: usize,
    logits: &mut [f32],
) {
    let starts = &scratch.starts;
    let bias = &starts.bias[..count];
    let (skips, inputs) = (&scratch.skips, &mut scratch.skip_inputs);
    kernel.run(Relu::<M> { from: skips, channels: weights.skip_channels, rows: inputs, count });
    kernel.run(Product {
        matrix: &weights.end1.matrix,
        inputs: Rows { memory: inputs, starts: &starts.skip_inputs[..count] },
        init: Some(Rows { memory: &weights.end1.bias, starts: bias }),
        out: &mut scratch.hidden,
        out_starts: &starts.hidden[..count],
    });
    let (hidden, inputs) = (&scratch.hidden, &mut scratch.hidden_inputs);
    kernel.run(Relu::<M> { from: hidden, channels: weights.end_channels, rows: inputs, count });
    // Rows of whole blocks can be written where they are wanted.
    let is_whole = weights.levels == padded(weights.levels);
    kernel.run(Product {
        matrix: &weights.end2.matrix,
        inputs: Rows { memory: inputs, starts: &starts.hidden_inputs[..count] },
        init: Some(Rows { memory: &weights.end2.bias, starts: bias }),
        out: if is_whole { logits } else { &mut scratch.logits },
        out_starts: &starts.logits[..count],
    });
    if !is_whole {
        let rows = scratch.logits.chunks_exact(padded(weights.levels));
        for (logits, row) in logits.chunks_exact_mut(weights.levels).zip(rows) {
            logits.copy_from_slice(&row[..weights.levels]);
        }
    }
}

/// Bias and past taps of a layer, for those lanes whose slots are used up.
fn compute_ahead<M: Matrix>(
    kernel: Kernel,
    model: &Model<'_, M>,
    memory: &mut Memory<M::Value>,
    lanes: &[usize],
    layer: usize,
) {
    let Model { weights, queue_shape, ahead_shape } = *model;
    let Memory { queues, ahead, scratch, .. } = memory;
    let starts = &mut scratch.starts;
    let part = &weights.layers[layer];
    let past_taps = weights.kernel_size - 1;
    for (tap, matrix) in part.taps[..past_taps].iter().enumerate() {
        starts.queue.clear();
        starts.ahead.clear();
        for &lane in lanes {
            let time = queues.time(lane);
            for sample in 0..ahead_shape.due(layer, time) {
                let row = queues.row(queue_shape, layer, lane, past_taps - tap, sample);
                starts.queue.push(row);
                starts.ahead.push(ahead_shape.start(layer, lane, time.wrapping_add(sample)));
            }
        }
        let rows = starts.queue.len();
        if rows == 0 {
            return;
        }
        kernel.run(Product {
            matrix,
            inputs: Rows { memory: queues.memory(), starts: &starts.queue },
            init: (tap == 0).then_some(Rows { memory: &part.bias, starts: &starts.bias[..rows] }),
            out: ahead,
            out_starts: &starts.ahead,
        });
    }
}

/// Embeds the codes, and readies the conditioning.
struct Begin<'a, M: Matrix> {
    model: &'a Model<'a, M>,
    memory: &'a mut Memory<M::Value>,
    heard: Heard<'a>,
}

impl<M: Matrix> Task for Begin<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Model { weights, queue_shape, .. } = *self.model;
        let Memory { queues, scratch, .. } = self.memory;
        let width = padded(weights.residual_channels);
        let h = weights.conditioning_channels;
        for (index, (&lane, &code)) in self.heard.lanes.iter().zip(self.heard.codes).enumerate() {
            // A code beyond the last cannot come from a pick; it must not end the program either.
            let code = code.min((weights.levels - 1) as u8);
            let row = usize::from(code) * width;
            scratch.x[index * width..(index + 1) * width]
                .copy_from_slice(&weights.embedding[row..row + width]);
            if h > 0 {
                let row = &mut scratch.h[scratch.starts.h[index]..][..M::width(h, InputKind::Any)];
                M::convert(&self.heard.conditioning[index * h..(index + 1) * h], row);
            }
            let width = weights.sums_width;
            let sums = &mut scratch.sums[index * width..(index + 1) * width];
            for (tap, table) in weights.tables[..weights.kernel_size - 1].iter().enumerate() {
                let past = queues.past_code(queue_shape, lane, weights.kernel_size - 1 - tap);
                let row = &table[usize::from(past) * width..][..width];
                if tap == 0 {
                    sums.copy_from_slice(row);
                } else {
                    add(sums, row);
                }
            }
            queues.push_code(queue_shape, lane, code);
        }
    }
}

/// Adds what the codes of now give layer 0.
struct HearCodes<'a, M> {
    weights: &'a PackedWeights<M>,
    sums: &'a mut [f32],
    codes: &'a [u8],
}

impl<M: Matrix> Task for HearCodes<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let width = self.weights.sums_width;
        let table = &self.weights.tables[self.weights.kernel_size - 1];
        for (sums, &code) in self.sums.chunks_exact_mut(width).zip(self.codes) {
            let code = usize::from(code).min(self.weights.levels - 1);
            add(sums, &table[code * width..][..width]);
        }
    }
}

/// Brings the residual stream to a layer: adds the last block's change, and stores the sum in the
/// queue, where the present tap reads it.
struct Enter<'a, M: Matrix> {
    model: &'a Model<'a, M>,
    memory: &'a mut Memory<M::Value>,
    lanes: &'a [usize],
    layer: usize,
}

impl<M: Matrix> Task for Enter<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Model { weights, queue_shape, ahead_shape } = *self.model;
        let Memory { queues, scratch, .. } = self.memory;
        let width = padded(weights.residual_channels);
        let rows = scratch.x.chunks_exact_mut(width).zip(scratch.change.chunks_exact(width));
        let starts = &mut scratch.starts;
        starts.queue.clear();
        starts.ahead.clear();
        for (&lane, (x, change)) in self.lanes.iter().zip(rows) {
            add(x, change);
            M::convert(x, queues.now(queue_shape, self.layer, lane));
            starts.queue.push(queues.row(queue_shape, self.layer, lane, 0, 0));
            starts.ahead.push(ahead_shape.start(self.layer, lane, queues.time(lane)));
        }
    }
}

/// tanh(filter) . sigmoid(gate)
struct Gate<'a, M: Matrix> {
    weights: &'a PackedWeights<M>,
    sums: &'a [f32],
    units: &'a mut [M::Value],
    layer: usize,
    count: usize,
}

impl<M: Matrix> Task for Gate<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let (width, layers) = (self.weights.units_width, self.weights.layers.len());
        let sums = self.sums.chunks_exact(self.weights.sums_width);
        let units = self.units.chunks_exact_mut(layers * width);
        for (sums, units) in sums.zip(units).take(self.count) {
            let (filter, gate) = sums.split_at(self.weights.sums_width / 2);
            M::gate(filter, gate, &mut units[self.layer * width..(self.layer + 1) * width]);
        }
    }
}

/// max(0, a), then ready to be multiplied.
struct Relu<'a, M: Matrix> {
    from: &'a [f32],
    channels: usize,
    rows: &'a mut [M::Value],
    count: usize,
}

impl<M: Matrix> Task for Relu<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let rows = self.rows.chunks_exact_mut(M::width(self.channels, InputKind::Rectified));
        for (from, row) in self.from.chunks_exact(padded(self.channels)).zip(rows).take(self.count)
        {
            M::convert_rectified(from, row);
        }
    }
}

#[inline(always)]
fn add(sums: &mut [f32], others: &[f32]) {
    for (sum, other) in sums.iter_mut().zip(others) {
        *sum += other;
    }
}
