//! Forward pass of one segment, chunk by chunk, with the head's loss and gradient fused in.

use std::ops::Range;

use wavenet_engine::Config;

use super::packed::{Affine, Packed};
use super::{CHUNK, ChunkBuffers, Loss, Pass, Segment, Workspace};
use crate::kernels::elementwise::{
    LossSum, add, add_columns, add_named_rows, gate, relu, relu_backward, softmax_loss,
};
use crate::kernels::product::{To, View, multiply};

/// The row of a segment from which on each layer is needed: the last one where the loss begins to
/// count, each other one as far before the next as that one reaches back.
pub(super) fn needed_from(config: &Config, segment: &Segment) -> Vec<usize> {
    let mut needed = vec![segment.counted_from; config.layers()];
    for layer in (1..config.layers()).rev() {
        needed[layer - 1] = needed[layer].saturating_sub(reach(config, layer));
    }
    needed
}

/// Rows of a segment in chunks; one always begins where the loss begins to count.
pub(super) fn chunks(segment: &Segment) -> Vec<Range<usize>> {
    let rows = segment.targets.len();
    let mut starts: Vec<usize> = (0..segment.counted_from).step_by(CHUNK).collect();
    starts.extend((segment.counted_from..rows).step_by(CHUNK));
    let ends = starts.iter().skip(1).copied().chain([rows]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

impl Workspace {
    /// Makes room for the present segment.
    fn prepare(&mut self, config: &Config, packed: &Packed, pass: Pass) {
        let grow = |buffer: &mut Vec<f32>, len: usize| {
            if buffer.len() < len {
                buffer.resize(len, 0.0);
            }
        };
        let rows = self.segment.targets.len();
        let (r, g, s) = (config.residual_channels, config.gate_channels, config.skip_channels);
        for buffers in [&mut self.x, &mut self.gates, &mut self.dx] {
            buffers.resize_with(config.layers(), Vec::new);
        }
        for layer in 0..config.layers() {
            if layer > 0 {
                grow(&mut self.x[layer], (reach(config, layer) + rows) * r);
            }
            // Without a gradient nobody reads the gates of another chunk.
            let kept = if pass == Pass::WithGradient { rows } else { CHUNK };
            grow(&mut self.gates[layer], kept * 2 * g);
            if layer > 0 && pass == Pass::WithGradient {
                self.dx[layer].clear();
                self.dx[layer].resize((reach(config, layer) + CHUNK) * r, 0.0);
            }
        }
        if pass == Pass::WithGradient {
            grow(&mut self.dskips, rows * s);
        }
        let chunk = &mut self.chunk;
        grow(&mut chunk.z, CHUNK * config.layers() * g);
        grow(&mut chunk.dsums, CHUNK * 2 * g);
        grow(&mut chunk.class_sums, 2 * g);
        grow(&mut chunk.skips, CHUNK * s);
        grow(&mut chunk.hidden, CHUNK * config.end_channels);
        grow(&mut chunk.dhidden, CHUNK * config.end_channels);
        grow(&mut chunk.logits, CHUNK * config.levels);
        self.fill_conditioning(config, packed);
    }

    /// `h = [embedded class | local]`, all zero in the silence before the sound.
    fn fill_conditioning(&mut self, config: &Config, packed: &Packed) {
        let (width, class_width) = (config.conditioning_channels(), config.class_width());
        let local_width = width - class_width;
        let segment = &self.segment;
        let rows = segment.targets.len();
        self.h.clear();
        self.h.resize(rows * width, 0.0);
        self.used_channels.clear();
        if width == 0 {
            return;
        }
        let class = &packed.class_embedding[segment.class * class_width..][..class_width];
        let rows = self.h.chunks_exact_mut(width).enumerate().skip(segment.sound_from);
        for (row, h) in rows {
            h[..class_width].copy_from_slice(class);
            h[class_width..].copy_from_slice(&segment.local[row * local_width..][..local_width]);
        }
        self.used_channels = nonzero_columns(&self.h, width);
    }

    /// Loss of the present segment. With a `gradient`, the head's part of it is added there (not
    /// yet divided by the number of samples), and everything is left for [`Workspace::backward`].
    pub(super) fn forward(
        &mut self,
        config: &Config,
        packed: &Packed,
        mut gradient: Option<&mut Packed>,
    ) -> Loss {
        let pass = if gradient.is_some() { Pass::WithGradient } else { Pass::LossOnly };
        self.prepare(config, packed, pass);
        let s = config.skip_channels;
        let needed = needed_from(config, &self.segment);
        let z_width = config.layers() * config.gate_channels;
        let mut loss = Loss { samples: self.segment.counted() as u64, ..Loss::default() };
        for range in chunks(&self.segment) {
            let counts = range.start >= self.segment.counted_from;
            for (index, &from) in needed.iter().enumerate() {
                let range = range.start.max(from)..range.end;
                if !range.is_empty() {
                    self.forward_layer(config, packed, index, range, pass);
                }
            }
            if !counts {
                continue;
            }
            let ChunkBuffers { z, skips, .. } = &mut self.chunk;
            let z = View::new(z, range.len(), z_width);
            let weight = View::new(&packed.skip.weight, z_width, s);
            multiply(&[[z, weight]], skips, s, To::Row(&packed.skip.bias));
            let targets = &self.segment.targets[range.clone()];
            let part = head_loss(config, packed, &mut self.chunk, targets);
            if let Some(gradient) = gradient.as_deref_mut() {
                let dskips = &mut self.dskips[range.start * s..range.end * s];
                head_backward(config, packed, &mut self.chunk, dskips, gradient);
            }
            loss.nats += part.nats;
            loss.hits += part.hits;
        }
        loss
    }

    /// One residual block over one chunk: saves its gates, leaves its gated units for the skips and
    /// writes the next block's input.
    fn forward_layer(
        &mut self,
        config: &Config,
        packed: &Packed,
        index: usize,
        range: Range<usize>,
        pass: Pass,
    ) {
        let (r, g, len) = (config.residual_channels, config.gate_channels, range.len());
        let z_width = config.layers() * g;
        let layer = &packed.layers[index];
        let first = if pass == Pass::WithGradient { range.start } else { 0 };
        let sums = &mut self.gates[index][first * 2 * g..(first + len) * 2 * g];
        let product = |heard| gate_term(&layer.gate, heard);
        let channels =
            conditioning(config, &self.h, &self.used_channels, range.clone()).map(product);
        if index == 0 {
            sums.chunks_exact_mut(2 * g).for_each(|sums| sums.copy_from_slice(&layer.gate.bias));
            let tables = packed.first.chunks_exact(config.levels * 2 * g);
            for (tap, table) in tables.enumerate() {
                let (before, codes) = codes(config, tap, &self.segment.inputs, range.clone());
                add_named_rows(&mut sums[before * 2 * g..], table, 2 * g, codes);
            }
            multiply(&channels.collect::<Vec<_>>(), sums, 2 * g, To::There);
        } else {
            let taps = inputs(config, index, &self.x[index], range.clone()).map(product);
            let terms: Vec<_> = taps.chain(channels).collect();
            multiply(&terms, sums, 2 * g, To::Row(&layer.gate.bias));
        }
        let z = &mut self.chunk.z[index * g..];
        gate(sums, g, z, z_width);

        let (before, after) = self.x.split_at_mut(index + 1);
        // The last layer has no next.
        if let Some(next) = after.first_mut() {
            let next = &mut next[(reach(config, index + 1) + range.start) * r..][..len * r];
            let z = View::strided(z, len, g, z_width);
            let weight = View::new(&layer.residual.weight, g, r);
            multiply(&[[z, weight]], next, r, To::Row(&layer.residual.bias));
            if index == 0 {
                add_named_rows(next, &packed.embedding, r, &self.segment.inputs[range]);
            } else {
                let x = &before[index][(reach(config, index) + range.start) * r..][..len * r];
                add(next, x);
            }
        }
    }
}

/// What a part of the gate hears times the rows of its weights.
fn gate_term<'a>(gate: &'a Affine, (first, heard): (usize, View<'a>)) -> [View<'a>; 2] {
    let outputs = gate.bias.len();
    [heard, View::new(&gate.weight[first * outputs..], heard.cols(), outputs)]
}

/// The codes that a tap of the first layer hears in a chunk, behind the number of rows that come before:
/// their tap lies before the segment.
pub(super) fn codes<'a>(
    config: &Config,
    tap: usize,
    inputs: &'a [u8],
    range: Range<usize>,
) -> (usize, &'a [u8]) {
    let back = (config.kernel_size - 1 - tap) * config.dilations[0];
    let before = back.saturating_sub(range.start).min(range.len());
    (before, &inputs[range.start.saturating_sub(back)..range.end.saturating_sub(back)])
}

/// What each tap of a layer hears, `x[t - j d]`, behind the row of the gate's weights at which it is
/// multiplied. `x` begins with as many zeros as the layer reaches back.
pub(super) fn inputs<'a>(
    config: &Config,
    layer: usize,
    x: &'a [f32],
    range: Range<usize>,
) -> impl Iterator<Item = (usize, View<'a>)> {
    let (r, dilation) = (config.residual_channels, config.dilations[layer]);
    (0..config.kernel_size).map(move |tap| {
        let x = &x[(range.start + tap * dilation) * r..];
        (tap * r, View::new(x, range.len(), r))
    })
}

