//! Forward pass of one segment, chunk by chunk, with the head's loss and gradient fused in.

use wavenet_engine::Config;

use super::backward::reach;
use super::packed::{Affine, Layer, Packed};
use super::{CHUNK, ChunkBuffers, Loss, Pass, Segment, Workspace};
use crate::kernels::elementwise::{
    LossSum, add_columns, copy_rows, gate, relu_backward, relu_rows, residual, softmax_loss,
};
use crate::kernels::gemm::{Into, View, multiply, transposed_multiply};

/// Rows of a segment in chunks; one always begins where the loss begins to count.
pub(super) fn chunks(segment: &Segment) -> Vec<std::ops::Range<usize>> {
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
            grow(&mut self.x[layer], rows * r);
            // Without a gradient nobody reads the gates of another chunk.
            let kept = if pass == Pass::WithGradient { rows } else { CHUNK };
            grow(&mut self.gates[layer], kept * 2 * g);
            if pass == Pass::WithGradient {
                self.dx[layer].clear();
                self.dx[layer].resize((reach(config, layer) + CHUNK) * r, 0.0);
            }
        }
        if pass == Pass::WithGradient {
            grow(&mut self.dskips, rows * s);
        }
        let columns = config.kernel_size * r + config.conditioning_channels();
        let chunk = &mut self.chunk;
        grow(&mut chunk.columns, CHUNK * columns);
        grow(&mut chunk.dcolumns, CHUNK * columns);
        grow(&mut chunk.z, CHUNK * config.layers() * g);
        grow(&mut chunk.dsums, CHUNK * 2 * g);
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
        if width == 0 {
            return;
        }
        let class = &packed.class_embedding[segment.class * class_width..][..class_width];
        let rows = self.h.chunks_exact_mut(width).enumerate().skip(segment.sound_from);
        for (row, h) in rows {
            h[..class_width].copy_from_slice(class);
            h[class_width..].copy_from_slice(&segment.local[row * local_width..][..local_width]);
        }
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
        let (r, s) = (config.residual_channels, config.skip_channels);
        let z_width = config.layers() * config.gate_channels;
        let mut loss = Loss { samples: self.segment.counted() as u64, ..Loss::default() };
        for range in chunks(&self.segment) {
            for row in range.clone() {
                let code = usize::from(self.segment.inputs[row]);
                let embedded = &packed.embedding[code * r..(code + 1) * r];
                self.x[0][row * r..(row + 1) * r].copy_from_slice(embedded);
            }
            let counts = range.start >= self.segment.counted_from;
            for (index, layer) in packed.layers.iter().enumerate() {
                // Nobody hears what the last layer says of the warm-up.
                if counts || index + 1 < packed.layers.len() {
                    self.forward_layer(config, layer, index, range.clone(), pass);
                }
            }
            if !counts {
                continue;
            }
            let ChunkBuffers { z, skips, .. } = &mut self.chunk;
            let z = View::new(z, range.len(), z_width);
            let weight = View::new(&packed.skip.transposed, z_width, s);
            multiply(z, weight, skips, Into::Replace);
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
        layer: &Layer,
        index: usize,
        range: std::ops::Range<usize>,
        pass: Pass,
    ) {
        let (r, g, len) = (config.residual_channels, config.gate_channels, range.len());
        let width = config.kernel_size * r + config.conditioning_channels();
        let z_width = config.layers() * g;
        let ChunkBuffers { columns, z, .. } = &mut self.chunk;
        gather_columns(config, index, &self.x[index], &self.h, range.clone(), columns);
        let first = if pass == Pass::WithGradient { range.start } else { 0 };
        let sums = &mut self.gates[index][first * 2 * g..(first + len) * 2 * g];
        let weight = View::new(&layer.gate.transposed, width, 2 * g);
        multiply(View::new(columns, len, width), weight, sums, Into::Replace);
        let z = &mut z[index * g..];
        gate(sums, &layer.gate.bias, z, z_width);

        let rows = range.start * r..range.end * r;
        let (before, after) = self.x.split_at_mut(index + 1);
        // The last layer has no next.
        if let Some(next) = after.first_mut() {
            let next = &mut next[rows.clone()];
            let z = View { values: z, rows: len, cols: g, stride: z_width };
            let weight = View::new(&layer.residual.transposed, g, r);
            multiply(z, weight, next, Into::Replace);
            residual(next, &layer.residual.bias, &before[index][rows]);
        }
    }
}

/// Rows of a gate's inputs: each tap's `x[t - j d]` (zero before the segment), then `h[t]`.
pub(super) fn gather_columns(
    config: &Config,
    layer: usize,
    x: &[f32],
    h: &[f32],
    range: std::ops::Range<usize>,
    columns: &mut [f32],
) {
    let (r, k) = (config.residual_channels, config.kernel_size);
    let h_width = config.conditioning_channels();
    let width = k * r + h_width;
    for tap in 0..k {
        let back = (k - 1 - tap) * config.dilations[layer];
        // Rows whose tap lies before the segment.
        let before = back.saturating_sub(range.start).min(range.len());
        let mut rows = columns.chunks_exact_mut(width).take(range.len());
        for columns in rows.by_ref().take(before) {
            columns[tap * r..][..r].fill(0.0);
        }
        let then = &x[(range.start + before).saturating_sub(back) * r..];
        let then = &then[..(range.len() - before) * r];
        if !then.is_empty() {
            copy_rows(then, r, &mut columns[before * width + tap * r..], width);
        }
    }
    if h_width > 0 {
        let h = &h[range.start * h_width..range.end * h_width];
        copy_rows(h, h_width, &mut columns[k * r..], width);
    }
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
    let affine = |input: &[f32], inputs: usize, affine: &Affine, out: &mut [f32]| {
        let weight = View::new(&affine.transposed, inputs, affine.bias.len());
        multiply(View::new(input, len, inputs), weight, out, Into::Replace);
    };
    relu_rows(skips, &packed.skip.bias);
    affine(skips, s, &packed.end1, hidden);
    relu_rows(hidden, &packed.end1.bias);
    affine(hidden, a, &packed.end2, logits);
    softmax_loss(logits, &packed.end2.bias, targets, 1.0)
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
    let dlogits = View::new(&logits[..len * levels], len, levels);
    transposed_multiply(dlogits, View::new(hidden, len, a), &mut gradient.end2.weight, Into::Add);
    add_columns(dlogits.values, &mut gradient.end2.bias);
    multiply(dlogits, View::new(&packed.end2.weight, levels, a), dhidden, Into::Replace);
    relu_backward(hidden, dhidden);
    add_columns(dhidden, &mut gradient.end1.bias);
    let dhidden = View::new(dhidden, len, a);
    transposed_multiply(dhidden, View::new(skips, len, s), &mut gradient.end1.weight, Into::Add);
    multiply(dhidden, View::new(&packed.end1.weight, a, s), dskips, Into::Replace);
    relu_backward(skips, dskips);
}
