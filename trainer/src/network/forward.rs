//! Forward pass of one segment, chunk by chunk, with the head's loss and gradient fused in.

use wavenet_engine::Config;

use super::packed::{Affine, Layer, Packed};
use super::{CHUNK, ChunkBuffers, Loss, Pass, Segment, Workspace};
use crate::kernels::elementwise::{
    add, add_columns, gate, relu_backward, relu_rows, residual_and_skip, softmax_loss,
};
use crate::kernels::gemm::{Into, View, multiply, multiply_transposed, transposed_multiply};

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
                grow(&mut self.dx[layer], rows * r);
                self.dx[layer][..rows * r].fill(0.0);
            }
        }
        if pass == Pass::WithGradient {
            grow(&mut self.dskips, rows * s);
        }
        let columns = config.kernel_size * r + config.conditioning_channels();
        let chunk = &mut self.chunk;
        grow(&mut chunk.columns, CHUNK * columns);
        grow(&mut chunk.dcolumns, CHUNK * columns);
        grow(&mut chunk.z, CHUNK * g);
        grow(&mut chunk.dz, CHUNK * g);
        grow(&mut chunk.dsums, CHUNK * 2 * g);
        grow(&mut chunk.out, CHUNK * (r + s));
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
        let skip_bias = skip_bias(config, packed);
        let mut loss = Loss { samples: self.segment.counted() as u64, ..Loss::default() };
        for range in chunks(&self.segment) {
            for row in range.clone() {
                let code = usize::from(self.segment.inputs[row]);
                let embedded = &packed.embedding[code * r..(code + 1) * r];
                self.x[0][row * r..(row + 1) * r].copy_from_slice(embedded);
            }
            let counts = range.start >= self.segment.counted_from;
            let len = range.len();
            self.chunk.skips[..len * s].fill(0.0);
            for (index, layer) in packed.layers.iter().enumerate() {
                self.forward_layer(config, layer, index, range.clone(), counts, pass);
            }
            if !counts {
                if pass == Pass::WithGradient {
                    self.dskips[range.start * s..range.end * s].fill(0.0);
                }
                continue;
            }
            let targets = &self.segment.targets[range.clone()];
            let part =
                head(config, packed, &skip_bias, &mut self.chunk, targets, gradient.as_deref_mut());
            if pass == Pass::WithGradient {
                let dskips = &mut self.dskips[range.start * s..range.end * s];
                dskips.copy_from_slice(&self.chunk.skips[..len * s]);
            }
            loss.nats += part.nats;
            loss.hits += part.hits;
        }
        loss
    }

    /// One residual block over one chunk: saves its gates, writes the next block's input, adds its
    /// skip (where the loss counts).
    fn forward_layer(
        &mut self,
        config: &Config,
        layer: &Layer,
        index: usize,
        range: std::ops::Range<usize>,
        counts: bool,
        pass: Pass,
    ) {
        let (r, g, s) = (config.residual_channels, config.gate_channels, config.skip_channels);
        let len = range.len();
        let residual = layer.out.bias.len() - s;
        let outputs = if counts { residual + s } else { residual };
        if outputs == 0 {
            return;
        }
        gather_columns(
            config,
            index,
            &self.x[index],
            &self.h,
            range.clone(),
            &mut self.chunk.columns,
        );
        let width = config.kernel_size * r + config.conditioning_channels();
        let ChunkBuffers { columns, z, out, skips, .. } = &mut self.chunk;
        let first = if pass == Pass::WithGradient { range.start } else { 0 };
        let sums = &mut self.gates[index][first * 2 * g..(first + len) * 2 * g];
        multiply_transposed(
            View::new(columns, len, width),
            View::new(&layer.gate.weight, 2 * g, width),
            sums,
            Into::Replace,
        );
        gate(sums, &layer.gate.bias, z);

        let weight = View::new(&layer.out.weight, residual + s, g).rows(outputs);
        multiply_transposed(View::new(z, len, g), weight, out, Into::Replace);
        let (out, bias) = (&out[..len * outputs], &layer.out.bias[..residual]);
        let rows = range.start * r..range.end * r;
        let (before, after) = self.x.split_at_mut(index + 1);
        // The last layer has no next.
        let next = after.first_mut().map_or(&mut [][..], |next| &mut next[rows.clone()]);
        residual_and_skip(out, outputs, bias, &before[index][rows], next, skips);
    }
}

/// Biases of all skips together.
fn skip_bias(config: &Config, packed: &Packed) -> Vec<f32> {
    let mut sum = vec![0.0; config.skip_channels];
    for layer in &packed.layers {
        add(&mut sum, &layer.out.bias[layer.out.bias.len() - config.skip_channels..]);
    }
    sum
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
        for (columns, then) in rows.zip(then.chunks_exact(r)) {
            columns[tap * r..][..r].copy_from_slice(then);
        }
    }
    if h_width > 0 {
        let h = h[range.start * h_width..range.end * h_width].chunks_exact(h_width);
        for (columns, h) in columns.chunks_exact_mut(width).zip(h) {
            columns[k * r..].copy_from_slice(h);
        }
    }
}

/// Loss of a chunk from its skips, which become their own gradient when one is asked for.
fn head(
    config: &Config,
    packed: &Packed,
    skip_bias: &[f32],
    chunk: &mut ChunkBuffers,
    targets: &[u8],
    gradient: Option<&mut Packed>,
) -> crate::kernels::elementwise::LossSum {
    let len = targets.len();
    let (s, a, levels) = (config.skip_channels, config.end_channels, config.levels);
    let ChunkBuffers { skips, hidden, dhidden, logits, dcolumns: dskips, .. } = chunk;
    let skips = &mut skips[..len * s];
    let hidden = &mut hidden[..len * a];
    let logits = &mut logits[..len * levels];
    relu_rows(skips, skip_bias);
    let affine = |input: &[f32], inputs: usize, affine: &Affine, out: &mut [f32]| {
        let weight = View::new(&affine.weight, affine.bias.len(), inputs);
        multiply_transposed(View::new(input, len, inputs), weight, out, Into::Replace);
    };
    affine(skips, s, &packed.end1, hidden);
    relu_rows(hidden, &packed.end1.bias);
    affine(hidden, a, &packed.end2, logits);
    let loss = softmax_loss(logits, &packed.end2.bias, targets, 1.0);
    let Some(gradient) = gradient else { return loss };

    let dlogits = View::new(logits, len, levels);
    transposed_multiply(dlogits, View::new(hidden, len, a), &mut gradient.end2.weight, Into::Add);
    add_columns(logits, levels, &mut gradient.end2.bias);
    let dhidden = &mut dhidden[..len * a];
    multiply(dlogits, View::new(&packed.end2.weight, levels, a), dhidden, Into::Replace);
    relu_backward(hidden, dhidden);
    let dhidden_view = View::new(dhidden, len, a);
    transposed_multiply(
        dhidden_view,
        View::new(skips, len, s),
        &mut gradient.end1.weight,
        Into::Add,
    );
    add_columns(dhidden, a, &mut gradient.end1.bias);
    if dskips.len() < len * s {
        dskips.resize(CHUNK * s, 0.0);
    }
    let dskips = &mut dskips[..len * s];
    multiply(dhidden_view, View::new(&packed.end1.weight, a, s), dskips, Into::Replace);
    relu_backward(skips, dskips);
    skips.copy_from_slice(dskips);
    loss
}