/// The same for the runs of conditioning channels that are in use.
pub(super) fn conditioning<'a>(
    config: &Config,
    h: &'a [f32],
    used: &'a [Range<usize>],
    range: Range<usize>,
) -> impl Iterator<Item = (usize, View<'a>)> {
    let width = config.conditioning_channels();
    let taps = config.kernel_size * config.residual_channels;
    used.iter().map(move |channels| {
        let h = &h[range.start * width + channels.start..];
        (taps + channels.start, View::strided(h, range.len(), channels.len(), width))
    })
}

/// Runs of columns in which not all is zero: partials too high for the sample rate say nothing all
/// along, and cost nothing so.
fn nonzero_columns(matrix: &[f32], width: usize) -> Vec<Range<usize>> {
    let mut is_used = vec![false; width];
    for row in matrix.chunks_exact(width) {
        for (is_used, value) in is_used.iter_mut().zip(row) {
            *is_used |= *value != 0.0;
        }
    }
    let mut first = 0;
    let runs = is_used.chunk_by(|a, b| a == b).map(|run| {
        let columns = first..first + run.len();
        first = columns.end;
        (run[0], columns)
    });
    runs.filter(|(is_used, _)| *is_used).map(|(_, columns)| columns).collect()
}

/// Loss of a chunk from its skips: leaves the activations, and the gradient of the logits in their place.
fn head_loss(
    config: &Config,
    packed: &Packed,
    chunk: &mut ChunkBuffers,
    targets: &[u8],
) -> LossSum {
    let len = targets.len();
    let (s, a, levels) = (config.skip_channels, config.end_channels, config.levels);
    let ChunkBuffers { skips, hidden, logits, .. } = chunk;
    let skips = &mut skips[..len * s];
    let hidden = &mut hidden[..len * a];
    let logits = &mut logits[..len * levels];
    relu(skips);
    affine(&packed.end1, skips, hidden);
    relu(hidden);
    affine(&packed.end2, hidden, logits);
    softmax_loss(logits, levels, targets)
}

/// `out = inputs W + bias` for whole rows.
fn affine(affine: &Affine, inputs: &[f32], out: &mut [f32]) {
    let (width, outputs) = (affine.inputs(), affine.bias.len());
    let inputs = View::new(inputs, inputs.len() / width, width);
    let weight = View::new(&affine.weight, width, outputs);
    multiply(&[[inputs, weight]], out, outputs, To::Row(&affine.bias));
}

/// From what [`head_loss`] left to the gradient of the head and of the sum of skips, `dskips`
/// `[rows][S]`.
fn head_backward(
    config: &Config,
    packed: &Packed,
    chunk: &mut ChunkBuffers,
    dskips: &mut [f32],
    gradient: &mut Packed,
) {
    let (s, a, levels) = (config.skip_channels, config.end_channels, config.levels);
    let len = dskips.len() / s;
    let ChunkBuffers { skips, hidden, dhidden, logits, .. } = chunk;
    let skips = &skips[..len * s];
    let hidden = &hidden[..len * a];
    let dhidden = &mut dhidden[..len * a];
    affine_backward(&packed.end2, hidden, &logits[..len * levels], &mut gradient.end2, dhidden);
    relu_backward(hidden, dhidden);
    affine_backward(&packed.end1, skips, dhidden, &mut gradient.end1, dskips);
    relu_backward(skips, dskips);
}

/// From the gradient of [`affine`]'s output to that of its parameters, which is added, and of its inputs.
fn affine_backward(
    affine: &Affine,
    inputs: &[f32],
    dout: &[f32],
    gradient: &mut Affine,
    dinputs: &mut [f32],
) {
    let (width, outputs) = (affine.inputs(), affine.bias.len());
    let inputs = View::new(inputs, inputs.len() / width, width);
    add_columns(dout, &mut gradient.bias);
    let dout = View::new(dout, dout.len() / outputs, outputs);
    multiply(&[[inputs.transposed(), dout]], &mut gradient.weight, outputs, To::There);
    let weight = View::new(&affine.transposed, outputs, width);
    multiply(&[[dout, weight]], dinputs, width, To::Nothing);
}

/// Rows that a layer's oldest tap looks back.
pub(super) fn reach(config: &Config, layer: usize) -> usize {
    (config.kernel_size - 1) * config.dilations[layer]
}
